//! Thread: ordinary, vCPU, or decoupled.

use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use kcore::handshake::{self, State};

use abi::{Error, MessagePage, Regs, VcpuState};

use kobj::{Ending, Rest};

use super::range::Recall;
use super::{CSpace, Endpoint, Header, Lease, Object, Parent, Range, Ref, Target, Task};
use crate::arch::{self, Registers};
use crate::get;
use crate::shared::Shared;
use crate::sync::SpinLock;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Ordinary,
    Vcpu,
    Decoupled,
}

/// A pointer to an object that is set while the thread is not started, and read while it runs.
struct Fixed<T: Object>(AtomicPtr<T>);

impl<T: Object> Fixed<T> {
    const fn new() -> Self {
        Self(AtomicPtr::new(core::ptr::null_mut()))
    }

    fn set(&self, object: Option<Ref<T>>) {
        let new = object.map_or(core::ptr::null_mut(), |o| o.into_raw().cast_mut());
        let old = self.0.swap(new, Ordering::AcqRel);
        if !old.is_null() {
            // SAFETY: `set` counted it; readers are excluded by the thread's state.
            drop(unsafe { Ref::from_raw(old) });
        }
    }

    fn get(&self) -> Option<&T> {
        // SAFETY: counted for as long as it is set.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }
}

impl<T: Object> Drop for Fixed<T> {
    fn drop(&mut self) {
        self.set(None);
    }
}

/// Private registers, placed so that the CPU's push of an interrupt frame ends 16-byte aligned.
#[repr(C, align(16))]
struct Home {
    pad: u64,
    regs: Registers,
}

const HOME_SHIFT: u32 = 8;
const UNBOUND: u64 = u64::MAX >> HOME_SHIFT;

/// A page of a Range, and the capability that gives it to a thread; `None` of what is for ever.
pub struct Place<'a> {
    pub range: Ref<Range>,
    pub by: Option<Parent<'a>>,
    pub offset: u64,
}

#[repr(C)]
pub struct Thread {
    header: Header,
    registers: Home,
    kind: AtomicU8,
    priority: AtomicU32,
    /// Index of the home core ([`UNBOUND`] without one) from bit [`HOME_SHIFT`] up, and the HINDERED_* bits: one word, so
    /// that the fast path asks once whether it may switch to the thread.
    home: AtomicU64,
    /// What it has by a Cpu capability: its core.
    core_lease: Lease,
    pub rest: Rest<Thread>,
    cspace: Fixed<CSpace>,
    task: Fixed<Task>,
    fault_endpoint: Fixed<Endpoint>,
    /// Badge of the capability that named it: tells a handler of several threads whose fault it is.
    fault_badge: Cell<u64>,
    message_lease: Lease,
    message: AtomicPtr<MessagePage>,
    /// Five words of a fault that is being reported; `fault_pending` says that a call is a fault.
    pub fault: Cell<[u64; 5]>,
    pub fault_pending: Cell<bool>,
    shared_lease: Lease,
    shared: AtomicPtr<u8>,
    /// vCPU: runs its user context. Belongs to the home core.
    pub in_user: Cell<bool>,
    /// vCPU, decoupled: the Task of the user context. Belongs to the home core.
    pub user_task: Cell<Option<Ref<Task>>>,
    /// Decoupled: the context has not run yet. Belongs to who claimed the thread, then to the home core.
    pub begins: Cell<bool>,
    /// vCPU: absolute TSC of the next timer event; 0: none.
    pub deadline: AtomicU64,
    pub doorbell: SpinLock<Option<Target>>,
    /// In the end: the first core whose handlers may still signal it.
    pub unbound: AtomicUsize,
    /// What ends by a system call that the thread has not come back from. Empty while it waits or stands still.
    pub unfinished: Ending,
    /// The end of a revocation that it has not come back from. Belongs to the home core.
    pub recall: Cell<Option<Recall>>,
    xsave: Xsave,
}

#[repr(C, align(64))]
struct Xsave(UnsafeCell<[u8; arch::fpu::AREA]>);

const _: () = assert!(size_of::<Thread>() <= 4096);

