//! Tests inside Linux on Tacet: what programs expect of Linux, and decoupling. One boot runs them all; a second one looks at
//! what the first left on the disk.

use super::tally::Tally;
use super::{modes, smp};
use crate::build::Builder;
use crate::child::Running;
use crate::job::{self, Job, JobFile};
use crate::qemu::{Accelerator, Machine, System};
use crate::tail;
use anyhow::{Context, Result, bail};
use fs_err as fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(20 * 60);

/// The greeting that a guest fetches over TCP.
const GREETING: &str = "hello from outside";

/// Shell commands with Debian's own programs, one test a line: name, command. Status 0 passes.
const PROGRAMS: &[(&str, &str)] = &[
    (
        "bash runs a pipeline",
        "bash -o pipefail -c 'mapfile -t n < <(seq 100 | sort -rn); [[ ${#n[@]} == 100 && ${n[0]} == 100 ]]'",
    ),
    (
        "python3 runs threads and processes",
        "python3 -c 'import multiprocessing as m, threading as t\nr=[]\nt1=t.Thread(target=lambda: r.append(1)); t1.start(); t1.join()\nassert r==[1]\np=m.Pool(2); assert p.map(abs, range(-5,0))==[5,4,3,2,1]'",
    ),
    ("apt lists packages", "apt list --installed 2>/dev/null | grep -q '^openmpi-bin/'"),
    ("strace sees a system call", "strace -f -o /tmp/trace sh -c true && grep -q execve /tmp/trace"),
    (
        "gdb stops at a breakpoint",
        "gdb -q -batch -ex 'set breakpoint pending on' -ex 'break write' -ex run -ex bt --args /bin/echo hi 2>&1 | tee /dev/stderr | grep -q '^Breakpoint 1, '",
    ),
    (
        "mpirun runs two ranks undecoupled",
        "OMPI_MCA_mpi_yield_when_idle=1 mpirun -n 2 sh -c 'echo rank $OMPI_COMM_WORLD_RANK' | sort | tr '\\n' ' ' | grep -q 'rank 0 rank 1'",
    ),
    (
        "a sleep lasts as long as it was asked to",
        "python3 -c 'import time; a=time.monotonic(); time.sleep(0.2); b=time.monotonic(); assert 0.2 <= b-a < 20, b-a'",
    ),
    (
        "gossip-mgr shows which compute cores are free",
        "gossip-mgr run >/tmp/gossip.log 2>&1 & sees() { for i in $(seq 60); do gossip-mgr status | tee /tmp/status | grep -q \" $1 \" && return; sleep 0.5; done; cat /tmp/status /tmp/gossip.log; false; }\nsees 2/2 && { decouple sh -c 'while :; do :; done' & } && sees 1/2 && kill $! && sees 2/2",
    ),
    ("the wall clock is of this decade", "[ \"$(date +%Y)\" -ge 2026 ]"),
];

/// What the first boot runs: the file of its output, what stands before the names of its tests, and whether it tells at its
/// end how many there were.
const SUITES: &[(&str, &str, bool)] = &[
    ("os-test", "linux", true),
    ("programs", "linux", false),
    ("decouple-test", "decouple", true),
    ("decouple-quiet", "decouple", true),
    ("stress", "decouple", false),
    ("tables-test", "tables", true),
    ("tables-test-decoupled", "tables, decoupled", true),
    ("tables-test-crowd", "tables", true),
    ("tools", "decouple", false),
    ("modes", "modes", false),
];

/// From this exit status on it was not the program that ended: `timeout` and the shell use them (a signal is 128 and more).
const CUT_OFF: u32 = 124;

