//! The emulated machine: QEMU's command line, the same for every system that is compared.

use crate::build::{self, Kernel, Vendor};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

/// Measured with 7.2: with `cx16` Debian's 6.12 under a plugin panics at boot, with corrupted flags after cmpxchg16b.
pub const CPU: &str = "max,-cx16";

/// How QEMU executes the guest's instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Accelerator {
    /// By translation: works everywhere, and the noise meter counts instructions
    Tcg,
    /// By the host's CPU; without the meter, time is the only measure
    Kvm,
    /// By translation, one core only, with a clock that counts instructions: runs repeat exactly
    #[value(skip)]
    TcgRepeatable,
}

impl Accelerator {
    /// Its name on QEMU's command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcg | Self::TcgRepeatable => "tcg",
            Self::Kvm => "kvm",
        }
    }
}

/// The emulated machine.
#[derive(Clone, Debug)]
pub struct Machine {
    pub cores: u32,
    /// As QEMU's -m takes it.
    pub memory: String,
    pub accelerator: Accelerator,
    /// Arguments of the user's, passed on unchanged.
    pub extra: Vec<String>,
}

impl Machine {
    /// QEMU with this machine and nothing to boot. `serial` receives the first serial port's output.
    pub fn command(&self, serial: &Path) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        self.add_to(&mut command, serial);
        command
    }

    /// The same for an emulator of the caller's choice.
    pub fn add_to(&self, command: &mut Command, serial: &Path) {
        let (accelerator, cpu) = match self.accelerator {
            Accelerator::Tcg => ("tcg,thread=multi", CPU),
            Accelerator::TcgRepeatable => ("tcg,thread=single", CPU),
            Accelerator::Kvm => ("kvm", "host"),
        };
        if self.accelerator == Accelerator::TcgRepeatable {
            command.args(["-icount", "shift=0,sleep=off"]);
        }
        command
            .args(["-M", "q35", "-cpu", cpu, "-accel", accelerator])
            .args(["-smp", &self.cores.to_string(), "-m", &self.memory])
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"])
            .arg("-serial")
            .arg(format!("file:{}", serial.display()));
    }

    /// The common part of the command line, for the report.
    pub fn line(&self) -> String {
        let command = self.command(Path::new("LOG"));
        let words: Vec<String> = command
            .get_args()
            .chain(self.extra.iter().map(std::ffi::OsStr::new))
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        format!("qemu-system-x86_64 {}", words.join(" "))
    }
}

/// A path inside an option: a comma ends an option unless it is doubled.
pub fn option_path(file: &Path) -> String {
    file.display().to_string().replace(',', ",,")
}

/// Adds a plugin, with its options that are paths.
pub fn plugin(command: &mut Command, file: &Path, options: &[(&str, &Path)]) {
    let options = options.iter().map(|(name, path)| format!(",{name}={}", option_path(path))).collect::<String>();
    command.arg("-plugin").arg(option_path(file) + &options);
}

/// Adds a disk, which Linux sees as vda, vdb ... in the order of the calls.
pub fn disk(command: &mut Command, name: &str, file: &Path, options: &str) {
    let path = option_path(file);
    command
        .args(["-drive", &format!("file={path},if=none,id={name},format=raw{options}")])
        .args(["-device", &format!("virtio-blk-pci,drive={name},iommu_platform=on,disable-legacy=on")]);
}

/// Adds the console hvc0 on QEMU's standard input and output.
pub fn console(command: &mut Command) {
    command.args(["-device", "virtio-serial-pci,iommu_platform=on,disable-legacy=on"]).args([
        "-chardev",
        "stdio,id=c0,signal=off",
        "-device",
        "virtconsole,chardev=c0",
    ]);
}

/// Adds the network, with the host's `port` on the loopback address forwarded to ssh where one is given.
pub fn network(command: &mut Command, port: Option<u16>) {
    let forward = port.map(|port| format!(",hostfwd=tcp:127.0.0.1:{port}-:22")).unwrap_or_default();
    command
        .args(["-netdev", &format!("user,id=n0{forward}")])
        .args(["-device", "virtio-net-pci,netdev=n0,iommu_platform=on,disable-legacy=on,romfile="]);
}

/// What starts GRUB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Firmware {
    /// SeaBIOS, QEMU's own.
    Bios,
    /// Debian's OVMF.
    Uefi,
}

/// UEFI's code, and its variables as they are when nothing is set yet.
const OVMF: [&str; 2] = ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"];

