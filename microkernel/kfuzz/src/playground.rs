//! What the workers play with: a CSpace of capabilities of every kind, programs for threads, and shared pages.

use abi::{DecoupledFrame, Error, MAP_EXEC, MAP_READ, MAP_WRITE, RIGHT_ALL, VcpuState};
use rt::{invoke, retype};

use crate::coordinator::Plan;
use crate::random::Random;

/// Slots of the playground's CSpace; each kind of object has its region, which only the first capabilities keep to.
pub const SLOTS: u64 = 128;
pub struct Region {
    pub kind: u64,
    pub first: u64,
    pub count: u64,
}
pub const REGIONS: [Region; 12] = [
    Region { kind: abi::KIND_UNTYPED, first: 1, count: 7 },
    Region { kind: abi::KIND_CSPACE, first: 8, count: 8 },
    Region { kind: abi::KIND_TASK, first: 16, count: 8 },
    Region { kind: abi::KIND_THREAD, first: 24, count: 20 },
    Region { kind: abi::KIND_ENDPOINT, first: 44, count: 12 },
    Region { kind: abi::KIND_REPLY, first: 56, count: 8 },
    Region { kind: abi::KIND_NOTIFICATION, first: 64, count: 12 },
    Region { kind: abi::KIND_IRQ_HANDLER, first: 76, count: 8 },
    Region { kind: abi::KIND_CPU, first: 84, count: 4 },
    Region { kind: abi::KIND_RANGE, first: 88, count: 16 },
    Region { kind: abi::KIND_MACHINE, first: 104, count: 1 },
    Region { kind: abi::KIND_LOG, first: 105, count: 1 },
];

/// The region of a kind.
pub fn region(kind: u64) -> &'static Region {
    REGIONS.iter().find(|r| r.kind == kind).expect("every kind has a region")
}

// Slots of the root CSpace.
pub const POOL: u64 = abi::ROOT_CAP_FREE;
pub const PLAY: u64 = POOL + 1;
const SHARED: u64 = POOL + 2;
const CODE_RANGE: u64 = POOL + 3;
const DATA_RANGE: u64 = POOL + 4;
const SPARE: u64 = POOL + 5;
/// First slot of the harness's own threads and Ranges.
pub const HARNESS: u64 = POOL + 16;
/// First slot of what one batch makes.
const BATCH: u64 = POOL + 128;

/// Pages of a batch's memory.
const POOL_PAGES: u64 = 4096;
const VCPUS: u64 = 4;
const DECOUPLED: u64 = 4;
const ORDINARY: u64 = 6;
/// Pages that threads share with the kernel: a batch's own vCPUs and decoupled threads have one each, and the playground
/// has the rest.
pub const SHARED_PAGES: u64 = 16;
const OWN_PAGES: u64 = VCPUS + DECOUPLED;

// Addresses in the root Task.
pub const SHARED_AT: u64 = 0x50_0000_0000;
const CODE_AT: u64 = 0x50_1000_0000;
// Addresses in the Tasks of the playground.
pub const CODE: u64 = 0x40_0000;
pub const DATA: u64 = 0x80_0000;
const STATES: u64 = 0xa0_0000;

