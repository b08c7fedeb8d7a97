use super::*;
use crate::reservation;
use crate::testing::{FakeDriver, FakeMachine};

fn rank(rank: u32) -> Option<LocalRank> {
    Some(LocalRank { rank, of: None })
}

fn list(text: &str) -> CoreList {
    text.parse().unwrap()
}

fn two_cores() -> FakeMachine {
    FakeMachine::new(&[1, 2])
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn without_a_rank_every_compute_core_is_a_candidate() {
    assert_eq!(candidates(&two_cores().machine(), None, None, None).unwrap(), list("1-2"));
}

#[test]
fn a_rank_gets_the_core_at_its_place() {
    let machine = two_cores().machine();
    assert_eq!(candidates(&machine, None, rank(1), None).unwrap(), list("2"));
    assert_eq!(candidates(&machine, Some(&list("2,1")), rank(1), None).unwrap(), list("1"));
}

#[test]
fn more_ranks_than_cores_is_an_error_with_the_numbers() {
    let one_too_many = Some(LocalRank { rank: 2, of: Some(3) });
    let text = refused(candidates(&two_cores().machine(), None, one_too_many, None));
    assert_eq!(
        text,
        "local MPI rank 2 of 3 has no compute core: there are only 2 (1-2); start at most 2 rank(s) on this node"
    );
}

#[test]
fn a_core_that_is_not_there_is_named() {
    let text = refused(candidates(&two_cores().machine(), Some(&list("1,7")), None, None));
    assert_eq!(text, "core 7 does not exist: compute cores are 1-2");
}

#[test]
fn a_service_core_is_named() {
    let text = refused(candidates(&two_cores().machine(), Some(&list("0-1")), None, None));
    assert_eq!(text, "core 0 is a service core of Linux: compute cores are 1-2");
}

#[test]
fn a_machine_without_compute_cores_says_so() {
    let text = refused(candidates(&FakeMachine::new(&[]).machine(), None, None, None));
    assert_eq!(
        text,
        "this machine has no compute cores: all 1 cores are service cores; boot with a smaller tacet.service=N"
    );
}

#[test]
fn a_taken_core_names_its_owner() {
    let machine = two_cores();
    machine.occupy(2, 4711, 4711, "mpi-fwq");
    let text = refused(require_free(&machine.machine(), &machine.sysfs, &list("2"), None));
    assert_eq!(text, "core 2 is taken by PID 4711 (mpi-fwq)");
    require_free(&machine.machine(), &machine.sysfs, &list("2,1"), None).unwrap();
}

#[test]
fn when_nothing_is_free_every_owner_is_named() {
    let machine = two_cores();
    machine.occupy(1, 4711, 4712, "solver");
    machine.process(99, "corectl-hold", 0, &[99]);
    machine.reserve(2, 99);
    let text = refused(attach(&FakeDriver::new(&machine), &machine.sysfs, Target::Main(50), &list("1-2"), None));
    assert_eq!(
        text,
        "no compute core is free: core 1 is taken by PID 4711 (solver), core 2 is reserved by PID 99 (corectl-hold)"
    );
}

#[test]
fn a_reservation_is_open_to_its_users_only() {
    let machine = two_cores();
    machine.reserve(2, 99);
    assert_eq!(candidates(&machine.machine(), None, None, Some(99)).unwrap(), list("2"));
    require_free(&machine.machine(), &machine.sysfs, &list("2"), Some(99)).unwrap();
    assert!(require_free(&machine.machine(), &machine.sysfs, &list("2"), Some(98)).is_err());
    let text = refused(candidates(&machine.machine(), None, None, Some(98)));
    assert_eq!(text, "the reservation's holder, PID 98, is gone, and its cores with it");
}

#[test]
fn attach_takes_the_first_free_core_in_the_order_given() {
    let machine = FakeMachine::new(&[1, 2, 3]);
    machine.occupy(3, 7, 7, "other");
    let driver = FakeDriver::new(&machine);
    assert_eq!(attach(&driver, &machine.sysfs, Target::Main(50), &list("3,2,1"), None).unwrap(), 2);
}

#[test]
fn a_thread_that_is_decoupled_is_not_decoupled_again() {
    let machine = two_cores();
    machine.process(50, "solver", 0, &[50]);
    machine.occupy(1, 50, 50, "solver");
    let text = refused(attach(&FakeDriver::new(&machine), &machine.sysfs, Target::Main(50), &list("2"), None));
    assert_eq!(text, "thread 50 of PID 50 (solver) already is decoupled, on core 1");
}

#[test]
fn what_the_driver_refuses_is_put_into_words() {
    let machine = two_cores();
    machine.process(50, "solver", 1000, &[50, 51]);
    let said = |errno, target| {
        let driver = FakeDriver::failing(&machine, errno);
        refused(attach(&driver, &machine.sysfs, target, &list("1"), None))
    };
    assert_eq!(said(libc::ESRCH, Target::Main(60)), "there is no process with PID 60");
    assert_eq!(said(libc::ESRCH, Target::Thread { pid: 50, tid: 59 }), "process 50 has no thread with TID 59");
    assert_eq!(
        said(libc::EPERM, Target::Main(50)),
        "not permitted to act on PID 50 (solver), which belongs to user 1000: it needs the same user or CAP_SYS_PTRACE"
    );
    assert!(said(libc::ENOMEM, Target::Main(50)).starts_with("the driver refused to decouple: "));
}

#[test]
fn detach_of_a_thread_on_linux_says_so() {
    let machine = two_cores();
    machine.process(50, "solver", 0, &[50]);
    let text = refused(detach(&FakeDriver::new(&machine), &machine.sysfs, Target::Main(50)));
    assert_eq!(text, "thread 50 of PID 50 (solver) is not decoupled");
}

#[test]
fn reserving_names_the_core_that_is_not_to_be_had() {
    let machine = two_cores();
    let driver = FakeDriver::new(&machine);
    machine.occupy(2, 7, 7, "other");
    let text = refused(reservation::reserve(&driver, &machine.sysfs, &list("1-2")));
    assert_eq!(text, "core 2 is taken by PID 7 (other)");
    assert_eq!(machine.machine().core(1).unwrap().reserved_by, None);
    reservation::reserve(&driver, &machine.sysfs, &list("1")).unwrap();
    assert_eq!(machine.machine().core(1).unwrap().reserved_by, Some(1));
    reservation::release(&driver, &machine.sysfs, &list("1")).unwrap();
    assert_eq!(machine.machine().core(1).unwrap().reserved_by, None);
}

#[test]
fn a_file_of_sysfs_that_makes_no_sense_is_named() {
    let machine = two_cores();
    machine.set(2, "syscalls", "many");
    let text = refused(machine.sysfs.machine());
    assert!(text.contains("core2/syscalls: invalid digit"), "{text}");
    machine.set(2, "syscalls", "0");
    machine.set(1, "syscalls_by_number", "39 2");
    let text = refused(machine.sysfs.machine());
    assert!(text.contains("'39 2' is not NUMBER COUNT NANOSECONDS"), "{text}");
}

#[test]
fn a_list_of_system_calls_that_is_cut_off_is_read_as_far_as_it_goes() {
    let machine = two_cores();
    machine.set_raw(1, "syscalls_by_number", "0 2 10\n39 1");
    assert_eq!(machine.machine().core(1).unwrap().counters.as_ref().unwrap().by_number.len(), 1);
}
