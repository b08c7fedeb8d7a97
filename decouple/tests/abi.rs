//! The numbers and layouts of `decouple::abi` against the header of the Linux port, as the C compiler sees it.

use decouple::abi;
use std::path::Path;
use std::process::Command;

/// Prints every number that the two sides must agree on, one a line.
const PROGRAM: &str = r#"
#include <stddef.h>
#include <stdio.h>
#include "decouple.h"
int main(void)
{
	printf("%lu\n%lu\n%lu\n%lu\n%lu\n", (unsigned long)DECOUPLE_ATTACH, (unsigned long)DECOUPLE_DETACH,
	       (unsigned long)DECOUPLE_RESERVE, (unsigned long)DECOUPLE_RELEASE, (unsigned long)DECOUPLE_VERSION);
	printf("%zu\n%zu\n%zu\n", offsetof(struct decouple_attach, tid), offsetof(struct decouple_attach, core),
	       offsetof(struct decouple_attach, flags));
	printf("%zu\n%zu\n", offsetof(struct decouple_detach, tid), offsetof(struct decouple_detach, flags));
	printf("%zu\n%zu\n", offsetof(struct decouple_reserve, flags), offsetof(struct decouple_reserve, reserved));
	printf("%zu\n%d\n%d\n", offsetof(struct decouple_version, cores), DECOUPLE_ABI, DECOUPLE_CORE_ANY);
	return 0;
}
"#;

#[test]
fn rust_and_the_linux_header_agree() {
    let uapi = Path::new(env!("CARGO_MANIFEST_DIR")).join("../linux-guest-patches/files/include/uapi/linux");
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("numbers.c"), folder.path().join("numbers"));
    std::fs::write(&source, PROGRAM).unwrap();
    let built = Command::new("cc").arg("-I").arg(uapi).arg("-o").args([&program, &source]).status().unwrap();
    assert!(built.success(), "the header does not compile");
    let output = Command::new(program).output().unwrap();
    let numbers: Vec<i64> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    use std::mem::offset_of;
    let ours = [
        i64::from(abi::ATTACH),
        i64::from(abi::DETACH),
        i64::from(abi::RESERVE),
        i64::from(abi::RELEASE),
        i64::from(abi::VERSION),
        offset_of!(abi::Attach, tid) as i64,
        offset_of!(abi::Attach, core) as i64,
        offset_of!(abi::Attach, flags) as i64,
        offset_of!(abi::Detach, tid) as i64,
        offset_of!(abi::Detach, flags) as i64,
        offset_of!(abi::Reserve, flags) as i64,
        offset_of!(abi::Reserve, reserved) as i64,
        offset_of!(abi::Version, cores) as i64,
        i64::from(abi::ABI),
        -1,
    ];
    assert_eq!(numbers, ours);
}
