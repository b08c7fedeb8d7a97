//! Windows of the kernel's bench, instruction by instruction: what the meter writes with `trace=`.

use crate::build::Kernel;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

/// Kernel code lies in the upper half.
pub const KERNEL: u64 = 1 << 63;

/// What one vCPU executed in one window.
pub struct Trace {
    pub id: u8,
    pub addresses: Vec<u64>,
}

/// Reads the meter's file: `T,ID,VCPU`, then one hexadecimal address a line; at last `end`.
pub fn read(path: &Path) -> Result<Vec<Trace>> {
    let text = fs::read_to_string(path)?;
    let mut traces: Vec<Trace> = Vec::new();
    let mut whole = false;
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("T,") {
            let id = head.split(',').next().and_then(|id| id.parse().ok());
            let id = id.with_context(|| format!("{}: unexpected line: {line}", path.display()))?;
            traces.push(Trace { id, addresses: Vec::new() });
        } else if line == "end" {
            whole = true;
        } else {
            let address = u64::from_str_radix(line, 16).ok();
            let (Some(trace), Some(address)) = (traces.last_mut(), address) else {
                bail!("{}: unexpected line: {line}", path.display());
            };
            trace.addresses.push(address);
        }
    }
    if !whole {
        bail!("{} is not whole", path.display());
    }
    Ok(traces)
}

/// The functions of the kernel and of its bench, and their instructions.
pub struct Listing {
    /// Function and text of each instruction.
    instructions: HashMap<u64, (usize, String)>,
    functions: Vec<String>,
}

impl Listing {
    /// Disassembles both programs.
    pub fn make(kernel: &Kernel) -> Result<Self> {
        let mut listing = Self { instructions: HashMap::new(), functions: vec!["(not in these programs)".into()] };
        for program in [&kernel.microkernel, &kernel.ktest] {
            let output = Command::new("objdump")
                .args(["-d", "--demangle", "-M", "intel", "--no-show-raw-insn"])
                .arg(program)
                .output()
                .context("cannot run objdump (binutils)")?;
            for line in String::from_utf8_lossy(&output.stdout).lines() {
                if let Some((_, name)) = line.split_once(" <").filter(|_| line.ends_with(">:")) {
                    listing.functions.push(name.trim_end_matches(">:").to_owned());
                } else if let Some((address, text)) = line.split_once(":\t")
                    && let Ok(address) = u64::from_str_radix(address.trim(), 16)
                {
                    listing.instructions.insert(address, (listing.functions.len() - 1, text.trim().to_owned()));
                }
            }
        }
        Ok(listing)
    }

    /// Whether an instruction belongs to a function.
    pub fn is_in(&self, address: u64, function: &str) -> bool {
        self.instructions.get(&address).is_some_and(|(index, _)| self.functions[*index] == function)
    }

    /// Prints a trace, and how much of it each function has.
    pub fn print(&self, trace: &Trace) {
        let mut counts: HashMap<usize, usize> = HashMap::new();
        let mut last = None;
        for &address in &trace.addresses {
            let (function, text) = self.instructions.get(&address).map_or((0, ""), |(f, text)| (*f, text.as_str()));
            if last != Some(function) {
                println!("{}", self.functions[function]);
            }
            last = Some(function);
            *counts.entry(function).or_default() += 1;
            println!("    {address:16x}  {text}");
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|&(function, count)| (std::cmp::Reverse(count), function));
        println!("\n{:6} instructions", trace.addresses.len());
        for (function, count) in counts {
            println!("{count:6} {}", self.functions[function]);
        }
    }
}