impl Thread {
    /// Offset of the word that the entry code tests.
    pub const HOME: usize = core::mem::offset_of!(Thread, home);
    /// The bit that it tests there: set in every thread that is not an ordinary one.
    pub const HINDERED_KIND: u64 = 1;

    /// What `home` is for an ordinary thread of a core that is neither to stop nor to end.
    pub const fn home_on(core: usize) -> u64 {
        (core as u64) << HOME_SHIFT
    }

    pub fn new(header: Header) -> Self {
        Self {
            header,
            registers: Home { pad: 0, regs: Registers::default() },
            kind: AtomicU8::new(Kind::Ordinary as u8),
            priority: AtomicU32::new(0),
            home: AtomicU64::new(UNBOUND << HOME_SHIFT),
            core_lease: Lease::new(),
            rest: Rest::new(State::Inactive),
            cspace: Fixed::new(),
            task: Fixed::new(),
            fault_endpoint: Fixed::new(),
            fault_badge: Cell::new(0),
            message_lease: Lease::new(),
            message: AtomicPtr::new(core::ptr::null_mut()),
            fault: Cell::new([0; 5]),
            fault_pending: Cell::new(false),
            shared_lease: Lease::new(),
            shared: AtomicPtr::new(core::ptr::null_mut()),
            in_user: Cell::new(false),
            user_task: Cell::new(None),
            begins: Cell::new(false),
            deadline: AtomicU64::new(0),
            doorbell: SpinLock::new(None),
            unbound: AtomicUsize::new(0),
            unfinished: Ending::new(),
            recall: Cell::new(None),
            xsave: Xsave(UnsafeCell::new(arch::fpu::INITIAL)),
        }
    }

    pub fn name(&self) -> kobj::Name {
        self.header.name()
    }

    #[inline]
    pub fn kind(&self) -> Kind {
        // SAFETY: only Kinds are stored.
        unsafe { core::mem::transmute::<u8, Kind>(self.kind.load(Ordering::Relaxed)) }
    }

    #[inline]
    pub fn is_running(&self) -> bool {
        self.rest.state.is(State::Running)
    }

    /// Number of the home core, once bound.
    #[inline]
    pub fn home_index(&self) -> Option<usize> {
        let home = self.home.load(Ordering::Acquire) >> HOME_SHIFT;
        (home != UNBOUND).then_some(home as usize)
    }

    /// Home core and what hinders the fast path, in one word.
    #[inline]
    pub fn home_word(&self) -> u64 {
        self.home.load(Ordering::Relaxed)
    }

    pub fn leases(&self) -> [&Lease; 3] {
        [&self.core_lease, &self.message_lease, &self.shared_lease]
    }

    /// The message page is not its own any more, if that is what it has by `lease`.
    pub fn lose_message(&self, lease: &Lease) -> bool {
        let is_message = core::ptr::eq(lease, &self.message_lease);
        if is_message {
            self.message.store(core::ptr::null_mut(), Ordering::SeqCst);
        }
        is_message
    }

    #[inline]
    pub fn priority_word(&self) -> u32 {
        self.priority.load(Ordering::Relaxed)
    }

    pub fn priority(&self) -> u8 {
        self.priority.load(Ordering::Relaxed) as u8
    }

    /// What others ask of it: see [`handshake`].
    #[inline]
    pub fn requests(&self) -> &AtomicU64 {
        &self.home
    }

    /// The thread will not run any more. False: that was so already.
    pub fn mark_dead(&self) -> bool {
        handshake::mark_dead(&self.home)
    }

    #[inline]
    pub fn is_dead(&self) -> bool {
        handshake::is_dead(&self.home)
    }

    /// Keep this core's FS and GS base of user mode in the private registers.
    #[inline]
    pub fn save_bases(&self) {
        let (fs, gs) = arch::user_bases();
        self.regs().fs_base.set(fs);
        self.regs().gs_base.set(gs);
    }

    /// The opposite of `save_bases`.
    #[inline]
    pub fn load_bases(&self) {
        arch::set_user_bases(self.regs().fs_base.get(), self.regs().gs_base.get());
    }

    /// The private registers. They belong to the home core while the thread runs, else to whoever may change its state.
    #[inline]
    pub fn regs(&self) -> &Registers {
        &self.registers.regs
    }

