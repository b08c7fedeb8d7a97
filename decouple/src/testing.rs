//! A machine for tests: sysfs and /proc as folders, and a driver that follows the documented rules.

use crate::cores::CoreList;
use crate::driver::Driver;
use crate::state::{Machine, Sysfs};
use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::PathBuf;
use tempfile::TempDir;

/// Core 0 is Linux's; the others are compute cores.
pub struct FakeMachine {
    folder: TempDir,
    pub sysfs: Sysfs,
}

impl FakeMachine {
    pub fn new(compute: &[u32]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sysfs = Sysfs::at(folder.path().join("sys"), folder.path().join("proc"));
        let machine = FakeMachine { folder, sysfs };
        fs::create_dir_all(machine.path("proc")).unwrap();
        fs::create_dir_all(machine.path("sys")).unwrap();
        let list = CoreList::new(compute.to_vec()).unwrap();
        fs::write(machine.path("sys/cores"), format!("{list}\n")).unwrap();
        fs::write(machine.path("sys/service_cores"), "0\n").unwrap();
        for core in compute {
            machine.idle(*core);
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes one file of a core as the kernel does, with a line end.
    pub fn set(&self, core: u32, name: &str, value: &str) {
        self.set_raw(core, name, &format!("{value}\n"));
    }

    pub fn set_raw(&self, core: u32, name: &str, text: &str) {
        let folder = self.path(&format!("sys/core{core}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), text).unwrap();
    }

    pub fn idle(&self, core: u32) {
        self.set(core, "state", "idle");
        for name in
            ["pid", "tid", "uid", "reserved_by", "since_ns", "syscalls", "faults", "traps", "stops", "answer_ns"]
        {
            self.set(core, name, "0");
        }
        self.set(core, "comm", "");
        self.set(core, "syscalls_by_number", "");
    }

    pub fn occupy(&self, core: u32, pid: i32, tid: i32, comm: &str) {
        self.set(core, "state", "running");
        self.set(core, "pid", &pid.to_string());
        self.set(core, "tid", &tid.to_string());
        self.set(core, "comm", comm);
    }

    pub fn reserve(&self, core: u32, holder: i32) {
        self.set(core, "state", "reserved");
        self.set(core, "reserved_by", &holder.to_string());
    }

    /// A process of user `uid` with these threads.
    pub fn process(&self, pid: i32, comm: &str, uid: u32, threads: &[i32]) {
        let folder = self.path(&format!("proc/{pid}"));
        for tid in threads {
            fs::create_dir_all(folder.join("task").join(tid.to_string())).unwrap();
        }
        fs::write(folder.join("comm"), format!("{comm}\n")).unwrap();
        fs::write(folder.join("status"), format!("Name:\t{comm}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")).unwrap();
    }

    pub fn machine(&self) -> Machine {
        self.sysfs.machine().unwrap()
    }
}

/// Answers requests by the state of a [`FakeMachine`] and keeps what was done.
pub struct FakeDriver<'a> {
    machine: &'a FakeMachine,
    /// The errno of every attach and detach, where it is not the machine that decides.
    pub errno: Option<i32>,
    pub log: RefCell<Vec<String>>,
}

impl<'a> FakeDriver<'a> {
    pub fn new(machine: &'a FakeMachine) -> Self {
        FakeDriver { machine, errno: None, log: RefCell::default() }
    }

    pub fn failing(machine: &'a FakeMachine, errno: i32) -> Self {
        FakeDriver { errno: Some(errno), ..FakeDriver::new(machine) }
    }

    fn fail(&self) -> io::Result<()> {
        match self.errno {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }
}

impl Driver for FakeDriver<'_> {
    fn attach(&self, pid: i32, tid: i32, core: Option<u32>) -> io::Result<u32> {
        self.fail()?;
        let core = core.expect("the library always names a core");
        let error = |errno| Err(io::Error::from_raw_os_error(errno));
        let machine = self.machine.machine();
        let Some(state) = machine.core(core) else { return error(libc::ENODEV) };
        let tid = if tid == 0 { pid } else { tid };
        if machine.core_of(tid).is_some() {
            return error(libc::EALREADY);
        }
        if state.state.occupied() || state.reserved_by.is_some() {
            return error(libc::EBUSY);
        }
        self.log.borrow_mut().push(format!("attach {tid} to {core}"));
        self.machine.occupy(core, pid, tid, "taken");
        Ok(core)
    }

    fn detach(&self, pid: i32, tid: i32) -> io::Result<()> {
        self.fail()?;
        let tid = if tid == 0 { pid } else { tid };
        match self.machine.machine().core_of(tid) {
            None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
            Some(core) => {
                self.log.borrow_mut().push(format!("detach {tid} from {}", core.core));
                self.machine.idle(core.core);
                Ok(())
            }
        }
    }

    fn reserve(&self, cores: u64) -> io::Result<()> {
        let machine = self.machine.machine();
        let wanted = machine.compute.iter().filter(|core| cores >> core.core & 1 == 1);
        if wanted.clone().any(|core| core.state.occupied() || core.reserved_by.is_some()) {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        wanted.for_each(|core| self.machine.reserve(core.core, 1));
        Ok(())
    }

    fn release(&self, cores: u64) -> io::Result<()> {
        let machine = self.machine.machine();
        machine.compute.iter().filter(|core| cores >> core.core & 1 == 1).for_each(|core| self.machine.idle(core.core));
        Ok(())
    }
}
