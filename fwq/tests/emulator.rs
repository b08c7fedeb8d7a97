//! The meter and the bare floor in QEMU: the counts are exact there, so the assertions are too.
#![cfg(feature = "emulator")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fwq::bare;
use fwq::cli::Mode;
use fwq::meter::Meter;
use fwq::report::{Activity, Run, System};

fn option_path(file: &Path) -> String {
    file.display().to_string().replace(',', ",,")
}

struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        // A comma ends an option of QEMU's: in a path it is doubled.
        let dir = tempfile::Builder::new().prefix("a,b").tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        let run = |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
        run(Command::new("gcc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"])
            .arg(dir.path().join("meter.so"))
            .arg(source.join("plugin/meter.c")));
        run(Command::new("sh").arg(source.join("bare/build.sh")).arg(dir.path().join("bare.elf")));
        Lab { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn boot(&self, cores: u32, words: &str, meter: &str) -> Output {
        Command::new("qemu-system-x86_64")
            .args(["-M", "q35", "-cpu", "max,-cx16", "-accel", "tcg,thread=multi", "-m", "512M"])
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-serial"])
            .arg(format!("file:{}", self.path("log").display()))
            .args(["-smp", &cores.to_string(), "-append", words, "-kernel"])
            .arg(self.path("bare.elf"))
            .arg("-plugin")
            .arg(format!("{}{meter}", option_path(&self.path("meter.so"))))
            .output()
            .expect("qemu-system-x86_64 (package qemu-system-x86)")
    }

    fn out(&self) -> String {
        format!(",out={}", option_path(&self.path("meter.csv")))
    }
}

#[test]
fn nothing_is_stolen_where_there_is_no_system() {
    let lab = Lab::new();
    for mode in [Mode::Step, Mode::Start] {
        let word = if mode == Mode::Step { "step" } else { "start" };
        let out = lab.boot(3, &format!("mode={word} samples=200 work=8 warmup=3 run=5"), &lab.out());
        assert_eq!(out.status.code(), Some(1), "{}", String::from_utf8_lossy(&out.stderr));
        let recording = bare::read(&lab.path("log")).unwrap();
        let meter = Meter::read(&lab.path("meter.csv")).unwrap();
        // 200 measured and 3 of warm-up on each of two ranks.
        assert_eq!(meter.quanta.len(), 2 * 203);
        let run = Run::merge(System::Bare, Activity::Quiet, &recording, Some(&meter), Vec::new()).unwrap();
        assert_eq!(run.mode, mode);
        for (rank, core) in run.ranks.iter().zip(1..) {
            assert_eq!((rank.core, &rank.cores[..]), (Some(core), &[core][..]));
            assert_eq!((rank.stolen_insns, rank.quanta_hit), (Some(0), Some(0)));
            assert_eq!(rank.own_insns, 200 * (66 * 256 + 17));
        }
    }
}

#[test]
fn the_floor_refuses_what_it_does_not_understand() {
    let lab = Lab::new();
    for (cores, words, what) in [
        (2, "samples=0", "too small: samples=0"),
        (2, "samples=many", "number expected"),
        (2, "samples=10000001", "too large"),
        (2, "colour=red", "unknown option"),
        (5, "samples=10000000", "too many samples"),
        (1, "samples=1", "one core only"),
    ] {
        let out = lab.boot(cores, words, &lab.out());
        assert_eq!(out.status.code(), Some(3), "{words}");
        let message = bare::read(&lab.path("log")).unwrap_err().to_string();
        assert!(message.contains("refused") && message.contains(what), "{words}: {message}");
    }
}

#[test]
fn the_meter_refuses_to_load_without_a_place_for_its_counts() {
    let lab = Lab::new();
    for (arguments, what) in [
        ("", "give out=FILE"),
        (",out=/proc/no/such", "cannot write /proc/no/such"),
        (",colour=red", "unknown or repeated argument 'colour=red'"),
    ] {
        let out = lab.boot(2, "samples=1 work=3", arguments);
        let message = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && out.status.code() != Some(3), "{arguments}");
        assert!(message.contains(what), "{arguments}: {message}");
    }
}