/// Programs for threads, each at its multiple of [`PROGRAM_BYTES`] behind [`CODE`].
pub const PROGRAMS: u64 = 16;
pub const PROGRAM_BYTES: u64 = 128;
core::arch::global_asm!(
    ".section .rodata",
    ".balign 128",
    ".global programs",
    "programs:",
    // 0: counts in memory
    "1: inc qword ptr [0x800000]",
    "jmp 1b",
    // 1: a system call again and again, with the registers as they are
    ".balign 128",
    "1: mov eax, 39",
    "syscall",
    "jmp 1b",
    // 2
    ".balign 128",
    "ud2",
    // 3: a vCPU runs its user context
    ".balign 128",
    "1: mov eax, 4",
    "xor edi, edi",
    "syscall",
    "jmp 1b",
    // 4: a vCPU waits, and takes what is pending (its stack ends where its page does)
    ".balign 128",
    "1: mov eax, 4",
    "mov edi, 1",
    "syscall",
    "xor eax, eax",
    "xchg [rsp - 4096 + {pending}], rax",
    "jmp 1b",
    // 5: random system calls among the objects of the playground; none waits unless it is a call
    ".balign 128",
    "1: mov rax, rbx",
    "shl rax, 13",
    "xor rbx, rax",
    "mov rax, rbx",
    "shr rax, 7",
    "xor rbx, rax",
    "mov rax, rbx",
    "shl rax, 17",
    "xor rbx, rax",
    "mov eax, ebx",
    "and eax, 3",
    "mov edi, ebx",
    "shr edi, 8",
    "and edi, 127",
    "mov rsi, rbx",
    "shr rsi, 16",
    "and esi, 0x3f",
    "bts rsi, 63",
    "mov rdx, rbx",
    "shr rdx, 24",
    "and edx, 127",
    "mov r10, rbx",
    "shr r10, 32",
    "and r10d, 127",
    "mov r8d, 15",
    "xor r9d, r9d",
    "push rbx",
    "syscall",
    "pop rbx",
    "jmp 1b",
    // 6: reads what may be mapped or not
    ".balign 128",
    "1: mov rax, [0x900000]",
    "jmp 1b",
    // 7: privileged instructions
    ".balign 128",
    "hlt",
    "mov rax, cr3",
    "rdmsr",
    "in al, 0x60",
    "lgdt [rsp]",
    // 8: extended registers
    ".balign 128",
    "1: movq xmm3, rbx",
    "addpd xmm3, xmm3",
    "movq [0x800800], xmm3",
    "fld1",
    "fstp st(0)",
    "jmp 1b",
    // 9: a system call with a stack that is none
    ".balign 128",
    "1: mov rsp, 0x123456789abcdef0",
    "syscall",
    "push rax",
    "jmp 1b",
    // 10: single steps through a system call
    ".balign 128",
    "1: pushfq",
    "or qword ptr [rsp], 0x100",
    "popfq",
    "syscall",
    "jmp 1b",
    // 11: alignment check, nested task and I/O privilege flags
    ".balign 128",
    "1: pushfq",
    "or qword ptr [rsp], 0x47000",
    "popfq",
    "mov rax, [0x800001]",
    "syscall",
    "jmp 1b",
    // 12: FS and GS base
    ".balign 128",
    "1: wrfsbase rbx",
    "wrgsbase rbx",
    "syscall",
    "inc rbx",
    "jmp 1b",
    // 13: software interrupts and returns
    ".balign 128",
    "int3",
    "int 0x80",
    "int 0x20",
    "iretq",
    // 14: segment registers
    ".balign 128",
    "1: mov eax, 0x2b",
    "mov ds, eax",
    "mov es, eax",
    "mov fs, eax",
    "syscall",
    "jmp 1b",
    // 15: sends signals and messages without end
    ".balign 128",
    "1: mov eax, 2",
    "mov edi, ebx",
    "and edi, 31",
    "add edi, 44",
    "xor esi, esi",
    "bts rsi, 63",
    "syscall",
    "inc ebx",
    "jmp 1b",
    ".balign 128",
    ".text",
    pending = const core::mem::offset_of!(VcpuState, pending),
);
unsafe extern "C" {
    static programs: u8;
}

/// Memory of this program at an address, in a slot.
pub fn memory(pages: u64, slot: u64, at: u64) -> Result<(), Error> {
    retype(abi::ROOT_CAP_UNTYPED, abi::KIND_RANGE, pages, slot)?;
    invoke(abi::ROOT_CAP_TASK, abi::TASK_MAP, &[slot, 0, at, pages * 4096, MAP_READ | MAP_WRITE]).map(drop)
}

/// What stays for all batches.
pub fn prepare() -> Result<(), Error> {
    retype(abi::ROOT_CAP_UNTYPED, abi::KIND_UNTYPED, POOL_PAGES, POOL)?;
    retype(abi::ROOT_CAP_UNTYPED, abi::KIND_CSPACE, SLOTS, PLAY)?;
    memory(OWN_PAGES, SHARED, SHARED_AT)?;
    memory(SHARED_PAGES - OWN_PAGES, SPARE, SHARED_AT + OWN_PAGES * 4096)?;
    memory(1, CODE_RANGE, CODE_AT)?;
    retype(abi::ROOT_CAP_UNTYPED, abi::KIND_RANGE, 4, DATA_RANGE)?;
    // SAFETY: the programs fit the page, which was just mapped.
    unsafe {
        let bytes = (PROGRAMS * PROGRAM_BYTES) as usize;
        core::ptr::copy_nonoverlapping(&raw const programs, CODE_AT as *mut u8, bytes);
    }
    Ok(())
}

/// A batch's objects in the making.
struct Batch {
    next: u64,
    /// Capabilities that each region of the playground has got.
    filled: [u64; REGIONS.len()],
    toys: Toys,
}

/// What was put into the playground: kind and slot of the root CSpace.
struct Toys {
    list: [(u64, u64); 64],
    count: usize,
}

