//! A thread's registers in the kernel's own memory.

use core::cell::Cell;
use core::mem::offset_of;

use abi::Regs;

macro_rules! registers {
    ($($name:ident)*) => {
        /// Registers of which the kernel has the only copy. (Cells, since the entry code writes them, too.)
        #[repr(C)]
        #[derive(Default)]
        pub struct Registers { $(pub $name: Cell<u64>),* }

        const _: () = assert!(size_of::<Registers>() == size_of::<Regs>());
        $(const _: () = assert!(offset_of!(Registers, $name) == offset_of!(Regs, $name));)*

        impl Registers {
            pub fn copy(&self) -> Regs {
                Regs { $($name: self.$name.get()),* }
            }

            pub fn set(&self, regs: Regs) {
                $(self.$name.set(regs.$name);)*
            }
        }
    };
}
registers!(r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs rflags rsp ss fs_base gs_base ds es fs gs);

impl Registers {
    /// Words 0 to 3 of a message.
    #[inline]
    pub fn set_words(&self, words: [u64; 4]) {
        [&self.rdx, &self.r10, &self.r8, &self.r9].iter().zip(words).for_each(|(register, word)| register.set(word));
    }

    #[inline]
    pub fn words(&self) -> [u64; 4] {
        [&self.rdx, &self.r10, &self.r8, &self.r9].map(Cell::get)
    }

    /// What a system call gives: status, badge and tag.
    #[inline]
    pub fn set_result(&self, status: i64, badge: u64, tag: u64) {
        self.rax.set(status as u64);
        self.rdi.set(badge);
        self.rsi.set(tag);
    }
}
