//! Build script of programs that start in the root task's place: links them at 4 MiB, below the addresses that the kernel gives
//! them for stack and boot information.
fn main() {
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo:rustc-link-arg=-Ttext-segment=0x400000");
    }
}
