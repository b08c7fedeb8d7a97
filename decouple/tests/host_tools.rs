//! The programs and libraries as users run them, on any Linux. `host/fakedev.c`, preloaded into them, stands for the
//! driver.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use tempfile::TempDir;

const FILES: [&str; 11] =
    ["pid", "tid", "uid", "reserved_by", "file", "since_ns", "syscalls", "faults", "traps", "stops", "answer_ns"];

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// Builds what the tests need, once: the libraries by Cargo, the rest by the C compilers.
static BUILD: LazyLock<()> = LazyLock::new(|| {
    let libraries = ["capi", "preload"].map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join(name).join("Cargo.toml"));
    for manifest in libraries {
        // The tools look for the preload library beside themselves.
        let target = Path::new(env!("CARGO_BIN_EXE_decouple")).parent().unwrap().parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--manifest-path"]).arg(manifest).arg("--target-dir").arg(target);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        assert!(cargo.status().unwrap().success());
    }
    let uapi = source("../../linux-guest-patches/files/include/uapi/linux");
    let uapi = uapi.to_str().unwrap();
    compile("cc", "host/fakedev.c", "fakedev.so", &["-shared", "-fPIC", "-I", uapi]);
    compile("mpicc", "guest/src/mpi_hello.c", "mpi_hello", &[]);
    compile("mpicc", "guest/src/mpi_plugin.c", "mpi_plugin.so", &["-shared", "-fPIC"]);
    compile("mpicc", "host/mpi_fortran.c", "mpi_fortran", &["-lmpi_mpifh"]);
    compile("cc", "guest/src/hello_static.c", "hello_static", &["-static"]);
    let library = Path::new(env!("CARGO_BIN_EXE_decouple")).parent().unwrap().to_str().unwrap();
    let include = source("../include");
    let link = ["-I", include.to_str().unwrap(), "-L", library, "-ldecouple", "-Wl,-rpath", library];
    compile("cc", "guest/src/libuser.c", "libuser", &link);
});

fn compile(compiler: &str, from: &str, to: &str, options: &[&str]) {
    let mut command = Command::new(compiler);
    command.args(["-O1", "-Wall", "-Werror", "-o"]).arg(folder().join(to)).arg(source(from)).args(options);
    assert!(command.status().unwrap().success(), "{compiler} {from}");
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Where one of them is.
fn built(name: &str) -> PathBuf {
    LazyLock::force(&BUILD);
    folder().join(name)
}

/// A machine with the service core 0 and the compute cores 1 and 2.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Machine(tempfile::tempdir().unwrap());
        let write = |name: &str, text: &str| {
            let path = machine.0.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("dev", "");
        write("sys/cores", "1-2\n");
        write("sys/service_cores", "0\n");
        for core in [1, 2] {
            FILES.iter().for_each(|name| write(&format!("sys/core{core}/{name}"), "0\n"));
            write(&format!("sys/core{core}/state"), "idle\n");
            write(&format!("sys/core{core}/comm"), "\n");
            write(&format!("sys/core{core}/syscalls_by_number"), "");
        }
        machine
    }

    fn command(&self, line: &[&str]) -> Command {
        let program = match line[0] {
            "decouple" => PathBuf::from(env!("CARGO_BIN_EXE_decouple")),
            "recouple" => PathBuf::from(env!("CARGO_BIN_EXE_recouple")),
            "corectl" => PathBuf::from(env!("CARGO_BIN_EXE_corectl")),
            other => PathBuf::from(other),
        };
        let mut command = Command::new(program);
        command.args(&line[1..]);
        command.env("FAKE_DECOUPLE", self.0.path()).env("LD_PRELOAD", built("fakedev.so"));
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        command.env_remove("DECOUPLE").env_remove("DECOUPLE_RESERVATION");
        command
    }

    fn run(&self, line: &[&str]) -> Said {
        Said::of(self.command(line).output().unwrap())
    }

    fn value(&self, core: u32, name: &str) -> String {
        std::fs::read_to_string(self.0.path().join(format!("sys/core{core}/{name}"))).unwrap().trim().to_string()
    }
}

