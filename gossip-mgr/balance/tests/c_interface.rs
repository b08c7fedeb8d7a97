//! The example in C is built with the header and the shared library, and balances.

use std::path::Path;
use std::process::Command;

#[test]
fn the_example_in_c_builds_and_balances() {
    // The shared library is built beside the tests.
    let test = std::env::current_exe().unwrap();
    let libraries = test.parent().unwrap();
    assert!(libraries.join("libgossip_balance.so").exists());
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("grid");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/grid.c");
    let built = Command::new("cc")
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-I"])
        .args([concat!(env!("CARGO_MANIFEST_DIR"), "/include"), source, "-o"])
        .arg(&program)
        .arg("-L")
        .arg(libraries)
        .arg("-lgossip_balance")
        .status()
        .unwrap();
    assert!(built.success());
    let output = Command::new(&program).env("LD_LIBRARY_PATH", libraries).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let loads = |when: &str| -> Vec<f32> {
        let line = text.lines().find_map(|line| line.strip_prefix(when));
        line.unwrap().split_whitespace().map(|load| load.parse().unwrap()).collect()
    };
    assert_eq!(loads("before:"), [704.0, 256.0, 256.0, 256.0]);
    let after = loads("after:");
    assert_eq!(after.iter().sum::<f32>(), 1472.0);
    // Tolerance 2 % of the mean 368, and one task of weight 8.
    assert!(after.iter().all(|&load| load <= 368.0 * 1.02 + 8.0), "{after:?}");
}