    pub fn cspace(&self) -> Result<&CSpace, Error> {
        self.cspace.get().ok_or(Error::NoCapability)
    }

    pub fn task(&self) -> Option<&Task> {
        self.task.get()
    }

    /// Its Task, if that is not this one.
    ///
    /// # Safety
    /// The thread was started.
    #[inline]
    pub unsafe fn task_other_than(&self, task: *const Task) -> Option<&Task> {
        let own = self.task.0.load(Ordering::Relaxed).cast_const();
        // SAFETY: nothing is started without a Task; else as in `Fixed::get`.
        (!core::ptr::eq(own, task)).then(|| unsafe { &*own })
    }

    pub fn fault_endpoint(&self) -> Option<(&Endpoint, u64)> {
        self.fault_endpoint.get().map(|endpoint| (endpoint, self.fault_badge.get()))
    }

    /// The message page, if it has one.
    #[inline]
    pub fn message(&self) -> Option<Shared<'_, MessagePage>> {
        let page = self.message.load(Ordering::Relaxed);
        // SAFETY: the page stays until this core has left the kernel (see `lease_ended`).
        (!page.is_null()).then(|| unsafe { Shared::new(page) })
    }

    /// Word 4 and up of a message; 0 without a message page.
    pub fn message_word(&self, index: usize) -> u64 {
        self.message().map_or(0, |page| get!(page.words[index]))
    }

    /// The vCPU page, if this is a vCPU that lives.
    #[inline]
    pub fn vcpu_page(&self) -> Option<Shared<'_, VcpuState>> {
        // SAFETY: it has a page, which stays until this core has left the kernel (see `lease_ended`).
        (self.kind() == Kind::Vcpu && !self.is_dead()).then(|| unsafe { Shared::new(self.shared_page().cast()) })
    }

    /// The page of a vCPU or decoupled thread, by whichever the caller knows it to be.
    #[inline]
    pub fn shared_page(&self) -> *mut u8 {
        self.shared.load(Ordering::Relaxed)
    }

    /// Whether a revocation is not through yet. On the home core.
    pub fn is_recalling(&self) -> bool {
        let recall = self.recall.take();
        let some = recall.is_some();
        self.recall.set(recall);
        some
    }

    /// The Range that the shared page lies in, and how deep its capability is.
    ///
    /// # Safety
    /// Called on the home core while the thread runs there.
    pub unsafe fn shared_range(&self) -> Option<(&Range, u32)> {
        // SAFETY: a thread that runs has not let go of what it has (see `lease_ended`).
        unsafe { self.shared_lease.look() }
    }

    /// The Task of the user context.
    ///
    /// # Safety
    /// Called on the home core, which does not set another while it uses this one.
    #[inline]
    pub unsafe fn user_task(&self) -> Option<&Task> {
        // SAFETY: the field belongs to the home core, and does not change by the caller's promise.
        unsafe { (*self.user_task.as_ptr()).as_deref() }
    }

    /// Nobody else starts or configures the thread, until its state is set.
    pub fn claim(&self) -> Result<(), Error> {
        if self.is_dead() || !self.rest.state.change(State::Inactive, State::Configuring) {
            return Err(Error::BadState);
        }
        Ok(())
    }

    /// Do `work` while nobody starts or configures the thread; only before its start.
    fn configure(&self, work: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        self.claim()?;
        let result = work();
        self.rest.state.set(State::Inactive);
        result
    }

    /// THREAD_START, but for making it ready: nobody configures it any more.
    pub fn start(&self, regs: Regs) -> Result<(), Error> {
        self.claim()?;
        if self.kind() == Kind::Decoupled || self.home_index().is_none() || self.task().is_none() {
            self.rest.state.set(State::Inactive);
            return Err(Error::BadState);
        }
        self.regs().set(regs);
        Ok(())
    }

    pub fn set_spaces(
        &self,
        cspace: Option<Ref<CSpace>>,
        task: Ref<Task>,
        message: Option<Place>,
        fault: Option<(Ref<Endpoint>, u64)>,
    ) -> Result<(), Error> {
        let page = match &message {
            Some(place) => place.range.page::<MessagePage>(place.offset)?,
            None => core::ptr::null_mut(),
        };
        self.configure(|| {
            let store = || self.message.store(page, Ordering::Release);
            match message.as_ref().and_then(|place| place.by.as_ref()) {
                Some(by) => self.message_lease.take(self, by, store)?,
                None => {
                    self.message_lease.give_up();
                    store();
                }
            }
            self.cspace.set(cspace);
            self.task.set(Some(task));
            self.fault_badge.set(fault.as_ref().map_or(0, |(_, badge)| *badge));
            self.fault_endpoint.set(fault.map(|(endpoint, _)| endpoint));
            Ok(())
        })
    }

    /// By a Cpu capability, but for the root task's first thread. A vCPU or decoupled thread stays where it was made one.
    pub fn bind(&self, core: usize, priority: u8, by: Option<Parent>) -> Result<(), Error> {
        self.configure(|| {
            if self.kind() != Kind::Ordinary {
                return Err(Error::BadState);
            }
            by.map_or(Ok(()), |cpu| self.core_lease.take(self, &cpu, || {}))?;
            let bind = |home: u64| Some(Self::home_on(core) | (home & ((1 << HOME_SHIFT) - 1)));
            // (It never refuses; THREAD_STOP and the thread's end may change their bits meanwhile.)
            let _ = self.home.fetch_update(Ordering::AcqRel, Ordering::Relaxed, bind);
            self.priority.store(u32::from(priority), Ordering::Relaxed);
            Ok(())
        })
    }

    /// Make it a vCPU or decoupled, with a page shared with its user. `register` is the last that can refuse.
    pub fn share(&self, kind: Kind, place: Place, register: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        let page = place.range.page::<u8>(place.offset)?;
        self.configure(|| {
            if self.home_index().is_none() || self.kind() != Kind::Ordinary {
                return Err(Error::BadState);
            }
            place.by.map_or(Ok(()), |by| self.shared_lease.take(self, &by, || {}))?;
            register().inspect_err(|_| self.shared_lease.give_up())?;
            self.shared.store(page, Ordering::Release);
            self.kind.store(kind as u8, Ordering::Release);
            self.home.fetch_or(Self::HINDERED_KIND, Ordering::Release);
            Ok(())
        })
    }

    /// Save the extended state in the thread's own area (vCPUs that share a core).
    ///
    /// # Safety
    /// `load_xstate` of this thread was the last load of extended registers on this core, and no core called it since.
    pub unsafe fn save_xstate(&self) {
        // SAFETY: the area is the thread's, whose registers these are; only these two functions use it.
        unsafe { arch::fpu::save_changes(self.xsave.0.get().cast()) };
    }

    /// The first time, this is the initial state: nothing of who had the registers before remains.
    pub fn load_xstate(&self) {
        // SAFETY: the area is the thread's.
        let accepted = unsafe { arch::fpu::load(self.xsave.0.get().cast()) };
        debug_assert!(accepted);
    }
}

#[cfg(feature = "check")]
impl Thread {
    pub fn tell(&self, audit: &mut crate::check::Audit) {
        fn fixed<T: Object>(audit: &mut crate::check::Audit, object: &Fixed<T>) {
            if let Some(object) = object.get() {
                audit.reference_to(object);
            }
        }
        fixed(audit, &self.cspace);
        fixed(audit, &self.task);
        fixed(audit, &self.fault_endpoint);
        let user_task = self.user_task.take();
        if let Some(task) = &user_task {
            audit.reference(task);
        }
        self.user_task.set(user_task);
        self.rest.waiting.lock().audit(audit);
        if let Some(doorbell) = self.doorbell.lock().as_ref() {
            doorbell.audit(audit);
        }
        self.unfinished.audit(audit);
        self.leases().iter().for_each(|lease| lease.audit(audit));
        let recall = self.recall.take();
        recall.iter().for_each(|recall| recall.audit(audit));
        self.recall.set(recall);
        let (_, caps) = self.header.counts();
        let state = self.rest.state.get();
        let waits = matches!(state, State::WaitSend | State::WaitReceive | State::WaitReply | State::WaitNotification);
        crate::holds!(&self.header, caps > 0 || !waits, "deleted, but waits as {state:?}");
    }
}
