//! The end of what others wrote.

use fs_err::File;
use std::io::{Read, Result, Seek, SeekFrom};
use std::path::Path;

/// The last bytes of a file, at most so many.
pub fn of_file(path: &Path, bytes: u64) -> Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).into_owned())
}

/// The last lines of a text, at most so many.
pub fn lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