impl Batch {
    /// Copy a capability of the root CSpace to the region of its kind. Its slot there.
    fn put(&mut self, kind: u64, slot: u64, rights: u64, badge: u64) -> Result<u64, Error> {
        let index = REGIONS.iter().position(|r| r.kind == kind).expect("every kind has a region");
        let at = REGIONS[index].first + self.filled[index];
        self.filled[index] += 1;
        if self.toys.count < self.toys.list.len() {
            self.toys.list[self.toys.count] = (kind, slot);
            self.toys.count += 1;
        }
        invoke(PLAY, abi::CSPACE_PUT, &[slot, at, rights, badge])?;
        Ok(at)
    }

    /// Make an object; the root's slot for it.
    fn object(&mut self, kind: u64, size: u64) -> Result<u64, Error> {
        let slot = self.next;
        self.next += 1;
        retype(POOL, kind, size, slot)?;
        Ok(slot)
    }

    /// Make an object for the playground too: (root's slot, playground's slot).
    fn toy(&mut self, kind: u64, size: u64) -> Result<(u64, u64), Error> {
        let slot = self.object(kind, size)?;
        Ok((slot, self.put(kind, slot, RIGHT_ALL, 0)?))
    }
}

/// Make the objects of a batch. Endpoints and Notifications that the coordinator can serve: their slots.
pub fn set_up(random: &mut Random, plan: &Plan) -> Result<Meeting, Error> {
    let cores = plan.play_cores();
    // SAFETY: mapped for ever; all threads that used the pages are gone.
    unsafe { core::ptr::write_bytes(SHARED_AT as *mut u8, 0, (SHARED_PAGES * 4096) as usize) };
    let mut batch = Batch { next: BATCH, filled: [0; REGIONS.len()], toys: Toys { list: [(0, 0); 64], count: 0 } };
    let b = &mut batch;
    for pages in [64, 200, 700] {
        b.toy(abi::KIND_UNTYPED, pages)?;
    }
    b.put(abi::KIND_CSPACE, PLAY, RIGHT_ALL, 0)?;
    b.put(abi::KIND_CSPACE, PLAY, RIGHT_ALL, 0)?;
    b.toy(abi::KIND_CSPACE, 32)?;
    let mut meeting = Meeting {
        endpoints: [0; 4],
        notifications: [0; 4],
        reply: b.object(abi::KIND_REPLY, 0)?,
        toys: Toys { list: [(0, 0); 64], count: 0 },
    };
    for slot in &mut meeting.endpoints {
        *slot = b.toy(abi::KIND_ENDPOINT, 0)?.0;
        b.put(abi::KIND_ENDPOINT, *slot, random.below(abi::RIGHT_ALL + 1), random.next())?;
    }
    for slot in &mut meeting.notifications {
        *slot = b.toy(abi::KIND_NOTIFICATION, 0)?.0;
        b.put(abi::KIND_NOTIFICATION, *slot, RIGHT_ALL, 1 << random.below(64))?;
    }
    for _ in 0..4 {
        b.toy(abi::KIND_REPLY, 0)?;
    }
    for pages in [1, 4, 16, 600] {
        b.toy(abi::KIND_RANGE, pages)?;
    }
    b.put(abi::KIND_RANGE, SPARE, RIGHT_ALL, 0)?;
    b.put(abi::KIND_RANGE, CODE_RANGE, RIGHT_ALL, 0)?;
    // Core 0 is the coordinator's: a decoupled thread there would have it for itself.
    for core in 1..cores.min(5) {
        b.put(abi::KIND_CPU, abi::ROOT_CAP_CPU + plan.core(core), RIGHT_ALL, 0)?;
    }
    b.put(abi::KIND_MACHINE, abi::ROOT_CAP_MACHINE, RIGHT_ALL, 0)?;
    b.put(abi::KIND_LOG, abi::ROOT_CAP_LOG, RIGHT_ALL, 0)?;
    let mut tasks = [(0, 0); 3];
    for task in &mut tasks {
        *task = b.toy(abi::KIND_TASK, 0)?;
        invoke(task.0, abi::TASK_MAP, &[CODE_RANGE, 0, CODE, 4096, MAP_READ | MAP_EXEC])?;
        invoke(task.0, abi::TASK_MAP, &[DATA_RANGE, 0, DATA, 4 * 4096, MAP_READ | MAP_WRITE])?;
        invoke(task.0, abi::TASK_MAP, &[SHARED, 0, STATES, VCPUS * 4096, MAP_READ | MAP_WRITE])?;
    }
    for i in 0..VCPUS + DECOUPLED + ORDINARY {
        let (thread, _) = b.toy(abi::KIND_THREAD, 0)?;
        let name = [u64::from_le_bytes(*b"toy \0\0\0\0") | (0x30 + i % 10) << 32, 0];
        invoke(thread, abi::OBJECT_NAME, &name)?;
        let (task, _) = random.pick(&tasks);
        let fault = if random.once_in(4) { 0 } else { random.pick(&meeting.endpoints) };
        invoke(thread, abi::THREAD_CONFIGURE, &[PLAY, task, DATA_RANGE, random.below(4) * 4096, fault])?;
        let core = match i {
            // Core 0 has places for three vCPUs beside the coordinator. One that got none would stay an ordinary thread there,
            // and could be decoupled: the coordinator would then wait for its core for ever.
            0 => 1 + random.below(cores - 1),
            _ if i < VCPUS => random.below(cores),
            _ if i < VCPUS + DECOUPLED => cores - 1,
            _ => 1 + random.below(cores - 1),
        };
        invoke(thread, abi::THREAD_BIND, &[abi::ROOT_CAP_CPU + plan.core(core), priority(random)])?;
        if i < VCPUS {
            vcpu(random, i, tasks[(i % 3) as usize].1);
            invoke(thread, abi::THREAD_VCPU, &[SHARED, i * 4096])?;
            invoke(thread, abi::THREAD_START, &[program(random.pick(&[3, 3, 4])), vcpu_stack(i), random.next()])?;
        } else if i < VCPUS + DECOUPLED {
            frame(random, i);
            let bell = random.pick(&meeting.notifications);
            invoke(thread, abi::THREAD_DECOUPLE, &[SHARED, i * 4096, bell])?;
            invoke(thread, abi::THREAD_RUN, &[task])?;
        } else if random.once_in(2) {
            invoke(thread, abi::THREAD_START, &[program(random.below(PROGRAMS)), DATA + 0x2000, random.next()])?;
        }
    }
    meeting.toys = batch.toys;
    Ok(meeting)
}

