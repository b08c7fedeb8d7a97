//! Links the kernel with its own layout; on the host (tests, clippy) there is nothing to link.
fn main() {
    println!("cargo:rerun-if-changed=kernel.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo:rustc-link-arg=-T{}/kernel.ld", std::env::var("CARGO_MANIFEST_DIR").unwrap());
    }
}