/// Runs those whose name contains `filter`.
pub fn run(builder: &Builder, filter: Option<&str>, tally: &mut Tally) -> Result<()> {
    let root = builder.tree().root();
    let programs = builder.cache().work("guest-tests")?;
    compile(builder, &programs)?;
    // A disk of its own, which stays between the two boots.
    let folder = tempfile::tempdir_in(builder.cache().work("guest-tests")?)?;
    let disk = folder.path().join("disk.ext4");
    let mut copy = Command::new("cp");
    copy.args(["--sparse=always", "--reflink=auto"]).arg(builder.image()?).arg(&disk);
    if !Running::start(&mut copy, "the copy of the image")?.wait()?.success() {
        bail!("cannot copy the image to {}", disk.display());
    }
    let port = serve_greeting()?;
    let wanted = |name: &str| filter.is_none_or(|filter| name.contains(filter));
    let (mut files, modes) = modes::job_parts(builder, &root.join("linux-guest-patches/tests/modes"), &|_| true)?;
    files.push(("job.sh".into(), first_script(port, &modes).into_bytes()));
    for folder in [&programs.join("bin"), &root.join("decouple/tests/guest")] {
        for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_file() {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let place = if folder.ends_with("bin") { format!("bin/{name}") } else { format!("decouple/{name}") };
                files.push((place, fs::read(&path)?));
            }
        }
    }
    let (kernel, archive) = builder.tacet_archive()?;
    let machine = Machine { cores: 3, memory: "1G".into(), accelerator: Accelerator::Tcg, extra: Vec::new() };
    let boot = |files: &[JobFile]| {
        let system = System::Tacet { kernel: &kernel, archive: &archive, service_cores: 1 };
        let job = Job {
            machine: &machine,
            system,
            image: &disk,
            keep_image: true,
            files,
            words: "",
            meter: None,
            timeout: TIMEOUT,
        };
        job::run(&job, |_| {}).and_then(|outcome| outcome.expect_success("the guest tests").map(|()| outcome))
    };
    let name = "guest: Linux on Tacet boots, runs the tests and powers off";
    let outcome = match boot(&files) {
        Ok(outcome) => outcome,
        Err(error) => {
            tally.fail(name, &format!("{error:#}"));
            return Ok(());
        }
    };
    if wanted(name) {
        tally.record(
            name,
            if outcome.exit == Some(1) { Ok(()) } else { Err(anyhow::anyhow!("QEMU ended with {:?}", outcome.exit)) },
        );
    }
    for (suite, title, planned) in SUITES {
        read_suite(&outcome.results().join(suite), title, *planned, &wanted, tally);
    }
    let name = "linux: files survive a reboot, and gossip-mgr starts once it is configured";
    if wanted(name) {
        tally.record(name, boot(&[("job.sh".into(), SECOND_SCRIPT.as_bytes().to_vec())]).map(drop));
    }
    smp::run(builder, &programs, &wanted, tally)
}

/// The output of one suite: its results, and whether it ended as it should.
pub fn read_suite(path: &Path, title: &str, planned: bool, wanted: &dyn Fn(&str) -> bool, tally: &mut Tally) {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines = read_lines(&text, title, wanted, tally);
    if let Err(error) = ends_in_order(&text, lines, planned) {
        let suite = path.file_name().unwrap_or_default().to_string_lossy();
        tally.fail(
            &format!("{title}: {suite} ends in order"),
            &format!("{error:#}; its last lines:\n{}", tail::lines(&text, 12)),
        );
    }
}

/// The script of the second boot. The configuration that the first one wrote makes the init start gossip-mgr.
const SECOND_SCRIPT: &str = "cd /root && sha256sum -c kept.sum || exit 1
for i in $(seq 60); do gossip-mgr status --config /etc/gossip-mgr.toml && exit 0; sleep 0.5; done
cat /var/log/gossip-mgr.log
exit 1
";

/// The lines `ok …` and `not ok …` of a test program, with or without a number; how many there are.
pub fn read_lines(text: &str, title: &str, wanted: &dyn Fn(&str) -> bool, tally: &mut Tally) -> usize {
    let mut lines = 0;
    let clean = |rest: &str| match rest.split_once(" - ") {
        Some((number, name)) if number.parse::<u32>().is_ok() => name.to_owned(),
        _ => rest.to_owned(),
    };
    let is_result = |line: &str| line.starts_with("ok ") || line.starts_with("not ok ");
    let all: Vec<&str> = text.lines().collect();
    for (at, line) in all.iter().enumerate() {
        if let Some(rest) = line.strip_prefix("not ok ") {
            lines += 1;
            let name = format!("{title}: {}", clean(rest));
            if wanted(&name) {
                // What a program said lies between its neighbours' results, before its own or after it.
                let from = all[..at].iter().rposition(|line| is_result(line)).map_or(0, |before| before + 1);
                let to =
                    all[at + 1..].iter().position(|line| is_result(line)).map_or(all.len(), |after| at + 1 + after);
                tally.fail(&name, &tail::lines(&all[from..to].join("\n"), 12));
            }
        } else if let Some(rest) = line.strip_prefix("ok ") {
            lines += 1;
            let name = format!("{title}: {}", clean(rest));
            if wanted(&name) {
                tally.pass(&name);
            }
        }
    }
    lines
}

/// An error where a program broke off: the line `status N` that the shell writes behind it is not its last, N is not its own,
/// or it has not told of as many tests as its line `1..N` says.
fn ends_in_order(text: &str, lines: usize, planned: bool) -> Result<()> {
    let status = text.lines().last().and_then(|line| line.strip_prefix("status ")?.parse::<u32>().ok());
    match status {
        None => bail!("it did not end"),
        Some(status) if status >= CUT_OFF => bail!("it was cut off: status {status}"),
        Some(_) => {}
    }
    if planned {
        let plan = text.lines().find_map(|line| line.strip_prefix("1..")?.parse::<usize>().ok());
        if plan != Some(lines) {
            bail!("it told of {lines} tests and planned {plan:?}");
        }
    } else if lines == 0 {
        bail!("it told of no test");
    }
    Ok(())
}

