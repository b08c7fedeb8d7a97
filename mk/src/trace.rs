//! Windows of a bench, instruction by instruction: what the meter writes with `trace=`.

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

/// The operation whose name contains `wanted`, of all that there are with their windows.
///
/// # Errors
/// If there is none, or several: the message lists all.
pub fn choose<'a>(names: &'a [(u8, String)], wanted: &str) -> Result<&'a (u8, String)> {
    let matching: Vec<_> = names.iter().filter(|(_, name)| name.contains(wanted)).collect();
    let all = || names.iter().map(|(_, name)| format!("\n  {name}")).collect::<String>();
    match matching[..] {
        [one] => Ok(one),
        // A name that is the beginning of others means itself.
        _ => match matching.iter().find(|(_, name)| name == wanted) {
            Some(one) => Ok(one),
            None if matching.is_empty() => {
                bail!("--trace {wanted}: no operation has this in its name; there are:{}", all())
            }
            None => bail!("--trace {wanted}: several operations have this in their names; there are:{}", all()),
        },
    }
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

/// The functions of some programs, and their instructions.
pub struct Listing {
    /// Function and text of each instruction.
    instructions: HashMap<u64, (usize, String)>,
    functions: Vec<String>,
}

impl Listing {
    /// Disassembles the programs.
    pub fn make(programs: &[&Path]) -> Result<Self> {
        let mut listing = Self { instructions: HashMap::new(), functions: vec!["(not in these programs)".into()] };
        for program in programs {
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

    /// Prints the trace of median length among those of one operation, and how much of it each function has.
    pub fn print(&self, (id, name): &(u8, String), traces: &[Trace]) -> Result<()> {
        let mut traces: Vec<_> = traces.iter().filter(|trace| trace.id == *id).collect();
        traces.sort_by_key(|trace| trace.addresses.len());
        let trace = traces.get(traces.len() / 2).with_context(|| format!("the meter traced no window of {name}"))?;
        println!("{name}");
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
        Ok(())
    }
}
