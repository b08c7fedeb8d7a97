//! The fuzzer of the microkernel, on it in QEMU.

use super::tally::Tally;
use crate::build::Builder;
use crate::child::Running;
use crate::progress::Step;
use crate::qemu::{Accelerator, Machine};
use crate::tail;
use anyhow::{Context, Result, bail};
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// The last core is for decoupled threads, and two before it are the canary's, so that two make calls.
const CORES: u32 = 5;
/// Time for a thousand calls that no machine needs: one that takes longer hangs.
const PATIENCE_PER_1000: Duration = Duration::from_secs(10);

/// One call in so many has to succeed. (Measured: 4.)
const LEAST_SHARE: u64 = 6;
/// Calls of which every method succeeds at least once. (Measured: the rarest, 20 times.)
const ENOUGH: u64 = 200_000;

/// How the lines begin that tell how often memory was taken from the canary, one for each way.
const CANARY: &str = "kfuzz: the canary's memory was ";

/// Makes `calls` random calls.
pub fn run(builder: &Builder, calls: u64, seed: u64, tally: &mut Tally) -> Result<()> {
    let name = format!("fuzz: {calls} random calls from seed {seed} break nothing");
    tally.record(&name, fuzz(builder, calls, seed));
    Ok(())
}

fn fuzz(builder: &Builder, calls: u64, seed: u64) -> Result<()> {
    let kernel = builder.checked_kernel()?;
    let folder = tempfile::tempdir()?;
    let (serial, archive) = (folder.path().join("log"), folder.path().join("fuzz.cpio"));
    fs::write(&archive, kernel.archive()?)?;
    let machine = Machine { cores: CORES, memory: "256M".into(), accelerator: Accelerator::Tcg, extra: Vec::new() };
    let mut command = machine.command(&serial);
    command.arg("-kernel").arg(&kernel.microkernel).arg("-initrd").arg(&archive);
    command.arg("-append").arg(format!("seed={seed} calls={calls}"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut step =
        Step::begin(builder.cache(), &format!("fuzzing the microkernel, {calls} calls"), (calls / 40_000) as u32 + 1)?;
    let deadline =
        Instant::now() + Duration::from_secs(120) + PATIENCE_PER_1000 * (calls / 1000).try_into().unwrap_or(u32::MAX);
    let ended = Running::start(&mut command, "QEMU")?.wait_until(deadline, || {
        // QEMU may not have made it yet.
        let made = made(&tail::of_file(&serial, 1 << 16).unwrap_or_default());
        step.tell(Some(made as f64 / calls.max(1) as f64), &format!("{made} calls"));
    })?;
    let log =
        fs::read(&serial).map(|log| String::from_utf8_lossy(&log).replace('\r', "")).context("QEMU wrote no log")?;
    let end = tail::lines(&log, 60);
    match ended.map(|status| status.code()) {
        Some(Some(1)) if made(&log) >= calls => {
            step.done();
            judge(&log)
        }
        Some(code) => {
            bail!("seed {seed}: QEMU ended with {code:?} after {} calls; the end of its log:\n{end}", made(&log))
        }
        None => bail!("seed {seed}: no end in sight after {} calls; the end of the log:\n{end}", made(&log)),
    }
}

/// Calls that are all refused test little.
fn judge(log: &str) -> Result<()> {
    let told = |what: &str| -> Vec<u64> {
        let number = |line: &str| line.strip_prefix("kfuzz: ")?.strip_suffix(what)?.parse().ok();
        log.lines().filter_map(number).collect()
    };
    let succeeded = told(" calls succeeded").iter().sum::<u64>();
    let made = made(log);
    if succeeded < made / LEAST_SHARE {
        bail!(
            "only {succeeded} of {made} calls succeeded, at least one in {LEAST_SHARE} should: the fuzzer tests little"
        );
    }
    let never: Vec<&str> = log.lines().filter(|line| line.ends_with(" 0 times")).collect();
    if made >= ENOUGH && !never.is_empty() {
        bail!("the fuzzer tests little:\n{}", never.join("\n"));
    }
    if made >= ENOUGH && !log.contains(CANARY) {
        bail!("the fuzzer had no canary");
    }
    Ok(())
}

/// Calls made, by the last line that tells.
fn made(log: &str) -> u64 {
    let told = |line: &str| line.strip_prefix("kfuzz: ")?.split_once(" of ")?.0.parse().ok();
    log.lines().rev().find_map(told).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{CANARY, judge, made};

    #[test]
    fn the_last_count_is_read() {
        let log =
            "kfuzz: seed=1 calls=9\nkfuzz: 12 of 30 calls, batch 1\nother\nkfuzz: 25 of 30 calls, batch 2\n[tacet] x";
        assert_eq!(made(log), 25);
        assert_eq!(made("kfuzz: seed=1"), 0);
    }

    #[test]
    fn refused_calls_are_no_test() {
        let log = |succeeded: u64, made: u64, more: &str| {
            format!("kfuzz: {made} of {made} calls, batch 1\nkfuzz: {succeeded} calls succeeded\n{more}kfuzz: done\n")
        };
        assert!(judge(&log(20, 100, "")).is_ok());
        assert!(judge(&log(10, 100, "")).is_err());
        let never = "kfuzz: method 1 of kind 2 succeeded 0 times\n";
        assert!(judge(&log(20, 100, never)).is_ok());
        assert!(judge(&log(100_000, 300_000, never)).is_err());
        let taken = |times: u64| format!("{CANARY}unmapped {times} times\n");
        assert!(judge(&log(100_000, 300_000, &taken(20))).is_ok());
        assert!(judge(&log(100_000, 300_000, &taken(0))).is_err());
        assert!(judge(&log(100_000, 300_000, "")).is_err());
    }
}
