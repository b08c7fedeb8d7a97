//! The coordinator: jobs write to shared storage one after the other, and without it as if there had never been one.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::{BINARY, free_addrs, wait_for, write_key};
use gossip_checkpoint::comm::threads::Thread;
use gossip_checkpoint::session::{Options, Session};
use gossip_checkpoint_model::coordinator::{Hello, Permit, Standing};
use gossip_mgr::config::Config;
use gossip_mgr::coordinate::{Address, Link};
use gossip_mgr::key;

struct Coordinator {
    dir: tempfile::TempDir,
    address: String,
    child: Option<Child>,
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Coordinator {
    /// At an address that is free, with a key.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_key(&dir.path().join("key"), 9);
        let address = free_addrs(1)[0].to_string();
        let mut new = Self { dir, address, child: None };
        new.write_config("node", "");
        new.start();
        new
    }

    fn config(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.toml"))
    }

    fn write_config(&self, name: &str, levels: &str) {
        let at = |what: &str| self.dir.path().join(format!("{name}-{what}")).display().to_string();
        let text = format!(
            "[node]\nkey_file = '{}'\n[checkpoint]\nnode = 'n0'\nstore = '{}'\nshared = '{}'\nsocket = '{}'\n\
             coordinator = '{}'\nnodes = [{{ name = 'n0', address = '{}' }}]\n{levels}",
            self.dir.path().join("key").display(),
            at("store"),
            self.dir.path().join("shared").display(),
            at("socket"),
            self.address,
            free_addrs(1)[0],
        );
        fs::write(self.config(name), text).unwrap();
    }

    fn start(&mut self) {
        let mut command = Command::new(BINARY);
        command.args(["coordinate", "--config"]).arg(self.config("node")).stdin(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        wait_for("the coordinator answers", || self.show().status.success().then_some(()));
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn show(&self) -> Output {
        coordinate(&["--show", "--json", "--config", self.config("node").to_str().unwrap()])
    }

    fn standings(&self) -> Vec<Standing> {
        serde_json::from_slice(&self.show().stdout).unwrap()
    }

    fn link(&self) -> Link {
        let key = key::load(&self.dir.path().join("key")).unwrap();
        Link::new(self.address.parse().unwrap(), key.of_coordinators())
    }
}

fn coordinate(args: &[&str]) -> Output {
    Command::new(BINARY).arg("coordinate").args(args).stdin(Stdio::null()).output().unwrap()
}

/// The answer; on a busy machine it may come too late at first.
fn asked(link: &mut Link, job: &str, work_since_s: f64) -> Permit {
    wait_for("the coordinator answers", || link.ask(job, hello(job), work_since_s))
}

fn hello(job: &str) -> Hello {
    Hello { job: job.into(), nodes: 4, bytes: 1 << 30, interval_s: 100.0, mtbf_s: 10_000.0 }
}

#[test]
fn one_job_writes_at_a_time() {
    let coordinator = Coordinator::new();
    let (mut a, mut b) = (coordinator.link(), coordinator.link());
    assert_eq!(asked(&mut a, "a", 120.0), Permit::Write);
    assert!(matches!(asked(&mut b, "b", 120.0), Permit::Wait { .. }));
    assert!(matches!(asked(&mut b, "c", 120.0), Permit::Wait { .. }), "another job of the same daemon");
    let states: Vec<(String, bool)> = coordinator.standings().into_iter().map(|s| (s.hello.job, s.writes)).collect();
    assert_eq!(states, [("a", true), ("b", false), ("c", false)].map(|(job, writes)| (job.to_owned(), writes)));
    a.done("a", Some(2.0));
    wait_for("one of the others writes", || {
        let next = ["b", "c"].map(|job| asked(&mut b, job, 121.0));
        assert!(next.iter().filter(|permit| **permit == Permit::Write).count() <= 1, "{next:?}");
        next.contains(&Permit::Write).then_some(())
    });
    let table = coordinate(&["--show", "--config", coordinator.config("node").to_str().unwrap()]);
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("STATE") && table.contains("writes") && table.contains("2.0 s"), "{table}");
}

#[test]
fn a_daemon_that_dies_gives_its_jobs_slots_back() {
    let coordinator = Coordinator::new();
    let (mut a, mut b) = (coordinator.link(), coordinator.link());
    assert_eq!(asked(&mut a, "a", 120.0), Permit::Write);
    assert!(matches!(asked(&mut b, "b", 120.0), Permit::Wait { .. }));
    drop(a);
    wait_for("the slot is free", || (b.ask("b", hello("b"), 121.0) == Some(Permit::Write)).then_some(()));
}

#[test]
fn without_the_coordinator_everybody_writes_and_with_a_new_one_all_is_as_before() {
    let mut coordinator = Coordinator::new();
    let (mut a, mut b) = (coordinator.link(), coordinator.link());
    assert_eq!(asked(&mut a, "a", 120.0), Permit::Write);
    coordinator.kill();
    assert_eq!(b.ask("b", hello("b"), 120.0), None);
    assert_eq!(a.ask("a", hello("a"), 120.0), None);
    a.done("a", Some(1.0));
    coordinator.start();
    wait_for("a is heard again", || (a.ask("a", hello("a"), 120.0) == Some(Permit::Write)).then_some(()));
    assert!(matches!(asked(&mut b, "b", 120.0), Permit::Wait { .. }));
}

#[test]
fn who_has_another_key_is_not_heard() {
    let coordinator = Coordinator::new();
    let mut stranger = Link::new(coordinator.address.parse().unwrap(), [7; 32]);
    assert_eq!(stranger.ask("a", hello("a"), 120.0), None);
    assert!(coordinator.standings().is_empty());
}

#[test]
fn what_is_wrong_is_told() {
    let told = |args: &[&str]| {
        let output = coordinate(args);
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (status, text) = told(&[]);
    assert!(status == Some(3) && text.contains("Give --listen, or --config"), "{text}");
    let (status, text) = told(&["--listen", "127.0.0.1:7800"]);
    assert!(status == Some(3) && text.contains("key_file"), "{text}");
    let (status, text) = told(&["--listen", "here"]);
    assert!(status == Some(2) && text.contains("as 10.0.0.1:7800, or the path of a Unix socket"), "{text}");
    let (status, text) = told(&["--listen", "/nonexistent/socket"]);
    assert!(status == Some(1) && text.contains("cannot listen at /nonexistent/socket"), "{text}");
    let (status, text) = told(&["--show", "--listen", "/nonexistent/socket"]);
    assert!(status == Some(4) && text.contains("no coordinator answers at /nonexistent/socket"), "{text}");
    let coordinator = Coordinator::new();
    let (status, text) = told(&["--config", coordinator.config("node").to_str().unwrap()]);
    assert!(status == Some(1) && text.contains("cannot listen at"), "{text}");
}

#[test]
fn the_socket_of_one_that_was_killed_is_taken_over_and_that_of_one_that_runs_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("socket");
    let start = || {
        let mut command = Command::new(BINARY);
        command.args(["coordinate", "--listen"]).arg(&socket).stdin(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let address = Address::Unix(socket.clone());
        let mut link = Link::new(address, [0; 32]);
        wait_for("it answers", || {
            link = Link::new(Address::Unix(socket.clone()), [0; 32]);
            link.ask("a", hello("a"), 0.0)
        });
        child
    };
    let mut first = start();
    let second = coordinate(&["--listen", socket.to_str().unwrap()]);
    assert!(String::from_utf8(second.stderr).unwrap().contains("another one answers there"));
    first.kill().unwrap();
    first.wait().unwrap();
    let mut third = start();
    third.kill().unwrap();
    third.wait().unwrap();
}

/// Makes a file when it goes, also if the test fails.
struct MakesFile<'a>(&'a Path);

impl Drop for MakesFile<'_> {
    fn drop(&mut self) {
        let _ = fs::write(self.0, "");
    }
}

