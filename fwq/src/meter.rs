//! Reader of the noise meter's file (`plugin/meter.c`).
//!
//! Lines of comma-separated fields: `tacet-meter,1,VCPUS`; one `V` line a vCPU with its counts over the machine's whole
//! life; `Q` lines, one a quantum in the order in which they ended; `W` lines, one a window and vCPU; `end,Q,W` with the
//! numbers of records, which proves the file whole.

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};

/// Instructions by mode, entries into kernel mode, how many of them by SYSCALL or INT, and times that the core went idle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub user: u64,
    pub kernel: u64,
    pub entries: u64,
    pub syscalls: u64,
    pub idles: u64,
}

impl Counts {
    /// Instructions in both modes.
    pub fn total(&self) -> u64 {
        self.user + self.kernel
    }
}

/// One quantum on one vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantum {
    /// Run id, if the quantum lay inside a run (warm-up quanta do not).
    pub run: Option<u8>,
    /// Rank, if a rank marker stood directly before the begin and the end.
    pub rank: Option<u8>,
    /// vCPU on which it ended.
    pub vcpu: u32,
    /// It began on another vCPU; `counts` are zero then.
    pub migrated: bool,
    pub counts: Counts,
    /// From the rank's previous quantum of the same run on the same vCPU to this one, if there is one.
    pub gap: Option<Counts>,
}

/// One vCPU's counts in one window. Lines with the same `index` belong to one execution of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub id: u8,
    pub index: usize,
    pub vcpu_begin: u32,
    pub vcpu_end: u32,
    pub vcpu: u32,
    pub counts: Counts,
}

/// All that the meter wrote about one life of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    pub vcpus: Vec<Counts>,
    pub quanta: Vec<Quantum>,
    pub windows: Vec<Window>,
}

// Flags of a Q line, as in plugin/meter.c.
const MIGRATED: u64 = 1;
const NO_GAP: u64 = 4;

struct Fields<'a> {
    path: &'a Path,
    line: usize,
    words: std::str::Split<'a, char>,
}

impl Fields<'_> {
    fn bad(&self, what: impl Into<String>) -> Error {
        Error::format(self.path, self.line, what)
    }

    fn signed(&mut self) -> Result<i64> {
        let word = self.words.next().ok_or_else(|| self.bad("the line is too short"))?;
        word.parse().map_err(|_| self.bad(format!("'{word}' is not a number")))
    }

    fn number(&mut self) -> Result<u64> {
        let n = self.signed()?;
        u64::try_from(n).map_err(|_| self.bad(format!("{n} is negative")))
    }

    fn vcpu(&mut self, vcpus: usize) -> Result<u32> {
        let n = self.number()?;
        if n >= vcpus as u64 {
            return Err(self.bad(format!("vCPU {n} of {vcpus}")));
        }
        Ok(n as u32)
    }

    /// A byte, or -1 for none.
    fn id(&mut self) -> Result<Option<u8>> {
        let n = self.signed()?;
        if n == -1 {
            return Ok(None);
        }
        u8::try_from(n).map(Some).map_err(|_| self.bad(format!("{n} is not an id (0 to 255)")))
    }

    fn counts(&mut self) -> Result<Counts> {
        Ok(Counts {
            user: self.number()?,
            kernel: self.number()?,
            entries: self.number()?,
            syscalls: self.number()?,
            idles: self.number()?,
        })
    }

    fn finish(mut self) -> Result<()> {
        match self.words.next() {
            None => Ok(()),
            Some(word) => Err(self.bad(format!("'{word}' is one field too many"))),
        }
    }
}