#[derive(Debug)]
struct Said {
    status: i32,
    out: String,
    err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        Said {
            status: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap()),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A process that waits until it is killed at the end of the test.
struct Sleeper(Child);

impl Sleeper {
    fn start(machine: &Machine) -> Self {
        Sleeper(machine.command(&["sleep", "600"]).stdin(Stdio::null()).spawn().unwrap())
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks the kernel's word for the core that the shell itself is on.
const WHERE: &str =
    "for c in 1 2; do read tid < $FAKE_DECOUPLE/sys/core$c/tid; if [ $tid = $$ ]; then echo on $c; fi; done";

#[test]
fn without_tacet_every_tool_says_so_with_status_125() {
    for line in [
        &["decouple", "true"][..],
        &["decouple", "-p", "1"],
        &["decouple", "status"],
        &["recouple", "-p", "1"],
        &["corectl", "list"],
    ] {
        let said = Said::of(Machine::new().command(line).env_remove("LD_PRELOAD").output().unwrap());
        let expected = format!("{}: this Linux does not run on Tacet: there is no /dev/decouple\n", line[0]);
        assert_eq!((said.status, said.err), (125, expected), "{line:?}");
    }
}

#[test]
fn without_tacet_prefer_warns_and_off_is_quiet() {
    let run = |policy| {
        let mut command = Machine::new().command(&["decouple", "--policy", policy, "sh", "-c", "exit 3"]);
        Said::of(command.env_remove("LD_PRELOAD").output().unwrap())
    };
    let prefer = run("prefer");
    assert_eq!(prefer.status, 3);
    assert!(prefer.err.starts_with("decouple: warning: sh runs undecoupled: this Linux does not"), "{prefer:?}");
    let off = run("off");
    assert_eq!((off.status, off.err.as_str()), (3, ""));
}

#[test]
fn usage_errors_have_status_125_and_help_has_0() {
    let machine = Machine::new();
    assert_eq!(machine.run(&["decouple"]).status, 125);
    assert_eq!(machine.run(&["decouple", "--nonsense", "ls"]).status, 125);
    assert_eq!(machine.run(&["recouple"]).status, 125);
    assert_eq!(machine.run(&["corectl", "fly"]).status, 125);
    let help = machine.run(&["decouple", "--help"]);
    assert_eq!(help.status, 0);
    assert!(help.out.contains("mpirun -n 2 decouple"), "{}", help.out);
}

#[test]
fn a_command_starts_decoupled_and_its_status_is_handed_on() {
    let machine = Machine::new();
    let said = machine.run(&["decouple", "-c", "2", "-v", "sh", "-c", &format!("{WHERE}; exit 7")]);
    assert_eq!((said.status, said.out.as_str()), (7, "on 2\n"), "{}", said.err);
    assert!(said.err.contains("(sh) decoupled onto core 2 at its start"), "{}", said.err);
    let said = machine.run(&["decouple", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(said.status, 128 + 15);
}

#[test]
fn children_start_undecoupled() {
    let said = Machine::new().run(&["decouple", "sh", "-c", &format!("{WHERE}; sh -c '{WHERE}'; sh -c 'exit 0'")]);
    assert_eq!((said.status, said.out.as_str(), said.err.as_str()), (0, "on 1\n", ""));
}

#[test]
fn a_command_that_replaces_itself_is_decoupled_still() {
    let said = Machine::new().run(&["decouple", "sh", "-c", &format!("exec sh -c '{WHERE}'")]);
    assert_eq!((said.status, said.out.as_str()), (0, "on 1\n"), "{}", said.err);
}

#[test]
fn a_taken_core_names_its_owner() {
    let machine = Machine::new();
    let sleeper = Sleeper::start(&machine);
    assert_eq!(machine.run(&["decouple", "-c", "1", "-p", &sleeper.pid()]).status, 0);
    let said = machine.run(&["decouple", "-c", "1", "true"]);
    let expected = format!("decouple: core 1 is taken by PID {} (sleep)\n", sleeper.pid());
    assert_eq!((said.status, said.err), (125, expected));
    let said = machine.run(&["decouple", "-p", &sleeper.pid()]);
    let expected = format!("decouple: thread {0} of PID {0} (sleep) already is decoupled, on core 1\n", sleeper.pid());
    assert_eq!((said.status, said.err), (125, expected));
    assert_eq!(machine.run(&["recouple", "-p", &sleeper.pid()]).status, 0);
    assert_eq!(machine.run(&["decouple", "-c", "1", "true"]).status, 0);
}

#[test]
fn bad_cores_and_processes_are_named() {
    let machine = Machine::new();
    let said = |line: &[&str]| {
        let said = machine.run(line);
        assert_eq!(said.status, 125);
        said.err
    };
    assert_eq!(
        said(&["decouple", "-c", "0", "true"]),
        "decouple: core 0 is a service core of Linux: compute cores are 1-2\n"
    );
    assert_eq!(said(&["decouple", "-c", "7", "true"]), "decouple: core 7 does not exist: compute cores are 1-2\n");
    assert_eq!(said(&["decouple", "-p", "999999999"]), "decouple: there is no process with PID 999999999\n");
    let said = said(&["recouple", "-p", &std::process::id().to_string()]);
    assert!(said.ends_with("has no decoupled thread\n"), "{said}");
}

#[test]
fn static_programs_are_decoupled_from_outside() {
    let machine = Machine::new();
    let program = built("hello_static");
    let program = program.to_str().unwrap();
    let said = machine.run(&["decouple", "-v", program, "5"]);
    assert_eq!((said.status, said.out.as_str()), (5, "hello\n"));
    assert!(said.err.contains("(hello_static) decoupled onto core 1 at its start"), "{}", said.err);
    assert_eq!(machine.run(&["decouple", program, "signal"]).status, 128 + 15);
    let said = machine.run(&["decouple", "--after-init", program]);
    assert_eq!(said.status, 125);
    assert!(said.err.contains("cannot wait for MPI_Init") && said.err.contains("linked statically"), "{}", said.err);
}

#[test]
fn ranks_are_decoupled_when_mpi_init_returns() {
    let machine = Machine::new();
    let program = built("mpi_hello");
    let mpirun = ["mpirun", "--oversubscribe", "-n", "2", env!("CARGO_BIN_EXE_decouple"), program.to_str().unwrap()];
    let said = machine.run(&mpirun);
    let mut lines: Vec<&str> = said.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(said.status, 0, "{said:?}");
    assert_eq!(lines, ["rank 0 of 2: before 0 after 1 sum 2", "rank 1 of 2: before 0 after 2 sum 2"], "{}", said.err);
}

#[test]
fn too_many_ranks_end_the_job() {
    let program = built("mpi_hello");
    let mpirun = ["mpirun", "--oversubscribe", "-n", "3", env!("CARGO_BIN_EXE_decouple"), program.to_str().unwrap()];
    let said = Machine::new().run(&mpirun);
    assert_ne!(said.status, 0);
    assert!(said.err.contains("local MPI rank 2 of 3 has no compute core: there are only 2 (1-2)"), "{}", said.err);
}

#[test]
fn a_rank_that_never_calls_mpi_init_is_found_out() {
    let machine = Machine::new();
    let with_rank = |line: &[&str]| {
        let mut command = machine.command(line);
        Said::of(command.env("OMPI_COMM_WORLD_LOCAL_RANK", "0").output().unwrap())
    };
    let said = with_rank(&["decouple", "sh", "-c", "echo done"]);
    assert_eq!((said.status, said.out.as_str()), (125, "done\n"));
    assert!(said.err.contains("ended without calling MPI_Init"), "{}", said.err);
    let said = with_rank(&["decouple", "python3", "-c", "print('done')"]);
    assert_eq!((said.status, said.out.as_str()), (125, "done\n"), "{}", said.err);
    let said = with_rank(&["decouple", "--policy=prefer", "sh", "-c", "exit 0"]);
    assert_eq!(said.status, 0);
    assert!(said.err.contains("warning: the program ended without"), "{}", said.err);
    // A program that fails says why by itself.
    let said = with_rank(&["decouple", "sh", "-c", "exit 4"]);
    assert_eq!((said.status, said.err.as_str()), (4, ""));
    assert_eq!(with_rank(&["decouple", "--now", "sh", "-c", "exit 0"]).status, 0);
}

#[test]
fn mpi_init_in_a_child_of_a_script_counts() {
    let program = built("mpi_hello");
    let script = format!("{}; exit $?", program.display());
    let said = Machine::new().run(&["mpirun", "-n", "1", env!("CARGO_BIN_EXE_decouple"), "sh", "-c", &script]);
    assert_eq!((said.status, said.out.as_str()), (0, "rank 0 of 1: before 0 after 1 sum 1\n"), "{}", said.err);
}

#[test]
fn mpi_that_is_loaded_late_counts() {
    let library = built("mpi_plugin.so");
    let script = format!("import ctypes; print(ctypes.CDLL('{}').run())", library.display());
    let line = ["mpirun", "-n", "1", env!("CARGO_BIN_EXE_decouple"), "-v", "python3", "-c", &script];
    let said = Machine::new().run(&line);
    assert_eq!((said.status, said.out.as_str()), (0, "42\n"), "{}", said.err);
    assert!(said.err.contains("decoupled onto core 1 after MPI_Init"), "{}", said.err);
}

#[test]
fn the_fortran_entry_points_count() {
    let program = built("mpi_fortran");
    for entry in ["mpi_init_", "mpi_init_thread_"] {
        let line = ["mpirun", "-n", "1", env!("CARGO_BIN_EXE_decouple"), "-v", program.to_str().unwrap(), entry];
        let said = Machine::new().run(&line);
        assert_eq!((said.status, said.out.as_str()), (0, "size 1\n"), "{}", said.err);
        assert!(said.err.contains("(mpi_fortran) decoupled onto core 1 after MPI_Init"), "{}", said.err);
    }
}

#[test]
fn a_reservation_keeps_others_out_and_lets_its_command_in() {
    let machine = Machine::new();
    let decouple = env!("CARGO_BIN_EXE_decouple");
    let said = machine.run(&["corectl", "reserve", "2", "--", decouple, "sh", "-c", WHERE]);
    assert_eq!((said.status, said.out.as_str()), (0, "on 2\n"), "{}", said.err);

    let said = machine.run(&["corectl", "reserve", "1-2"]);
    assert_eq!(said.status, 0, "{}", said.err);
    let holder = machine.value(1, "reserved_by");
    let told =
        format!("reserved cores 1-2: use them with --reservation {holder}, give them up with corectl release 1-2\n");
    assert_eq!(said.out, told);
    let said = machine.run(&["decouple", "-c", "1", "true"]);
    let expected = format!("decouple: core 1 is reserved by PID {holder} (corectl-hold)\n");
    assert_eq!((said.status, said.err), (125, expected));
    let said = machine.run(&["decouple", "--reservation", &holder, "sh", "-c", WHERE]);
    assert_eq!((said.status, said.out.as_str()), (0, "on 1\n"), "{}", said.err);
    let said = machine.run(&["corectl", "reserve", "auto"]);
    assert_eq!(said.status, 125);
    assert!(said.err.contains("core 1 is reserved by PID"), "{}", said.err);

    assert_eq!(machine.run(&["corectl", "release", "1"]).status, 0);
    assert_eq!(machine.run(&["corectl", "list", "--free"]).out, "1\n");
    assert_eq!(machine.run(&["corectl", "release", "all"]).status, 0);
    assert_eq!(machine.run(&["corectl", "list", "--free"]).out, "1-2\n");
    let said = machine.run(&["corectl", "release", "1"]);
    assert_eq!((said.status, said.err.as_str()), (125, "corectl: core 1 is not reserved\n"));
    let said = machine.run(&["decouple", "--reservation", &holder, "true"]);
    assert_eq!(said.status, 125);
    assert!(said.err.ends_with("is gone, and its cores with it\n"), "{}", said.err);
}

#[test]
fn reset_brings_everything_back() {
    let machine = Machine::new();
    let sleeper = Sleeper::start(&machine);
    assert_eq!(machine.run(&["corectl", "reserve", "2"]).status, 0);
    assert_eq!(machine.run(&["decouple", "-c", "1", "-p", &sleeper.pid()]).status, 0);
    assert_eq!(machine.run(&["corectl", "reset", "--dry-run"]).status, 0);
    assert_eq!(machine.run(&["corectl", "list", "--free"]).out, "\n");
    let said = machine.run(&["corectl", "reset"]);
    assert_eq!(said.status, 0, "{}", said.err);
    assert_eq!(machine.run(&["corectl", "list", "--free"]).out, "1-2\n");
}

#[test]
fn status_shows_the_decoupled_process() {
    let machine = Machine::new();
    let sleeper = Sleeper::start(&machine);
    assert_eq!(machine.run(&["decouple", "-p", &sleeper.pid()]).status, 0);
    let text = machine.run(&["decouple", "status"]).out;
    let row: Vec<&str> = text.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!(row[..5], ["1", "running", &sleeper.pid(), &sleeper.pid(), "sleep"], "{text}");
    let json: serde_json::Value = serde_json::from_str(&machine.run(&["decouple", "status", "--json"]).out).unwrap();
    assert_eq!(json["cores"][1]["pid"].to_string(), sleeper.pid());
    let said = machine.run(&["decouple", "status", "--watch=-1"]);
    assert_eq!(said.status, 125);
}

#[test]
fn the_c_library_does_what_the_tools_do() {
    let machine = Machine::new();
    let said = machine.run(&[built("libuser").to_str().unwrap()]);
    assert_eq!((said.status, said.out.as_str()), (0, "ok libuser\n"), "{}", said.err);
}