/// The script of the first boot. Each suite's output ends with the line `status N`.
fn first_script(port: u16, modes: &str) -> String {
    let mut script = String::from(
        "cd /run/job && chmod +x bin/* && head -c 3000000 /dev/urandom >/root/kept && (cd /root && sha256sum kept >kept.sum) || exit 1\n\
         ! gossip-mgr status 2>/dev/null && printf '[advice]\\ninterval_s = 5\\n' >/etc/gossip-mgr.toml || exit 1\n\
         export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1\n\
         (timeout 300 bin/os-test; echo status $?) >results/os-test 2>&1\n\
         (timeout 300 bin/decouple-test; echo status $?) >results/decouple-test 2>&1\n\
         (timeout 300 bin/decouple-quiet; echo status $?) >results/decouple-quiet 2>&1\n\
         (timeout 300 bin/decouple-stress 8; s=$?; [ $s = 0 ] || printf 'not '; echo 'ok random attaches, detaches, signals and kills'; echo status $s) >results/stress 2>&1\n\
         (timeout 900 sh decouple/run.sh bin; echo status $?) >results/tools 2>&1\n\
         (timeout 300 bin/tables-test; echo status $?) >results/tables-test 2>&1\n\
         (timeout 300 decouple bin/tables-test; echo status $?) >results/tables-test-decoupled 2>&1\n\
         (timeout 300 bin/tables-test crowd; echo status $?) >results/tables-test-crowd 2>&1\n\
         check() { if sh -c \"$2\" >/tmp/check.out 2>&1; then echo \"ok $1\"; else cat /tmp/check.out; echo \"not ok $1\"; fi; }\n\
         {\n",
    );
    for (name, command) in PROGRAMS {
        script.push_str(&format!("check '{name}' '{}'\n", command.replace('\'', "'\\''")));
    }
    let fetch = format!(
        "python3 -c \"import socket; s=socket.create_connection((\\\"10.0.2.2\\\",{port}),60); assert s.makefile().read()==\\\"{GREETING}\\\"\""
    );
    script.push_str(&format!("check 'TCP reaches the outside' '{}'\n", fetch.replace('\'', "'\\''")));
    script.push_str("echo status 0\n} >results/programs 2>&1\n");
    script.push_str(&format!("{{\n{modes}echo status 0\n}} >results/modes 2>&1\nsync\nexit 0\n"));
    script
}

/// Compiles the test programs into `folder`/bin.
fn compile(builder: &Builder, folder: &Path) -> Result<()> {
    let root = builder.tree().root();
    let bin = folder.join("bin");
    fs::create_dir_all(&bin)?;
    let tests = root.join("linux-guest-patches/tests");
    for name in ["os-test", "decouple-test", "decouple-quiet", "decouple-stress", "tables-test", "smp-test"] {
        let mut command = Command::new("gcc");
        command.args(["-static", "-O2", "-pthread", "-I"]).arg(root.join("linux-guest-patches/files/include/uapi"));
        command.arg("-o").arg(bin.join(name)).arg(tests.join(format!("{name}.c")));
        must(&mut command, &format!("the compilation of {name}.c"))?;
    }
    let mut command = Command::new("sh");
    command.arg(root.join("decouple/tests/guest/build.sh")).arg(&bin).env("LIBDECOUPLE", &builder.tools()?.folder);
    must(&mut command, "decouple/tests/guest/build.sh")
}

fn must(command: &mut Command, what: &str) -> Result<()> {
    if !Running::start(command, what)?.wait()?.success() {
        bail!("{what} failed; its messages are above");
    }
    Ok(())
}

/// Gives whoever connects the greeting, for as long as mk runs.
fn serve_greeting() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free TCP port")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let mut connection = connection;
            // A guest that went away does not concern the next one.
            let _ = connection.write_all(GREETING.as_bytes());
        }
    });
    Ok(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_lines_are_read() {
        let mut tally = Tally::default();
        let text = "ok 3 - first\n# note\nok second thing\nnot ok third: why\n";
        assert_eq!(read_lines(text, "x", &|_| true, &mut tally), 3);
        assert_eq!(tally.passed(), 2);
        assert_eq!(tally.failed(), ["x: third: why"]);
    }

    #[test]
    fn a_program_that_broke_off_has_not_passed() {
        let ends = |text: &str, planned| ends_in_order(text, text.matches("ok ").count(), planned).is_ok();
        assert!(ends("ok 1 - a\nok 2 - b\n1..2\nstatus 0\n", true));
        assert!(ends("ok 1 - a\nnot ok 2 - b\n1..2\nstatus 1\n", true));
        assert!(ends("ok a\nstatus 0\n", false));
        assert!(!ends("ok 1 - a\n1..2\nstatus 0\n", true), "a test is missing");
        assert!(!ends("ok 1 - a\nBail out!\nstatus 1\n", true), "no plan");
        assert!(!ends("ok 1 - a\n1..1\nSegmentation fault\nstatus 139\n", true), "a signal");
        assert!(!ends("ok a\nstatus 124\n", false), "too late");
        assert!(!ends("ok a\n", false), "the machine ended first");
        assert!(!ends("status 0\n", false), "nothing was tested");
    }
}
