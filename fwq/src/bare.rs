//! Reader of the bare floor's serial log (`bare/bare.c`).

use std::path::Path;
use std::str::SplitWhitespace;

use crate::cli::Mode;
use crate::engine::Clock;
use crate::error::{Error, Result};
use crate::host::{Machine, Placement};
use crate::record::{Common, Part, Recording};

/// Least delay of a detour on the floor, in microseconds: the default of mpi-fwq.
const DETOUR_US: f64 = 5.0;

struct Lines<'a> {
    path: &'a Path,
    rest: std::iter::Enumerate<std::str::Lines<'a>>,
    line: usize,
}

impl<'a> Lines<'a> {
    fn bad(&self, what: impl Into<String>) -> Error {
        Error::format(self.path, self.line, what)
    }

    fn next(&mut self) -> Result<SplitWhitespace<'a>> {
        let (index, text) =
            self.rest.next().ok_or_else(|| self.bad("the log is cut off: the machine did not finish"))?;
        self.line = index + 1;
        if let Some(message) = text.strip_prefix("error ") {
            return Err(self.bad(format!("the bare floor refused: {message}")));
        }
        Ok(text.split_whitespace())
    }

    fn number(&self, words: &mut SplitWhitespace<'a>) -> Result<u64> {
        let word = words.next().unwrap_or_default();
        word.parse().map_err(|_| self.bad(format!("'{word}' is not a number")))
    }

    /// The number behind the word `key`.
    fn keyed(&self, words: &mut SplitWhitespace<'a>, key: &str) -> Result<u64> {
        match words.next() {
            Some(word) if word == key => self.number(words),
            word => Err(self.bad(format!("'{key}' expected, found '{}'", word.unwrap_or_default()))),
        }
    }

    fn line_of(&mut self, key: &str) -> Result<u64> {
        let mut words = self.next()?;
        self.keyed(&mut words, key)
    }
}

/// The recording in the log at `path`.
///
/// # Errors
/// [`Error::File`], or [`Error::Format`] with the line that is wrong; a refusal by the floor itself is passed on.
pub fn read(path: &Path) -> Result<Recording> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::file(path, e))?;
    parse(&text, path)
}

/// The recording in `text`; `path` is for messages.
///
/// # Errors
/// As [`read`].
pub fn parse(text: &str, path: &Path) -> Result<Recording> {
    let mut lines = Lines { path, rest: text.lines().enumerate(), line: 0 };
    if !lines.next()?.eq(["tacet-bare", "1"]) {
        return Err(lines.bad("this is not a log of the bare floor"));
    }
    let mode = match lines.next()?.collect::<Vec<_>>()[..] {
        ["mode", "step"] => Mode::Step,
        ["mode", "start"] => Mode::Start,
        _ => return Err(lines.bad("'mode step' or 'mode start' expected")),
    };
    let samples = lines.line_of("samples")? as usize;
    let iterations = lines.line_of("iterations")?;
    let warmup = lines.line_of("warmup")?;
    let run_id = u8::try_from(lines.line_of("run")?).map_err(|_| lines.bad("a run is a number from 0 to 255"))?;
    let ranks = lines.line_of("ranks")?;
    let tsc_hz = lines.line_of("tsc_hz")? as f64;
    let mut parts = Vec::new();
    for rank in 0..ranks {
        let mut words = lines.next()?;
        if lines.keyed(&mut words, "rank")? != rank {
            return Err(lines.bad("ranks are out of order"));
        }
        let core = lines.keyed(&mut words, "core")?;
        let begin = lines.keyed(&mut words, "begin")?;
        let end = lines.keyed(&mut words, "end")?;
        let (mut starts, mut ticks) = (Vec::new(), Vec::new());
        for _ in 0..samples {
            let mut words = lines.next()?;
            starts.push(lines.number(&mut words)?);
            ticks.push(lines.number(&mut words)?);
        }
        parts.push(Part {
            placement: Placement { cpu: Some(core as usize), ..Placement::default() },
            usage: None,
            clock: Clock { ticks: end - begin, nanoseconds: 1 },
            begin,
            end,
            starts,
            ticks,
        });
    }
    if !lines.next()?.eq(["end"]) {
        return Err(lines.bad("'end' expected"));
    }
    Recording::assemble(
        Common {
            program: "bare",
            mode,
            iterations,
            warmup,
            run_id,
            mpi: None,
            machine: Machine { kernel: "none (bare metal)".into(), ..Machine::default() },
            tsc_hz: Some(tsc_hz),
            detour_us: DETOUR_US,
        },
        parts,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "tacet-bare 1\nmode step\nsamples 2\niterations 1024\nwarmup 1\nrun 4\nranks 2\n\
        tsc_hz 1000000\nrank 0 core 1 begin 10 end 40\n11 10\n22 12\nrank 1 core 2 begin 9 end 41\n10 11\n23 14\nend\n";

    #[test]
    fn a_log_becomes_a_recording() {
        let r = parse(GOOD, Path::new("log")).unwrap();
        assert_eq!((r.mode, r.run_id, r.ranks.len()), (Mode::Step, 4, 2));
        assert_eq!(r.own_insns, 66 * 1024 + 17);
        assert_eq!(r.ranks[0].starts, [2, 13]); // since the earliest begin
        assert_eq!(r.ranks[1].ticks, [11, 14]);
        assert_eq!(r.ranks[1].placement.cpu, Some(2));
        assert!(r.step_cost.is_some());
    }

    #[test]
    fn refusals_and_cut_off_logs_are_told_apart() {
        let message = |text: &str| parse(text, Path::new("log")).unwrap_err().to_string();
        assert!(message("error unknown option: x=1\n").contains("refused: unknown option: x=1"));
        assert!(message(&GOOD[..GOOD.len() - 5]).contains("cut off"));
        assert!(message("").contains("cut off"));
        assert!(message("SeaBIOS\n").contains("line 1: this is not a log"));
        assert!(message(&GOOD.replace("22 12", "22 z")).contains("line 11: 'z' is not a number"));
    }
}
