use super::*;
use crate::testing::FakeMachine;

/// Core 1 busy since 90 s, core 2 reserved.
fn machine() -> FakeMachine {
    let machine = FakeMachine::new(&[1, 2]);
    machine.occupy(1, 4711, 4712, "mpi-fwq");
    machine.set(1, "state", "trapped");
    machine.set(1, "since_ns", "10000000000");
    machine.set(1, "syscalls", "30");
    machine.set(1, "faults", "8");
    machine.set(1, "traps", "1");
    machine.set(1, "stops", "1");
    machine.set(1, "answer_ns", "400000");
    machine.set(1, "syscalls_by_number", "39 20 100000\n202 10 200000");
    machine.process(99, "corectl-hold", 0, &[99]);
    machine.reserve(2, 99);
    machine
}

const NOW: u64 = 100_000_000_000;

#[test]
fn the_table_shows_who_is_where_and_what_it_costs() {
    let report = Report::new(&machine().machine(), NOW);
    let text = status(&report, None);
    let expected = "\
CORE  STATE           PID   TID  COMMAND  USER  SINCE  SYSCALLS  FAULTS  TRAPS  STOPS  µs/EXIT
   0  service
   1  trapped        4711  4712  mpi-fwq  root  1m30s        30       8      1      1     10.0
   2  reserved by 99    -     -  -        -         -         0       0      0      0        -
core 1: getpid 20 × 5.0 µs, futex 10 × 20.0 µs
";
    let squeezed = |text: &str| -> Vec<Vec<String>> {
        text.lines().map(|line| line.split_whitespace().map(String::from).collect()).collect()
    };
    assert_eq!(squeezed(&text), squeezed(expected), "\n{text}");
}

#[test]
fn watching_shows_rates_of_the_same_thread() {
    let machine = machine();
    let before = Report::new(&machine.machine(), NOW);
    machine.set(1, "syscalls", "70");
    machine.set(1, "answer_ns", "600000");
    let now = Report::new(&machine.machine(), NOW);
    let text = status(&now, Some(&Before { report: &before, elapsed: Duration::from_secs(2) }));
    assert!(text.contains("SYSCALLS/s"), "{text}");
    let row: Vec<&str> = text.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!(row[7..], ["20.0", "0.0", "0.0", "0.0", "5.0"], "{text}");
}

#[test]
fn json_has_the_documented_form() {
    let json: serde_json::Value = serde_json::from_str(&Report::new(&machine().machine(), NOW).json()).unwrap();
    assert_eq!(json["service_cores"], serde_json::json!([0]));
    assert_eq!(json["compute_cores"], serde_json::json!([1, 2]));
    assert_eq!(json["cores"][0], serde_json::json!({"core": 0, "role": "service"}));
    assert_eq!(
        json["cores"][1],
        serde_json::json!({
            "core": 1, "role": "compute", "state": "trapped", "pid": 4711, "tid": 4712, "comm": "mpi-fwq",
            "uid": 0, "user": "root", "reserved_by": null, "seconds": 90.0,
            "syscalls": 30, "faults": 8, "traps": 1, "stops": 1, "answer_us": 400.0,
            "syscalls_by_number": [
                {"number": 39, "name": "getpid", "count": 20, "us": 100.0},
                {"number": 202, "name": "futex", "count": 10, "us": 200.0},
            ],
        })
    );
    assert_eq!(json["cores"][2]["state"], "reserved");
    assert_eq!(json["cores"][2]["reserved_by"], 99);
    assert_eq!(json["cores"][2]["pid"], serde_json::Value::Null);
}

#[test]
fn counters_of_other_users_threads_are_left_out() {
    let mut machine = machine().machine();
    machine.compute[0].counters = None;
    let report = Report::new(&machine, NOW);
    let table = status(&report, None);
    let row: Vec<&str> = table.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!(row[4..], ["mpi-fwq", "root", "1m30s", "-", "-", "-", "-", "-"], "{table}");
    let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    assert_eq!(json["cores"][1]["pid"], 4711);
    assert_eq!(json["cores"][1].get("syscalls"), None);
}

#[test]
fn the_list_names_owners() {
    let machine = machine();
    let text = list(&Report::new(&machine.machine(), NOW), &machine.sysfs);
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1], ["0", "service", "-"]);
    assert_eq!(rows[2], ["1", "compute", "trapped", "PID", "4711", "(mpi-fwq)"]);
    assert_eq!(rows[3], ["2", "compute", "reserved", "PID", "99", "(corectl-hold)"]);
}

#[test]
fn ages_are_short() {
    assert_eq!([0.04, 59.0, 60.0, 3725.0, 90000.0].map(age), ["0.0s", "59.0s", "1m00s", "1h02m", "1d01h"]);
}