/// Where the coordinator can set free who waits.
pub struct Meeting {
    pub endpoints: [u64; 4],
    pub notifications: [u64; 4],
    pub reply: u64,
    toys: Toys,
}

/// Capabilities put back by one call of `restock`.
const RESTOCK: u64 = 48;

/// Put some capabilities back that the workers have deleted, each into its kind's region.
pub fn restock(random: &mut Random, meeting: &Meeting) {
    for _ in 0..RESTOCK {
        let (kind, slot) = meeting.toys.list[random.below(meeting.toys.count as u64) as usize];
        let region = region(kind);
        // Occupied, mostly.
        let _ = invoke(PLAY, abi::CSPACE_PUT, &[slot, region.first + random.below(region.count), RIGHT_ALL, 0]);
    }
}

/// Seldom above the workers': who has such a priority and does not wait ends the batch.
pub fn priority(random: &mut Random) -> u64 {
    if random.once_in(30) { random.pick(&[100, 101, 254]) } else { random.pick(&[1, 50, 98, 99]) }
}

/// Address of a program.
pub fn program(number: u64) -> u64 {
    CODE + number * PROGRAM_BYTES
}

/// End of a vCPU's page, in its Task.
fn vcpu_stack(page: u64) -> u64 {
    STATES + (page + 1) * 4096
}

fn vcpu(random: &mut Random, page: u64, task: u64) {
    // SAFETY: a page of the shared memory.
    let state = unsafe { &mut *((SHARED_AT + page * 4096) as *mut VcpuState) };
    state.entry_ip = program(3);
    state.entry_sp = vcpu_stack(page);
    state.user_task = task;
    state.linux[0] = kcore::check::PRIVATE;
    state.frame.regs = regs(random);
}

fn frame(random: &mut Random, page: u64) {
    // SAFETY: a page of the shared memory.
    let frame = unsafe { &mut *((SHARED_AT + page * 4096) as *mut DecoupledFrame) };
    frame.frame.regs = regs(random);
}

/// A user context at the start of some program.
pub fn regs(random: &mut Random) -> abi::Regs {
    abi::Regs {
        rip: program(random.below(PROGRAMS)),
        rsp: DATA + 0x3000,
        rbx: random.next(),
        rdi: random.below(SLOTS),
        rsi: random.below(64),
        ..abi::Regs::default()
    }
}

/// Take everything back. (REVOKE of the pool ends what was made of it; the rest is in the playground's slots.)
pub fn tear_down() -> Result<(), Error> {
    loop {
        match invoke(abi::ROOT_CAP_CSPACE, abi::CSPACE_REVOKE, &[POOL]) {
            Ok(_) => break,
            Err(Error::Cancelled) => {}
            Err(error) => return Err(error),
        }
    }
    for slot in 1..SLOTS {
        match invoke(PLAY, abi::CSPACE_DELETE, &[slot]) {
            Ok(_) | Err(Error::NoCapability) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether all memory of the pool is back.
pub fn is_clean() -> Result<bool, Error> {
    invoke(POOL, abi::UNTYPED_FREE, &[]).map(|[free, _]| free == POOL_PAGES * 4096)
}
