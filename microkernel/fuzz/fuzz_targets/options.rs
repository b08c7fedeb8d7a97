//! The root task's reading of the command line.
#![no_main]

use libfuzzer_sys::fuzz_target;

// (The crate has reasons that its other modules use.)
#[allow(dead_code)]
#[path = "../../../vcpu/root/src/options.rs"]
mod options;

fuzz_target!(|input: (u8, &[u8])| {
    let (cores, text) = input;
    // SAFETY: numbers and bytes only: all-zero is a valid RootBoot.
    let mut boot: abi::RootBoot = unsafe { std::mem::zeroed() };
    boot.cores = u64::from(cores % 64) + 1;
    // The kernel leaves the last byte zero (microkernel/src/boot.rs).
    let length = text.len().min(boot.cmdline.len() - 1);
    boot.cmdline[..length].copy_from_slice(&text[..length]);

    let line = boot.cmdline.split(|&b| b == 0).next().unwrap();
    match options::parse(&boot) {
        Ok(options) => {
            assert!(options.service & 1 == 1 && options.service.checked_shr(boot.cores as u32).unwrap_or(0) == 0);
            let mut cores: Vec<u64> = options.service_cores().chain(options.compute_cores(boot.cores)).collect();
            cores.sort_unstable();
            assert!(cores.into_iter().eq(0..boot.cores));
            assert!(options.memory.is_none_or(|bytes| bytes >= 32 << 20));
            let line = std::str::from_utf8(line).expect("refused if not UTF-8");
            let rest: Vec<&str> = line.split_ascii_whitespace().filter(|word| !word.starts_with("tacet.")).collect();
            let linux = options.linux.split(|&b| b == 0).next().unwrap();
            assert_eq!(linux, rest.join(" ").as_bytes());
            assert!(options.linux[linux.len()..].iter().all(|&b| b == 0) && linux.len() < options.linux.len());
            let own = |name: &str| line.split_ascii_whitespace().rev().find_map(|word| word.strip_prefix(name));
            let count = own("tacet.service=").map_or(Some(1), |text| text.parse().ok());
            assert!(count.is_none_or(|count: u32| count == options.service.count_ones()));
            assert_eq!(options.memory.is_some(), own("tacet.memory=").is_some());
        }
        Err(why) => {
            assert!(!why.to_string().is_empty() && (line.windows(6).any(|w| w == b"tacet.") || !line.is_ascii()))
        }
    }
});
