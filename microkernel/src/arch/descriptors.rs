//! GDT, TSS and IDT (SDM vol. 3, chapters 3, 6, 8).

use core::arch::asm;
use core::cell::UnsafeCell;

use x86::dtables::{DescriptorTablePointer, lgdt, lidt};

use super::memory;
use crate::sync::SpinLock;

pub const KERNEL_CODE: u16 = 0x08;
/// SYSRET takes SS = this + 8 and CS = this + 16: 0x2b and 0x33, the selectors that programs know from Linux on x86-64, and
/// may load.
pub const STAR_USER: u16 = 0x20;
const TSS: u16 = 0x40;
/// Entries of the GDT.
const ENTRIES: usize = 10;

/// The 64-bit TSS in 32-bit words, since its 64-bit fields are not aligned: RSP0 is words 1 and 2, IST1 to IST7 begin at
/// word 9, the upper half of word 25 is the offset of the I/O map.
type TaskState = [u32; 26];

/// A core's tables and its stacks for NMI, double fault and machine check. All-zero until `map_stacks`.
#[repr(C, align(16))]
pub struct Tables {
    gdt: UnsafeCell<[u64; ENTRIES]>,
    tss: UnsafeCell<TaskState>,
    ist_stacks: [IstStack; memory::IST_STACKS as usize],
    /// Where these stacks begin, by their mappings above guards.
    ist_tops: [u64; memory::IST_STACKS as usize],
}

#[repr(C, align(4096))]
struct IstStack(UnsafeCell<[u8; 4096]>);

static IDT: SpinLock<[u128; 256]> = SpinLock::new([0; 256]);

impl Tables {
    #[inline]
    pub fn set_entry_stack(&self, top: u64) {
        // SAFETY: only this core uses its TSS; RSP0 lies in words 1 and 2.
        unsafe { self.tss.get().cast::<u32>().add(1).cast::<u64>().write_unaligned(top) };
    }

    /// Before `load`, by the boot core.
    pub fn map_stacks(&mut self, core: usize) {
        for (i, stack) in self.ist_stacks.iter().enumerate() {
            self.ist_tops[i] = memory::map_stack(core, 2 * i as u64 + 1, memory::to_physical(stack), 1);
        }
    }

    /// Load all tables on this core, whose GS base is `core`.
    pub fn load(&self, core: u64) {
        let mut state = [0; 26];
        for (i, top) in self.ist_tops.iter().enumerate() {
            // The word at the top is the kernel's GS base, for paranoid_common. (The CPU aligns the stack to 16 bytes.)
            let top = top - 16;
            // SAFETY: inside this core's stacks, which are not in use yet.
            unsafe { (top as *mut u64).write(core) };
            state[9 + 2 * i] = top as u32;
            state[10 + 2 * i] = (top >> 32) as u32;
        }
        state[25] = (size_of::<TaskState>() as u32) << 16; // I/O map beyond the limit: no port is allowed
        // SAFETY: not loaded yet.
        unsafe { *self.tss.get() = state };
        let tss = self.tss.get() as u64;
        let limit = size_of::<TaskState>() as u64 - 1;
        let gdt = [
            0,
            0x00af_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0,
            0,
            0x00cf_f300_0000_ffff, // 0x28 user data
            0x00af_fb00_0000_ffff, // 0x30 user code
            0,
            limit | (tss & 0xff_ffff) << 16 | 0x89 << 40 | (tss >> 24 & 0xff) << 56,
            tss >> 32,
        ];
        // SAFETY: the tables live for ever in the Core; the selectors name the entries written here.
        unsafe {
            *self.gdt.get() = gdt;
            lgdt(&DescriptorTablePointer::new(&*self.gdt.get()));
            asm!(
                "push {code}", "lea {tmp}, [rip + 2f]", "push {tmp}", "retfq", "2:",
                "mov ds, {zero:e}", "mov es, {zero:e}", "mov fs, {zero:e}", "mov gs, {zero:e}", "mov ss, {data:e}",
                "ltr {tss:x}",
                // After a reset the LDT is at address 0 and 64 KiB long (SDM vol. 3, 9.1.1): user mode could write call gates there.
                "lldt {zero:x}",
                code = in(reg) u64::from(KERNEL_CODE), tmp = out(reg) _, zero = in(reg) 0u64, data = in(reg) 0x10u64,
                tss = in(reg) u64::from(TSS),
            );
            lidt(&DescriptorTablePointer::new(&*IDT.lock()));
        }
    }
}

/// Fill the IDT, on the boot core.
pub fn init_idt() {
    unsafe extern "C" {
        static trap_stubs: u8;
    }
    for (vector, gate) in (0..256u64).zip(&mut *IDT.lock()) {
        let handler = (&raw const trap_stubs) as u64 + vector * 16;
        let ist = match vector {
            2 => 1,
            8 => 2,
            18 => 3,
            _ => 0,
        };
        let dpl = if vector == 3 || vector == 4 { 3 } else { 0 };
        let low = (handler & 0xffff)
            | u64::from(KERNEL_CODE) << 16
            | ist << 32
            | (0x8e | dpl << 5) << 40
            | (handler >> 16 & 0xffff) << 48;
        *gate = u128::from(handler >> 32) << 64 | u128::from(low);
    }
}
