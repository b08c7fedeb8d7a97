//! The `tacet.` options of the command line; all else is Linux's.

use core::fmt;

use abi::RootBoot;
use kcore::program::Malformed;

pub struct Options {
    /// Service cores: machine cores 0 to this - 1. The others are compute cores.
    pub service: u64,
    /// Linux's memory in bytes; `None`: all but a reserve.
    pub memory: Option<u64>,
    /// Linux's own command line, zero terminated.
    pub linux: [u8; 1024],
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
            Some(("service", number)) => {
                let number = number.parse().ok().filter(|n| (1..=boot.cores).contains(n));
                options.service =
                    number.ok_or(Reason::Option("tacet.service=N: N must be between 1 and the number of cores"))?;
            }
            Some(("memory", size)) => {
                let size = bytes(size).filter(|&n| n >= 32 << 20);
                options.memory =
                    Some(size.ok_or(Reason::Option("tacet.memory=SIZE: at least 32M, such as 512M or 2G"))?);
            }
            _ => {
                return Err(Reason::Option(
                    "unknown option tacet.*: tacet.service=N, tacet.memory=SIZE, tacet.trace and tacet.nofast exist",
                ));
            }
        }
    }
    options.linux[end.saturating_sub(1)] = 0;
    Ok(options)
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
