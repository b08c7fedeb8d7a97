//! What each core has for itself, reached through GS.

use core::cell::{Cell, UnsafeCell};
use core::mem::offset_of;
use core::ops::Deref;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use kcore::contexts::Contexts;
use kcore::handshake;
use kobj::Work;

use crate::object::{Cpu, IrqHandler, Ref, Task, Thread};
use crate::run_queue::RunQueue;
use crate::shared::Shared;
use crate::storm::Storm;
use crate::sync::SpinLock;

use crate::arch::descriptors::Tables;
use crate::arch::{self, Registers, apic, memory};

pub const MAX_CORES: usize = abi::MAX_CORES;
const STACK: usize = memory::STACK_PAGES as usize * 4096;

/// First and number of interrupt vectors that devices can have, per core.
pub const FIRST_DEVICE_VECTOR: u8 = 0x30;
pub const DEVICE_VECTORS: usize = 0xa0;

/// The core that runs this code: what it alone may touch. Code on another core has its [`Peer`] only.
#[repr(C)]
pub struct Core {
    this: *const Core,
    /// Just behind `Regs::ss` of the frame into which the next entry from user mode saves (also TSS.RSP0).
    frame_top: Cell<u64>,
    pub kernel_stack: u64,
    scratch: Cell<u64>,
    /// The thread whose context is loaded; null while idle.
    pub current: Cell<*const Thread>,
    peer: Peer,
    /// Whose translations the processor keeps, where it has PCIDs. (Linux's and those of as many programs as take turns.)
    pub contexts: Contexts<8>,
    /// `Presence::generation` of the loaded Task when its translations were last known to be right.
    pub task_generation: Cell<u64>,
    /// The thread whose extended state is in the registers.
    pub fpu_owner: Cell<*const Thread>,
    /// `Thread::home` of the threads that the fast path may switch to; [`NO_HOME`] while a time slice runs, whose end the
    /// scheduler has to see to.
    fast_home: Cell<u64>,
    /// TSC at which the current thread has had its share, where another of its priority waits.
    slice_end: Cell<u64>,
    pub storm: Storm,
    /// What the timer is programmed for.
    pub armed: Cell<Option<u64>>,
    pub work: Work,
    tables: Tables,
    stack: Stack,
}

/// What any core may touch of a core.
pub struct Peer {
    pub index: usize,
    /// `1 << index`.
    pub bit: u64,
    apic_id: AtomicU32,
    task: AtomicPtr<Task>,
    pub run_queue: SpinLock<RunQueue>,
    /// A thread of at least this priority would be the next to run: one more than the highest that is ready, 0 if none is.
    pub ready_above: AtomicU32,
    /// Something changed that the core must look at before it returns to user mode.
    pub reschedule: AtomicBool,
    /// Shootdowns asked of and done by this core.
    pub shoot_requested: AtomicU64,
    pub shoot_done: AtomicU64,
    /// See [`begin_era`].
    era: AtomicU64,
    /// What each device vector signals.
    pub irqs: [SpinLock<Option<Ref<IrqHandler>>>; DEVICE_VECTORS],
}

const fn shared<T: Sync>() {}
const _: () = shared::<Peer>();

impl Deref for Core {
    type Target = Peer;
    #[inline(always)]
    fn deref(&self) -> &Peer {
        &self.peer
    }
}

/// Used through a mapping of its own, above a guard.
#[repr(C, align(4096))]
struct Stack(UnsafeCell<[u8; STACK]>);

const _: () = assert!(offset_of!(Core, frame_top) == 8);
const _: () = assert!(offset_of!(Core, kernel_stack) == 16);
const _: () = assert!(offset_of!(Core, scratch) == 24);
const _: () = assert!(offset_of!(Core, current) == 32);

/// `Thread::home` of no thread.
const NO_HOME: u64 = u64::MAX;

static CORES: [AtomicPtr<Core>; MAX_CORES] = [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CORES];
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Bytes of memory that a Core takes, in pages.
pub const CORE_PAGES: usize = size_of::<Core>().div_ceil(4096);

/// Make the core with the next free index in `memory`.
///
/// # Safety
/// The memory is [`CORE_PAGES`] zeroed pages, handed over for ever. The result is for the core itself, or until it runs.
pub unsafe fn create(memory: *mut u8, apic_id: u32) -> &'static Core {
    let core = memory.cast::<Core>();
    let index = COUNT.load(Ordering::Relaxed);
    // SAFETY: by the caller's promise; all-zero is a valid Core but for the fields set here.
    unsafe {
        (*core).this = core;
        (*core).tables.map_stacks(index);
        (*core).kernel_stack = memory::map_stack(
            index,
            memory::FIRST_STACK_PAGE,
            memory::to_physical(&raw const (*core).stack),
            memory::STACK_PAGES,
        );
        (*core).peer.index = index;
        (*core).peer.bit = 1 << index;
        (*core).peer.apic_id = AtomicU32::new(apic_id);
        (*core).fast_home = Cell::new(Thread::home_on(index));
        (&raw mut (*core).peer.run_queue).write(SpinLock::new(RunQueue::new()));
        CORES[index].store(core, Ordering::Release);
        COUNT.store(index + 1, Ordering::Release);
        &*core
    }
}

pub fn core_count() -> usize {
    COUNT.load(Ordering::Acquire)
}

