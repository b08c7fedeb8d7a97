//! The `tacet.` options of the command line; all else is Linux's.

use core::fmt;

use abi::RootBoot;
use kcore::program::Malformed;

pub struct Options {
    /// Service cores: bit c is machine core c. Core 0 is one of them. The others are compute cores.
    pub service: u64,
    /// Linux's memory in bytes; `None`: all but a reserve.
    pub memory: Option<u64>,
    /// Linux's own command line, zero terminated.
    pub linux: [u8; 1024],
}

impl Options {
    /// The service cores, and the compute cores of a machine with `cores` cores, in their order.
    pub fn service_cores(&self) -> impl Iterator<Item = u64> + use<> {
        let service = self.service;
        (0..64).filter(move |core| service >> core & 1 == 1)
    }

    pub fn compute_cores(&self, cores: u64) -> impl Iterator<Item = u64> + use<> {
        let service = self.service;
        (0..cores).filter(move |core| service >> core & 1 == 0)
    }
}

/// Why Linux cannot be started.
pub enum Reason {
    Option(&'static str),
    Archive(&'static str),
    Program(Malformed),
    /// (what was wanted, bytes wanted, bytes free)
    Memory(&'static str, u64, u64),
    Kernel(&'static str, abi::Error),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Option(text) => write!(f, "command line: {text}"),
            Self::Archive(text) => write!(f, "boot archive: {text}"),
            Self::Program(error) => write!(f, "boot archive: 'vmlinux' {error}"),
            Self::Memory(what, wanted, free) => {
                write!(f, "too little memory: {what} needs {} MiB, {} MiB are free", wanted >> 20, free >> 20)
            }
            Self::Kernel(what, error) => write!(f, "{what}: {error:?}"),
        }
    }
}

pub fn parse(boot: &RootBoot) -> Result<Options, Reason> {
    let mut options = Options { service: 1, memory: None, linux: [0; 1024] };
    let mut end = 0;
    for word in boot.words().ok_or(Reason::Option("not UTF-8"))? {
        let Some(own) = word.strip_prefix("tacet.") else {
            for &byte in word.as_bytes().iter().chain(b" ") {
                options.linux[end] = byte;
                end += 1;
            }
            continue;
        };
        if own == "trace" || own == "nofast" {
            continue; // the kernel's own
        }
        match own.split_once('=') {
            Some(("service", cores)) => options.service = service(cores, boot.cores)?,
            Some(("memory", size)) => {
                let size = bytes(size).filter(|&n| n >= 32 << 20);
                options.memory =
                    Some(size.ok_or(Reason::Option("tacet.memory=SIZE: at least 32M, such as 512M or 2G"))?);
            }
            _ => {
                return Err(Reason::Option(
                    "unknown option tacet.*: tacet.service=N or LIST, tacet.memory=SIZE, tacet.trace and tacet.nofast exist",
                ));
            }
        }
    }
    options.linux[end.saturating_sub(1)] = 0;
    Ok(options)
}

/// `N`, the first N cores, or a list such as `0,2-3`, of which a single core is `0-0`.
fn service(text: &str, cores: u64) -> Result<u64, Reason> {
    let mask = if let Ok(count) = text.parse() {
        (1..=cores).contains(&count).then(|| u64::MAX >> (64 - count))
    } else {
        text.split(',').try_fold(0, |mask, part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last && last < cores).then(|| mask | (u64::MAX >> (63 - (last - first))) << first)
        })
    };
    let mask = mask.ok_or(Reason::Option(
        "tacet.service=N or LIST: N must be between 1 and the number of cores, LIST such as 0,2-3 name cores that exist",
    ))?;
    if mask & 1 == 0 {
        return Err(Reason::Option("tacet.service=LIST: core 0 must be a service core"));
    }
    if u64::from(mask.count_ones()) > abi::LINUX_CAP_CPU - abi::LINUX_CAP_VCPU {
        return Err(Reason::Option("tacet.service: at most 48 service cores"));
    }
    Ok(mask)
}

fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['K', 'M', 'G']);
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}