impl Firmware {
    /// Adds the firmware and a disc to start from. UEFI's variables lie in `folder`, which must stay while QEMU runs.
    pub fn boot(self, command: &mut Command, iso: &Path, folder: &Path) -> Result<()> {
        if self == Self::Uefi {
            let variables = folder.join("uefi-variables");
            std::fs::copy(OVMF[1], &variables).with_context(|| format!("cannot copy {} (package ovmf)", OVMF[1]))?;
            command.args(["-drive", &format!("if=pflash,format=raw,readonly=on,file={}", OVMF[0])]);
            command.args(["-drive", &format!("if=pflash,format=raw,file={}", option_path(&variables))]);
        }
        command
            .args(["-drive", &format!("file={},if=none,id=disc,media=cdrom,readonly=on", option_path(iso))])
            .args(["-device", "ide-cd,drive=disc,bus=ide.0,bootindex=0"]);
        Ok(())
    }
}

/// What is booted.
#[derive(Clone, Copy)]
pub enum System<'a> {
    /// Debian's kernel; `arguments` are added to its command line.
    Vendor { kernel: &'a Vendor, arguments: &'a str },
    /// Tacet, loaded by QEMU itself.
    Tacet { kernel: &'a Kernel, archive: &'a Path, service_cores: u32 },
    /// Tacet, loaded by GRUB from an ISO.
    TacetIso { kernel: &'a Kernel, archive: &'a Path, service_cores: u32, firmware: Firmware },
}

/// The words that every system's Linux gets.
const COMMON: &str = "root=/dev/vda rw console=hvc0 panic=-1 init=/usr/local/sbin/tacet-init";

/// Tacet's command line, ending in `words`.
pub fn tacet_command_line(service_cores: u32, words: &str) -> String {
    format!("tacet.service={service_cores} {COMMON} quiet {words}").trim_end().to_owned()
}

impl System<'_> {
    /// Adds the kernel with a command line that ends in `words`. What QEMU needs beside it lies in `folder`, which must stay
    /// while QEMU runs.
    pub fn boot(&self, command: &mut Command, words: &str, folder: &Path) -> Result<()> {
        match self {
            Self::Vendor { kernel, arguments } => {
                command.arg("-kernel").arg(&kernel.vmlinuz).arg("-initrd").arg(&kernel.initramfs);
                command.arg("-append").arg(format!("{COMMON} quiet {arguments} {words}"));
            }
            Self::Tacet { kernel, archive, service_cores } => {
                command.arg("-kernel").arg(&kernel.microkernel).arg("-initrd").arg(archive);
                command.arg("-append").arg(tacet_command_line(*service_cores, words));
            }
            Self::TacetIso { kernel, archive, service_cores, firmware } => {
                let iso = folder.join("tacet.iso");
                build::make_iso(kernel, &[archive], &tacet_command_line(*service_cores, words), &iso)?;
                firmware.boot(command, &iso, folder)?;
            }
        }
        Ok(())
    }
}

/// What QEMU's exit status means on Tacet: QEMU ends with twice the written status plus one.
pub fn describe_exit(status: Option<i32>) -> &'static str {
    match status {
        Some(0 | 1) => "orderly power-off",
        Some(3) => "Linux panicked",
        Some(5) => "Linux crashed",
        Some(7) => "Linux asked for a restart",
        Some(9) => "the boot archive is damaged or incomplete",
        Some(201) => "the microkernel panicked",
        Some(203) => "the root task panicked",
        Some(_) => "QEMU ended with an unknown status",
        None => "QEMU was ended by a signal",
    }
}

/// QEMU's version, `7.2.…`.
pub fn version() -> Result<String> {
    let output = Command::new("qemu-system-x86_64")
        .arg("--version")
        .output()
        .context("cannot run qemu-system-x86_64: `mk setup` installs qemu-system-x86")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let first = text.lines().next().unwrap_or_default();
    Ok(first.trim_start_matches("QEMU emulator version ").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// QEMU itself reads the options: it complains about the file that it was asked for, whole.
    #[test]
    fn a_comma_in_a_plugins_path_is_part_of_the_path() {
        let folder = tempfile::Builder::new().prefix("a,b").tempdir().unwrap();
        let file = folder.path().join("no,such,plugin.so");
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-M", "none", "-display", "none"]);
        plugin(&mut command, &file, &[("out", &folder.path().join("c,d"))]);
        let output = command.output().expect("qemu-system-x86_64 (package qemu-system-x86)");
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && message.contains(&*file.to_string_lossy()), "{message}");
    }
}
