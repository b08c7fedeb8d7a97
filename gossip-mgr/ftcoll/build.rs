//! Compiles the calls of MPI that libftcoll stands before: which MPI it is, only its own compiler knows.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=src/pmpi.c");
    println!("cargo:rerun-if-env-changed=MPICC");
    let compiler = std::env::var("MPICC").unwrap_or_else(|_| "mpicc".into());
    let shown = Command::new(&compiler).arg("--showme:libdirs").output();
    let Ok(shown) = shown else {
        panic!("{compiler} cannot be run: install libopenmpi-dev (`mk setup` does), or set MPICC");
    };
    for folder in String::from_utf8_lossy(&shown.stdout).split_whitespace() {
        println!("cargo:rustc-link-search=native={folder}");
    }
    cc::Build::new().compiler(&compiler).file("src/pmpi.c").warnings(true).compile("gossip_pmpi");
    println!("cargo:rustc-link-lib=mpi");
}