/// The core with this index, if there is one.
pub fn core_at(index: usize) -> Option<&'static Peer> {
    let core = CORES.get(index)?.load(Ordering::Acquire);
    // SAFETY: cores live for ever once stored, and this part of them is everybody's.
    (!core.is_null()).then(|| unsafe { &(*core).peer })
}

/// All cores.
pub fn cores() -> impl Iterator<Item = &'static Peer> {
    (0..core_count()).filter_map(core_at)
}

impl Peer {
    /// What belongs to the core alone.
    ///
    /// # Safety
    /// It is the core that runs this, or stands still as long as the result is used.
    pub unsafe fn whole(&self) -> &'static Core {
        // SAFETY: cores live for ever once stored.
        unsafe { &*CORES[self.index].load(Ordering::Acquire) }
    }

    /// The Task in CR3; null for the kernel's own tables. (Other cores only compare it.)
    #[inline]
    pub fn task(&self) -> *const Task {
        self.task.load(Ordering::Relaxed)
    }

    pub fn apic_id(&self) -> u32 {
        self.apic_id.load(Ordering::Relaxed)
    }

    /// The boot core learns its id only once its APIC is up.
    pub fn set_apic_id(&self, id: u32) {
        self.apic_id.store(id, Ordering::Relaxed);
    }
}

/// The core that runs this code.
#[inline]
pub fn core() -> &'static Core {
    // SAFETY: GS base is this core's Core from `install` on.
    unsafe { &*arch::this_core().cast() }
}

impl Core {
    #[inline]
    pub fn set_task(&self, task: *const Task) {
        self.task.store(task.cast_mut(), Ordering::Relaxed);
    }

    /// Make GS point here. Runs on the core itself, before anything that calls `core()`.
    pub fn install(&self) {
        // SAFETY: the Core lives for ever, and begins with `this`; the offsets are asserted above.
        unsafe { arch::set_this_core(self.this as u64) };
    }

    /// Load the descriptor tables and make GS point here. Runs on the core itself.
    pub fn load_tables(&self) {
        self.tables.load(self.this as u64);
        self.install(); // loading the GS selector cleared its base
    }

    /// This core comes into an era.
    pub fn enter_era(&self, era: u64) {
        handshake::enter_era(&self.era, era);
    }

    /// TSC at which the current thread's time slice ends; 0 if it has none.
    pub fn slice_end(&self) -> u64 {
        self.slice_end.get()
    }

    pub fn set_slice_end(&self, tsc: u64) {
        self.slice_end.set(tsc);
        self.fast_home.set(if tsc == 0 { Thread::home_on(self.index) } else { NO_HOME });
    }

    /// `Thread::home` of the threads that the fast path may switch to now.
    #[inline]
    pub fn fast_home(&self) -> u64 {
        self.fast_home.get()
    }

    /// From now on, entries from user mode save into `frame`.
    #[inline]
    pub fn set_frame(&self, frame: &Registers) {
        self.enter_into(&raw const *frame as u64);
    }

    /// The same for registers in a page shared with Linux.
    #[inline]
    pub fn set_shared_frame(&self, frame: Shared<abi::Regs>) {
        self.enter_into(frame.as_ptr() as u64);
    }

    #[inline(always)]
    fn enter_into(&self, frame: u64) {
        let top = frame + offset_of!(abi::Regs, fs_base) as u64;
        self.frame_top.set(top);
        self.tables.set_entry_stack(top);
    }
}

/// For the log, whose line the boot core sees to.
#[unsafe(no_mangle)]
fn poke_boot_core() {
    if let Some(core) = core_at(0) {
        poke(core);
    }
}

/// The era that began last. A core comes into it where it looks at its threads again: then it is in the middle of nothing that
/// began in an earlier one, and runs no thread that had ended by then.
static ERA: AtomicU64 = AtomicU64::new(0);

/// Begin an era: all cores will soon be in it.
pub fn begin_era() -> u64 {
    let era = handshake::begin_era(&ERA);
    cores().for_each(poke);
    era
}

pub fn current_era() -> u64 {
    handshake::current_era(&ERA)
}

/// Whether all cores are in an era, or in a later one.
pub fn all_are_in(era: u64) -> bool {
    cores().all(|core| handshake::is_in_era(&core.era, era))
}

/// Have a core look at its run queue and at its thread's flags.
pub fn poke(target: &Peer) {
    target.reschedule.store(true, Ordering::SeqCst);
    if target.index != core().index {
        apic::send(target.apic_id(), apic::VECTOR_POKE);
    }
}

impl Thread {
    /// Home core, once bound.
    #[inline]
    pub fn core(&self) -> Option<&'static Peer> {
        core_at(self.home_index()?)
    }

    /// Whether the fast path may switch to the thread on this core: it is an ordinary one that lives here and is neither
    /// to stop nor to end.
    #[inline]
    pub fn is_fast_on(&self, core: &Core) -> bool {
        self.home_word() == core.fast_home()
    }

    /// Whether the thread would be the next to run on a core if it became ready.
    #[inline]
    pub fn comes_first_on(&self, core: &Peer) -> bool {
        self.priority_word() >= core.ready_above.load(Ordering::Relaxed)
    }
}

impl Cpu {
    pub fn core(&self) -> &'static Peer {
        core_at(self.index).expect("a Cpu object names an existing core")
    }
}
