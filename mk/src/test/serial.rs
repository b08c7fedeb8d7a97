//! A serial line that nobody reads.

use super::kernel::archive;
use crate::build::Kernel;
use crate::child::Running;
use crate::qemu::{Accelerator, Machine, option_path};
use anyhow::{Context, Result, bail};
use fs_err as fs;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(120);
/// The other end reads nothing for so long; then all.
const ASLEEP: Duration = Duration::from_secs(4);
const LOST: &str = " bytes of the log are not on this line: it was too slow";

/// The kernel goes on while the line takes nothing, and what is on the line is what was logged, in its order; where something
/// is missing, the line says how much.
pub fn unread(kernel: &Kernel) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (socket, path) = (folder.path().join("serial"), folder.path().join("archive.cpio"));
    fs::write(&path, archive(kernel)?)?;
    let listener = UnixListener::bind(&socket)?;
    let machine = Machine { cores: 2, memory: "256M".into(), accelerator: Accelerator::Tcg, extra: Vec::new() };
    let given = machine.command(&folder.path().join("none"));
    let mut command = Command::new(given.get_program());
    let line = format!("unix:{}", option_path(&socket));
    let word = |word: &std::ffi::OsStr| {
        if word.to_string_lossy().starts_with("file:") { OsString::from(&line) } else { word.into() }
    };
    command.args(given.get_args().map(word)).arg("-kernel").arg(&kernel.microkernel);
    command.arg("-initrd").arg(&path).args(["-append", "kflood"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let running = Running::start(&mut command, "QEMU")?;
    let (mut stream, _) = listener.accept()?;
    let reader = std::thread::spawn(move || {
        std::thread::sleep(ASLEEP);
        let mut all = Vec::new();
        stream.read_to_end(&mut all).map(|_| String::from_utf8_lossy(&all).replace('\r', ""))
    });
    let status = running.wait_until(Instant::now() + TIMEOUT, || {})?;
    if status.and_then(|status| status.code()) != Some(1) {
        bail!("the kernel does not go on while its line takes nothing: {status:?}");
    }
    let text = reader.join().expect("the reader does not panic").context("the line")?;
    judge(&text)
}

/// Whether the lines of the flood are all there, or their absence is told.
fn judge(text: &str) -> Result<()> {
    let all: String =
        (0..2).flat_map(|part| (0..10_000).map(move |i| format!("flood {part} {i:04} {:.>60}\n", ""))).collect();
    let start = text.find("flood 0 0000").context("the flood does not begin")?;
    let (mut at, mut lost) = (0, 0);
    for (i, part) in text[start..].split("\n[tacet] ").enumerate() {
        let mut part = part;
        if i > 0 {
            let (bytes, rest) = part.split_once(LOST).with_context(|| format!("unexpected: {part:.80}"))?;
            let bytes: usize = bytes.parse().with_context(|| format!("unexpected: {part:.80}"))?;
            (at, lost, part) = (at + bytes, lost + bytes, rest.strip_prefix('\n').unwrap_or(rest));
        }
        if !all[at.min(all.len())..].starts_with(part) {
            bail!("behind {at} bytes of the flood the line has {part:.200}");
        }
        at += part.len();
    }
    if at != all.len() || lost == 0 {
        bail!("of {} bytes, {at} are on the line or told to be lost ({lost})", all.len());
    }
    Ok(())
}
