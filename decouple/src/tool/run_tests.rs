use super::*;
use crate::driver::Driver;
use crate::testing::{FakeDriver, FakeMachine};
use crate::tool::recouple;
use std::ffi::OsStr;

/// Every driver that the tool opens is a new view of the same machine.
struct FakeHost<'a>(&'a FakeMachine);

impl Host for FakeHost<'_> {
    fn driver(&self, _: Option<i32>) -> Result<Box<dyn Driver + '_>, Error> {
        Ok(Box::new(FakeDriver::new(self.0)))
    }

    fn sysfs(&self) -> &Sysfs {
        &self.0.sysfs
    }
}

fn decouple(machine: &FakeMachine, line: &str) -> Result<u8, Error> {
    let arguments = Arguments::try_parse_from(["decouple"].into_iter().chain(line.split(' '))).unwrap();
    run(arguments, &FakeHost(machine))
}

fn recouple(machine: &FakeMachine, line: &str) -> Result<u8, Error> {
    let words = ["recouple"].into_iter().chain(line.split(' '));
    recouple::run(recouple::Arguments::try_parse_from(words).unwrap(), &FakeHost(machine))
}

fn refused(result: Result<u8, Error>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn options_end_where_the_command_begins() {
    let words = ["decouple", "-c", "1", "mpi-fwq", "-c", "7", "--now", "--", "x"];
    let arguments = Arguments::try_parse_from(words).unwrap();
    assert_eq!(arguments.cores, "1");
    assert!(!arguments.when.now);
    assert_eq!(arguments.command, ["mpi-fwq", "-c", "7", "--now", "--", "x"].map(OsString::from));
}

#[test]
fn nonsense_on_the_command_line_is_refused() {
    for line in ["", "-p 0", "-p x", "-p 5 ls", "-t 7 ls", "--now --after-init ls", "--policy=maybe ls", "-p 5 --now"] {
        let words = ["decouple"].into_iter().chain(line.split(' ').filter(|word| !word.is_empty()));
        assert!(Arguments::try_parse_from(words).is_err(), "'{line}' was accepted");
    }
}

#[test]
fn a_running_process_is_decoupled_and_brought_back() {
    let machine = &FakeMachine::new(&[1, 2]);
    machine.process(50, "solver", 0, &[50, 51]);
    assert_eq!(decouple(machine, "-p 50").unwrap(), 0);
    assert_eq!(machine.machine().core_of(50).unwrap().core, 1);
    assert_eq!(recouple(machine, "-p 50").unwrap(), 0);
    assert_eq!(machine.machine().core_of(50), None);
}

#[test]
fn all_threads_get_a_core_each_or_none_does() {
    let machine = &FakeMachine::new(&[1, 2]);
    machine.process(50, "solver", 0, &[50, 51]);
    machine.process(60, "crowd", 0, &[60, 61, 62]);
    assert_eq!(decouple(machine, "-p 50 -t all").unwrap(), 0);
    assert_eq!(machine.machine().threads_of(50), [50, 51]);
    assert_eq!(recouple(machine, "-p 50").unwrap(), 0);
    assert_eq!(refused(decouple(machine, "-p 60 -t all")), "3 threads but only 2 compute core(s) (1-2)");
    // The second one finds no core: the first one is brought back.
    machine.occupy(2, 7, 7, "other");
    assert_eq!(refused(decouple(machine, "-p 50 -t 50,51")), "core 2 is taken by PID 7 (other)");
    assert!(machine.machine().threads_of(50).is_empty());
}

#[test]
fn wrong_processes_and_threads_are_named() {
    let machine = &FakeMachine::new(&[1, 2]);
    machine.process(50, "solver", 0, &[50]);
    assert_eq!(refused(decouple(machine, "-p 60")), "there is no process with PID 60");
    assert_eq!(refused(decouple(machine, "-p 50 -t 59")), "process 50 has no thread with TID 59");
    let text = refused(decouple(machine, "-p 50 -t 5x"));
    assert_eq!(text, "'5x' is not a thread: -t takes main, all, or TIDs with commas between");
    assert_eq!(refused(recouple(machine, "-p 60")), "there is no process with PID 60");
    assert_eq!(refused(recouple(machine, "-p 50")), "PID 50 (solver) has no decoupled thread");
}

#[test]
fn prefer_goes_on_where_require_fails() {
    let machine = &FakeMachine::new(&[1]);
    machine.process(50, "solver", 0, &[50]);
    machine.occupy(1, 7, 7, "other");
    assert_eq!(refused(decouple(machine, "-p 50")), "core 1 is taken by PID 7 (other)");
    assert_eq!(decouple(machine, "--policy=prefer -p 50").unwrap(), 0);
    assert_eq!(decouple(machine, "--policy=off -p 50").unwrap(), 0);
}

#[test]
fn dry_run_changes_nothing() {
    let machine = &FakeMachine::new(&[1]);
    machine.process(50, "solver", 0, &[50]);
    assert_eq!(decouple(machine, "--dry-run -p 50").unwrap(), 0);
    assert!(machine.machine().threads_of(50).is_empty());
    assert_eq!(decouple(machine, "--dry-run /bin/true").unwrap(), 0);
}

#[test]
fn malformed_lists_are_quoted() {
    let text = refused(decouple(&FakeMachine::new(&[1]), "-c 1,x true"));
    assert_eq!(text, "'1,x' is not a list of cores: 'x' is not a core number; lists look like 1-3,5 or 0x2e");
}

#[test]
fn a_command_that_cannot_run_has_its_own_status() {
    let machine = &FakeMachine::new(&[1]);
    let status = |line| decouple(machine, line).unwrap_err().status();
    assert_eq!(status("no-such-command-anywhere"), 127);
    assert_eq!(status("/etc/passwd"), 126);
    assert_eq!(status("/etc"), 126);
    assert_eq!(status("-c 9 true"), 125);
}

#[test]
fn the_moment_follows_the_launcher_unless_it_is_said() {
    let asked = |now, after_init| WhenArguments { now, after_init };
    let mpi = Launch { mpi: true, local: None };
    assert_eq!(when(&asked(false, false), &mpi), When::AfterInit);
    assert_eq!(when(&asked(false, false), &Launch::default()), When::Now);
    assert_eq!(when(&asked(true, false), &mpi), When::Now);
    assert_eq!(when(&asked(false, true), &Launch::default()), When::AfterInit);
}

#[test]
fn programs_are_looked_into() {
    let folder = tempfile::tempdir().unwrap();
    let script = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        path
    };
    let look = |path: &std::path::Path| program::inspect(path, Some(OsStr::new("/usr/bin:/bin")));
    assert_eq!(look(std::path::Path::new("/bin/sh")).unwrap(), program::Kind::Preload);
    assert_eq!(look(&script("direct", "#!/bin/sh -e\n")).unwrap(), program::Kind::Preload);
    assert_eq!(look(&script("env", "#!/usr/bin/env python3\n")).unwrap(), program::Kind::Preload);
    assert_eq!(look(&script("text", "echo\n")).unwrap_err().status(), 126);
    assert_eq!(look(&script("lost", "#!/no/such/interpreter\n")).unwrap_err().status(), 126);
    let round = folder.path().join("round");
    script("round", &format!("#!{}\n", round.display()));
    assert_eq!(look(&round).unwrap_err().status(), 126);
}
