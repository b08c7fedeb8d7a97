//! An ISO that boots Tacet by GRUB, on BIOS and on UEFI, from a disc or a USB stick.

use super::kernel::Kernel;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use std::path::Path;
use std::process::Command;

/// Longest command line that the microkernel passes on, bytes.
const COMMAND_LINE_MAX: usize = 1023;

/// Where GRUB's parts for each firmware lie, and whose they are.
const PLATFORMS: &[(&str, &str)] =
    &[("/usr/lib/grub/i386-pc", "grub-pc-bin"), ("/usr/lib/grub/x86_64-efi", "grub-efi-amd64-bin")];

/// Why a command line cannot be booted with, if so.
pub fn check_command_line(line: &str) -> Result<()> {
    if line.len() > COMMAND_LINE_MAX {
        bail!("the command line has {} bytes, and the microkernel passes on {COMMAND_LINE_MAX}", line.len());
    }
    if let Some(character) = line.chars().find(|c| c.is_control()) {
        bail!("the command line has a {character:?}: words and blanks only");
    }
    Ok(())
}

/// Writes the ISO with the microkernel, these archives as modules (a boot that shall work has one), and the command line.
pub fn make(kernel: &Kernel, archives: &[&Path], command_line: &str, iso: &Path) -> Result<()> {
    check_command_line(command_line)?;
    // grub-mkrescue leaves out a platform that it does not find, without a word.
    for (folder, package) in PLATFORMS {
        if !Path::new(folder).is_dir() {
            bail!("{folder} is not there: `apt-get install {package}`");
        }
    }
    let folder = tempfile::Builder::new().prefix("tacet-iso-").tempdir().context("cannot create a temporary folder")?;
    let boot = folder.path().join("boot");
    fs::create_dir_all(boot.join("grub"))?;
    let copy = |from: &Path, name: &str| {
        fs::copy(from, boot.join(name)).with_context(|| format!("cannot copy {} into the ISO", from.display()))
    };
    copy(&kernel.microkernel, "microkernel")?;
    for (number, archive) in archives.iter().enumerate() {
        copy(archive, &format!("tacet{number}.cpio"))?;
    }
    fs::write(boot.join("grub/grub.cfg"), configuration(archives.len(), command_line))?;
    let output = Command::new("grub-mkrescue")
        .args(["--locales=", "--themes=", "--fonts=", "-o"])
        .arg(iso)
        .arg(folder.path())
        .output()
        .context("cannot run grub-mkrescue (package grub-common)")?;
    if !output.status.success() {
        bail!("grub-mkrescue could not write {}:\n{}", iso.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// grub.cfg: the one entry starts at once, and GRUB's own messages go to the serial line, too.
fn configuration(archives: usize, command_line: &str) -> String {
    let words: Vec<String> = command_line.split_ascii_whitespace().map(quote).collect();
    let modules: String = (0..archives).map(|number| format!("    module2 /boot/tacet{number}.cpio\n")).collect();
    format!(
        "serial --unit=0 --speed=115200\nterminal_output console serial\nset timeout=0\nset gfxpayload=text\n\
         menuentry Tacet {{\n    multiboot2 /boot/microkernel {}\n{modules}}}\n",
        words.join(" ")
    )
}

/// A word that GRUB's shell takes as it stands.
fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::{check_command_line, configuration};

    #[test]
    fn words_reach_the_kernel_as_they_stand() {
        let text = configuration(1, "a=$b  c;d it's");
        assert!(
            text.contains("    multiboot2 /boot/microkernel 'a=$b' 'c;d' 'it'\\''s'\n    module2 /boot/tacet0.cpio\n}"),
            "{text}"
        );
    }

    #[test]
    fn command_lines_that_cannot_be_passed_on_are_refused() {
        assert!(check_command_line("root=/dev/vda rw").is_ok());
        assert!(check_command_line(&"x".repeat(1024)).unwrap_err().to_string().contains("1024 bytes"));
        assert!(check_command_line("a\nb").is_err());
    }
}