/// A job of one rank under its own agent: how many checkpoints it wrote until `end` says so.
fn job(coordinator: &Coordinator, name: &str, end: &Path) -> u32 {
    let config = Config::load(&coordinator.config(name)).unwrap();
    let key = key::load(config.node.key_file.as_ref().unwrap()).unwrap();
    let section = config.checkpoint.unwrap();
    let _agent = section.start(&key, std::sync::Arc::default()).unwrap();
    let options = Options {
        job: name.parse().unwrap(),
        program: "p".into(),
        socket: section.socket.clone(),
        prefix: coordinator.dir.path().into(),
        is_restarted: false,
    };
    let comm = Thread::group(1).pop().unwrap();
    let mut session = Session::start(comm, options).unwrap();
    let mut count = 0;
    while !end.exists() {
        std::thread::sleep(Duration::from_millis(5));
        if session.need_checkpoint() {
            session.start_output(None, false).unwrap();
            fs::write(session.route("state").unwrap(), vec![count as u8; 100_000]).unwrap();
            session.complete_output(true).unwrap();
            count += 1;
        }
    }
    session.finish();
    count
}

#[test]
fn jobs_go_on_when_the_coordinator_is_killed_and_when_it_comes_back() {
    let mut coordinator = Coordinator::new();
    let names = ["a", "b", "c"];
    for name in names {
        coordinator.write_config(name, "levels = [{ kind = 'shared', interval_s = 0.05 }]\n");
    }
    let end = coordinator.dir.path().join("end");
    let shared = coordinator.dir.path().join("shared");
    let newest = |name: &str| {
        let mut open = vec![shared.clone()];
        let mut most = 0;
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
                let is_of_job = entry.path().components().any(|part| part.as_os_str() == name);
                let number = entry.file_name().to_string_lossy().split('-').nth(1).and_then(|n| n.parse::<u32>().ok());
                most = most.max(number.filter(|_| is_of_job).unwrap_or(0));
                open.push(entry.path());
            }
        }
        most
    };
    let all_go_on = |by: u32| {
        let before = names.map(newest);
        wait_for("all write", || names.iter().zip(before).all(|(name, old)| newest(name) >= old + by).then_some(()));
    };
    let standings = || coordinator.standings().len();
    std::thread::scope(|scope| {
        let jobs = names.map(|name| {
            let coordinator = &coordinator;
            let end = &end;
            scope.spawn(move || job(coordinator, name, end))
        });
        let all_end = MakesFile(&end);
        all_go_on(2);
        wait_for("all have asked", || (standings() == 3).then_some(()));
        kill(&coordinator);
        all_go_on(2);
        let _again = restart(&coordinator);
        wait_for("the coordinator answers", || coordinator.show().status.success().then_some(()));
        wait_for("all ask again", || (standings() == 3).then_some(()));
        all_go_on(2);
        drop(all_end);
        for job in jobs {
            assert!(job.join().unwrap() >= 6);
        }
    });
    coordinator.kill();
}

fn kill(coordinator: &Coordinator) {
    let pid = coordinator.child.as_ref().unwrap().id();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// Ends with the test.
struct Again(Child);

impl Drop for Again {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn restart(coordinator: &Coordinator) -> Again {
    let mut command = Command::new(BINARY);
    command.args(["coordinate", "--config"]).arg(coordinator.config("node")).stdin(Stdio::null()).stderr(Stdio::null());
    Again(command.spawn().unwrap())
}
