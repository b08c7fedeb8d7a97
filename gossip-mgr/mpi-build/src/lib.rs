//! For build scripts of libraries for MPI programs: compiles the few calls of MPI that they make or stand before, since which
//! MPI it is, only its own compiler knows.

use std::process::Command;

/// Compiles a C file with `mpicc` (or `$MPICC`) to a static library of this name, and links it, and MPI.
///
/// # Panics
/// If the compiler cannot be run, or refuses the file.
pub fn compile(source: &str, library: &str) {
    println!("cargo:rerun-if-changed={source}");
    println!("cargo:rerun-if-env-changed=MPICC");
    let compiler = std::env::var("MPICC").unwrap_or_else(|_| "mpicc".into());
    let shown = Command::new(&compiler).arg("--showme:libdirs").output();
    let Ok(shown) = shown else {
        panic!("{compiler} cannot be run: install libopenmpi-dev (`mk setup` does), or set MPICC");
    };
    for folder in String::from_utf8_lossy(&shown.stdout).split_whitespace() {
        println!("cargo:rustc-link-search=native={folder}");
    }
    cc::Build::new().compiler(&compiler).file(source).warnings(true).compile(library);
    println!("cargo:rustc-link-lib=mpi");
}
