use super::*;
use crate::testing::FakeMachine;

fn cores(machine: &FakeMachine, text: &str) -> Result<String, String> {
    match wanted(text, &machine.machine(), &machine.sysfs) {
        Ok(list) => Ok(list.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn auto_takes_what_is_free() {
    let machine = FakeMachine::new(&[1, 2, 3]);
    machine.occupy(2, 7, 7, "other");
    assert_eq!(cores(&machine, "auto").unwrap(), "1,3");
    assert_eq!(cores(&machine, "auto:1").unwrap(), "1");
    assert_eq!(cores(&machine, "0x6").unwrap(), "1-2");
}

#[test]
fn too_much_is_refused_with_the_numbers() {
    let machine = FakeMachine::new(&[1, 2]);
    machine.occupy(1, 7, 7, "other");
    assert_eq!(cores(&machine, "auto:2").unwrap_err(), "2 free compute cores are wanted, but only 1 (2) are free");
    machine.occupy(2, 8, 8, "another");
    let text = cores(&machine, "auto").unwrap_err();
    assert_eq!(text, "no compute core is free: core 1 is taken by PID 7 (other), core 2 is taken by PID 8 (another)");
}

#[test]
fn malformed_counts_are_refused() {
    let machine = FakeMachine::new(&[1]);
    for text in ["auto:0", "auto:x", "auto2", "auto:-1"] {
        assert!(cores(&machine, text).unwrap_err().starts_with(&format!("'{text}' is not auto")));
    }
    assert!(cores(&machine, "1;2").unwrap_err().starts_with("'1;2' is not a list of cores"));
}

#[test]
fn the_command_stands_behind_two_dashes() {
    let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
    assert!(matches!(
        parse("corectl reserve 1-2 --wait 5 -- mpirun -n 2 x").unwrap().verb,
        Verb::Reserve { command, .. } if command.len() == 4
    ));
    for line in
        ["corectl", "corectl reserve", "corectl reserve 1 --sh -- x", "corectl list --json --free", "corectl fly"]
    {
        assert!(parse(line).is_err(), "'{line}' was accepted");
    }
}