impl Meter {
    /// # Errors
    /// [`Error::File`], or [`Error::Format`] with the line that is wrong or missing.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|e| Error::file(path, e))?;
        Self::parse(&text, path)
    }

    /// `path` is for messages.
    ///
    /// # Errors
    /// As [`Meter::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let mut meter = Meter::default();
        let mut vcpus = None;
        let mut whole = false;
        let mut last = 0;
        for (index, line) in text.lines().enumerate() {
            last = index + 1;
            let mut words = line.split(',');
            let kind = words.next().unwrap_or_default();
            let mut f = Fields { path, line: last, words };
            if whole {
                return Err(f.bad("there is more after the end"));
            }
            let n = match (kind, vcpus) {
                ("tacet-meter", None) => {
                    if f.number()? != 1 {
                        return Err(f.bad("another version of the meter wrote this"));
                    }
                    vcpus = Some(f.number()? as usize);
                    f.finish()?;
                    continue;
                }
                (_, Some(n)) => n,
                (_, None) => return Err(f.bad("this is not a file of the noise meter")),
            };
            match kind {
                "V" => {
                    if f.number()? != meter.vcpus.len() as u64 {
                        return Err(f.bad("vCPUs are out of order"));
                    }
                    meter.vcpus.push(f.counts()?);
                }
                "Q" => {
                    let (run, rank, vcpu, flags) = (f.id()?, f.id()?, f.vcpu(n)?, f.number()?);
                    let (counts, gap) = (f.counts()?, f.counts()?);
                    meter.quanta.push(Quantum {
                        run,
                        rank,
                        vcpu,
                        migrated: flags & MIGRATED != 0,
                        counts,
                        gap: (flags & NO_GAP == 0).then_some(gap),
                    });
                }
                "W" => {
                    let id = f.id()?.ok_or_else(|| f.bad("a window has an id from 0 to 255"))?;
                    meter.windows.push(Window {
                        id,
                        index: f.number()? as usize,
                        vcpu_begin: f.vcpu(n)?,
                        vcpu_end: f.vcpu(n)?,
                        vcpu: f.vcpu(n)?,
                        counts: f.counts()?,
                    });
                }
                "end" => {
                    let (quanta, windows) = (f.number()?, f.number()?);
                    if quanta != meter.quanta.len() as u64
                        || windows * n as u64 != meter.windows.len() as u64
                        || meter.vcpus.len() != n
                    {
                        return Err(f.bad("records are missing before the end"));
                    }
                    whole = true;
                }
                _ => return Err(f.bad(format!("'{kind}' begins no record"))),
            }
            f.finish()?;
        }
        if !whole {
            return Err(Error::format(path, last, "the file is cut off: QEMU was killed, or the disk is full"));
        }
        Ok(meter)
    }

    /// The quanta of one rank in one run, in order.
    pub fn of(&self, run: u8, rank: u8) -> impl Iterator<Item = &Quantum> {
        self.quanta.iter().filter(move |q| q.run == Some(run) && q.rank == Some(rank))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "tacet-meter,1,2\nV,0,5,6,7,8,9\nV,1,1,2,3,4,5\n\
        Q,-1,0,1,4,83,0,0,0,0,0,0,0,0,0\nQ,3,0,1,0,83,10,1,0,0,35,1,1,1,0\nQ,3,1,0,1,0,0,0,0,0,1,0,0,0,0\n\
        W,7,0,0,1,0,100,20,2,1,0\nW,7,0,0,1,1,5,0,0,0,3\nend,3,1\n";

    fn parse(text: &str) -> Result<Meter> {
        Meter::parse(text, Path::new("m.csv"))
    }

    #[test]
    fn every_record_is_read() {
        let m = parse(GOOD).unwrap();
        assert_eq!(m.vcpus.len(), 2);
        assert_eq!(m.vcpus[0].kernel, 6);
        assert_eq!(m.quanta.len(), 3);
        assert_eq!((m.quanta[0].run, m.quanta[0].gap), (None, None));
        let hit: Vec<_> = m.of(3, 0).collect();
        assert_eq!(hit.len(), 1);
        assert_eq!((hit[0].counts.total(), hit[0].counts.entries), (93, 1));
        assert_eq!(hit[0].gap.unwrap().syscalls, 1);
        assert!(m.quanta[2].migrated);
        assert_eq!((m.windows[1].id, m.windows[1].vcpu, m.windows[1].counts.user), (7, 1, 5));
    }

    #[test]
    fn a_cut_off_file_is_refused_wherever_it_is_cut() {
        let cut = GOOD.trim_end().len() - 1;
        for end in (0..cut).filter(|e| GOOD.is_char_boundary(*e)) {
            assert!(parse(&GOOD[..end]).is_err(), "accepted the first {end} bytes");
        }
    }

    #[test]
    fn errors_name_file_and_line() {
        for (bad, line, what) in [
            ("hello\n", 1, "not a file of the noise meter"),
            ("tacet-meter,2,1\n", 1, "another version"),
            ("tacet-meter,1,1\nV,0,1,2,x,4,5\n", 2, "'x' is not a number"),
            ("tacet-meter,1,1\nV,0,1,2,-3,4,5\n", 2, "negative"),
            ("tacet-meter,1,1\nQ,0,0,1,0,1,1,1,1,1,1,1,1,1,1\n", 2, "vCPU 1 of 1"),
            ("tacet-meter,1,1\nQ,300,0", 2, "300 is not an id"),
            ("tacet-meter,1,1\nX\n", 2, "'X' begins no record"),
            ("tacet-meter,1,1\nend,1,0\n", 2, "records are missing"),
            ("tacet-meter,1,0\nend,0,0,0\n", 2, "one field too many"),
            ("tacet-meter,1,0\nend,0,0\nV,0\n", 3, "more after the end"),
        ] {
            let message = parse(bad).unwrap_err().to_string();
            assert!(message.contains(&format!("m.csv, line {line}")) && message.contains(what), "{bad:?}: {message}");
        }
    }
}
