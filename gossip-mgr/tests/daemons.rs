//! Real daemons on loopback: killed, stopped, fed garbage, given wrong keys and wrong configurations.

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use common::{BINARY, Cluster, PERIOD, alive, incarnation_of, state_of, wait_for, write_key};
use gossip_mgr::advice::Advice;
use gossip_mgr::view::{Explained, Status};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn sixteen_daemons_find_each_other_and_notice_death_stop_and_restart() {
    let mut cluster = Cluster::new(16, "");
    for i in [0, 7, 15] {
        cluster.wait_alive(i, 16);
        cluster.wait(i, "a full board", |s| s.nodes.iter().all(|n| n.report.is_some()));
    }

    let (status, text) = output(&cluster.ask(0, &["explain", "10.9.9.9:1"]));
    assert!(status == Some(1) && text.contains("no such node"), "{text}");

    cluster.kill(3);
    let dead = cluster.addrs[3];
    // Its socket stays; nobody answers at it.
    for ask in [&["status"][..], &["explain", "10.9.9.9:1"]] {
        let (status, text) = output(&cluster.ask(3, ask));
        assert!(status == Some(4) && text.contains("gossip-mgr run"), "{text}");
    }
    let gone = |s: &Status| state_of(s, dead) == Some("dead");
    cluster.wait(0, "death of node 3", gone);
    cluster.wait(12, "death of node 3", gone);
    let explained: Explained =
        serde_json::from_slice(&cluster.ask(0, &["explain", &dead.to_string(), "--json"]).stdout).unwrap();
    assert_eq!(explained.state, "dead");
    assert!(explained.silence_s > 1.0, "{explained:?}");

    let before = cluster.wait(0, "old life", |_| true);
    let old = incarnation_of(&before, dead);
    cluster.start(3);
    cluster.wait(0, "new life of node 3", |s| alive(s) == 16 && incarnation_of(s, dead) > old);

    cluster.signal(5, Signal::SIGSTOP);
    let (status, text) = output(&cluster.ask(5, &["status"]));
    assert!(status == Some(4) && text.contains("longer than 5 s"), "{text}");
    let stopped = cluster.addrs[5];
    let gone = |s: &Status| state_of(s, stopped) == Some("dead");
    cluster.wait(1, "death of the stopped node", gone);
    cluster.signal(5, Signal::SIGCONT);
    cluster.wait_alive(1, 16);
    cluster.wait_alive(5, 16);

    // An orderly end is announced and leaves no socket behind.
    cluster.signal(9, Signal::SIGTERM);
    assert!(cluster.daemons[9].take().unwrap().wait().unwrap().success());
    assert!(!cluster.path("9.sock").exists());
    cluster.wait_alive(2, 15);
}

#[test]
fn garbage_and_a_wrong_key_are_counted_and_change_nothing() {
    let mut cluster = Cluster::new(3, "");
    cluster.wait_alive(0, 3);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for i in 0..200u32 {
        let garbage: Vec<u8> = (0..i * 7 % 1500).map(|j| (i * 31 + j * 17) as u8).collect();
        socket.send_to(&garbage, cluster.addrs[0]).unwrap();
    }
    socket.send_to(&[1; 60_000], cluster.addrs[0]).unwrap();
    let status = cluster.wait(0, "counted garbage", |s| s.counters.malformed + s.counters.not_authentic > 100);
    assert_eq!(alive(&status), 3);

    cluster.kill(2);
    write_key(&cluster.path("wrong"), 8);
    cluster.configure(2, "wrong", "");
    cluster.start(2);
    let known = status.counters.not_authentic;
    let stranger = cluster.addrs[2];
    cluster.wait(0, "rejected stranger", |s| {
        s.counters.not_authentic > known + 3 && state_of(s, stranger) == Some("dead")
    });
    cluster.wait_alive(1, 2);
    cluster.wait(2, "a lonely stranger", |s| s.nodes.len() == 1);
}

#[test]
fn metrics_are_served_and_a_broken_audit_log_and_hook_stop_nothing() {
    let mut cluster = Cluster::new(2, "");
    cluster.wait_alive(0, 2);
    let metrics = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    cluster.kill(0);
    let hot = cluster.path("sys/class/hwmon/hwmon0");
    std::fs::create_dir_all(&hot).unwrap();
    std::fs::write(hot.join("temp1_input"), "99000\n").unwrap();
    let more = format!(
        "[metrics]\nlisten = '{metrics}'\n[sensors]\nsys = '{}'\n[advice]\ninterval_s = 1\n\
         audit_log = '/dev/full'\ndry_run = false\nhook = '/nonexistent/hook'\n",
        cluster.path("sys").display()
    );
    cluster.configure(0, "key", &more);
    cluster.start(0);
    let status = cluster.wait(0, "advice", |s| alive(s) == 2 && !s.advice.is_empty());
    assert!(matches!(status.advice[0], Advice::Drain { hot: true, .. }));
    let hot_seen = |s: &Status| s.nodes.iter().any(|n| n.report.as_ref().is_some_and(|r| r.health.hot));
    cluster.wait(1, "the hot node on the other's board", hot_seen);

    // The decision, and what came of the hook.
    cluster.wait(0, "all failures", |s| s.counters.audit_log_failures >= 2 && s.counters.hook_failures >= 1);
    wait_for("the figures in the metrics", || {
        let text = http_get(metrics);
        let figures = ["nodes{what=\"alive\"} 2", "failures_total{what=\"hook\"} ", "failures_total{what=\"send\"} 0"];
        figures.iter().all(|figure| text.contains(&format!("gossip_mgr_{figure}"))).then_some(())
    });
}

#[test]
fn a_log_on_a_full_disk_stops_nothing() {
    let mut cluster = Cluster::new(2, "");
    cluster.wait_alive(0, 2);
    cluster.kill(0);
    cluster.wrapper = Box::new(|_| {
        // The log that the test gives is replaced.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" 2>/dev/full", BINARY]);
        command
    });
    cluster.start(0);
    cluster.wait_alive(0, 2);
    cluster.wait_alive(1, 2);
}

#[test]
fn a_hook_gets_the_advice_and_one_that_hangs_is_ended_while_gossip_goes_on() {
    let mut cluster = Cluster::new(2, "");
    cluster.wait_alive(0, 2);
    let hot = cluster.path("sys/class/hwmon/hwmon0");
    std::fs::create_dir_all(&hot).unwrap();
    std::fs::write(hot.join("temp1_input"), "99000\n").unwrap();
    let (hook, got, audit) = (cluster.path("hook"), cluster.path("got"), cluster.path("audit"));
    let script = format!("#!/bin/sh\nsleep 1000 &\necho $$ $! >{0}.pids; cat >{0}\nwait\n", got.display());
    std::fs::write(&hook, script).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let more = format!(
        "[sensors]\nsys = '{}'\n[advice]\ninterval_s = 1\ndry_run = false\nhook = '{}'\n\
         hook_timeout_s = 2\naudit_log = '{}'\n",
        cluster.path("sys").display(),
        hook.display(),
        audit.display()
    );
    cluster.kill(0);
    cluster.configure(0, "key", &more);
    cluster.start(0);
    let line = wait_for("the hook's input", || std::fs::read_to_string(&got).ok().filter(|text| text.ends_with('}')));
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&told["kind"], &told["hot"]), (&"drain".into(), &true.into()));
    assert_eq!(std::fs::read_to_string(&audit).unwrap().lines().next(), Some(line.as_str()));
    let pids = std::fs::read_to_string(cluster.path("got.pids")).unwrap();
    for pid in pids.split_whitespace() {
        wait_for("the end of the hook and of what it started", || ended(pid).then_some(()));
    }
    let outcome = wait_for("the outcome in the audit log", || {
        let text = std::fs::read_to_string(&audit).unwrap();
        Some(text.lines().nth(1)?.to_owned())
    });
    let outcome: serde_json::Value = serde_json::from_str(&outcome).unwrap();
    assert_eq!((&outcome["event"], &outcome["outcome"]), (&"hook_ended".into(), &"timed_out".into()));
    let status = cluster.wait_alive(0, 2);
    assert_eq!(status.counters.hook_failures, 1);
}

/// Whether a process is no more; a zombie that init has not yet collected is none.
fn ended(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|state| state.is_empty() || state.starts_with('Z'))
}

#[test]
fn a_flood_of_garbage_that_never_lets_up_keeps_a_node_from_nothing() {
    let places = common::free_addrs(3).into_iter().map(|addr| common::Place { listen: addr, advertise: addr });
    let mut cluster = Cluster::at(places.collect(), PERIOD, "");
    let library = cluster.library("endless_datagrams.c");
    cluster.wrapper = Box::new(move |i| {
        let mut command = Command::new(BINARY);
        if i == 0 {
            command.env("LD_PRELOAD", &library);
        }
        command
    });
    (0..3).for_each(|i| cluster.start(i));
    cluster.wait_alive(1, 3);
    cluster.wait(0, "a flood", |s| alive(s) == 3 && s.counters.malformed + s.counters.not_authentic > 10_000);
    cluster.kill(2);
    let dead = cluster.addrs[2];
    cluster.wait(0, "death of node 2", |s| state_of(s, dead) == Some("dead"));
    cluster.wait_alive(1, 2);
}

#[test]
fn what_cannot_be_sent_or_measured_is_counted_as_failed() {
    let places = common::free_addrs(2).into_iter().map(|addr| common::Place { listen: addr, advertise: addr });
    let mut cluster = Cluster::at(places.collect(), PERIOD, "");
    // A socket that is bound to loopback reaches nobody else.
    let config = std::fs::read_to_string(cluster.path("0.toml")).unwrap();
    let seeds = config.lines().map(|line| match line.starts_with("seeds") {
        true => "seeds = ['192.0.2.1:7600']\n".to_owned(),
        false => format!("{line}\n"),
    });
    let config: String = seeds.collect::<String>() + "[sensors]\nproc = '/nonexistent'\n";
    std::fs::write(cluster.path("0.toml"), config).unwrap();
    cluster.start(0);
    let failed = |s: &Status| s.counters.send_failures > 1 && s.counters.sensor_failures > 1;
    let status = cluster.wait(0, "failures to send and to measure", failed);
    assert_eq!(status.counters.sent, 0);
    let text = String::from_utf8(cluster.ask(0, &["status"]).stdout).unwrap();
    assert!(text.contains("datagrams to send"), "{text}");
    let log = std::fs::read_to_string(cluster.log(0)).unwrap();
    assert_eq!(log.matches("sensors cannot be read").count(), 1, "{log}");
}

fn http_get(addr: SocketAddr) -> String {
    use std::io::{Read, Write};
    let Ok(mut stream) = std::net::TcpStream::connect(addr) else {
        return String::new();
    };
    let mut text = String::new();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let _ = stream.write_all(request.as_bytes());
    let _ = stream.read_to_string(&mut text);
    text
}

/// Runs the program to its end; its status and standard error.
fn run(args: &[&str]) -> (Option<i32>, String) {
    output(&Command::new(BINARY).args(args).output().unwrap())
}

/// The status and the standard error.
fn output(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn wrong_input_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let key = file("key", &"k".repeat(32));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let sock = dir.path().join("s").display().to_string();

    let (status, text) = run(&["run", "--config", &file("a", "[gossip]\nwindo = 1\n")]);
    assert!(status == Some(3) && text.contains("windo") && text.contains("line 2"), "{text}");
    let open = file("b", &format!("[node]\nkey_file = '{key}'\n"));
    let (status, text) = run(&["run", "--config", &open]);
    assert!(status == Some(3) && text.contains("chmod 600"), "{text}");
    let used = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = format!("[node]\nlisten = '{}'\n[control]\nsocket = '{sock}'\n", used.local_addr().unwrap());
    let (status, text) = run(&["run", "--config", &file("c", &taken)]);
    assert!(status == Some(1) && text.contains("in use"), "{text}");
    let web = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!(
        "[metrics]\nlisten = '{}'\n[node]\nlisten = '127.0.0.1:{}'\n[control]\nsocket = '{sock}'\n",
        web.local_addr().unwrap(),
        common::free_addrs(1)[0].port()
    );
    let (status, text) = run(&["run", "--config", &file("d", &taken)]);
    assert!(status == Some(1) && text.contains("metrics.listen"), "{text}");
    for ask in [&["status"][..], &["members"], &["explain", "10.0.0.1:7600"]] {
        let (status, text) = run(&[ask, &["--socket", &sock]].concat());
        assert!(status == Some(4) && text.contains("gossip-mgr run"), "{text}");
    }
    let (status, text) = run(&["explain", "node7", "--socket", &sock]);
    assert!(status == Some(2) && text.contains("IP address and port"), "{text}");
    let precious = file("precious", "data");
    let free = common::free_addrs(1)[0];
    let occupied = format!("[node]\nlisten = '{free}'\n[control]\nsocket = '{precious}'\n");
    let (status, text) = run(&["run", "--config", &file("e", &occupied)]);
    assert!(status == Some(1) && text.contains("is no socket"), "{text}");
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "data");
    let (status, text) = run(&["simulate", "broadcast", "--processes", "99999999999"]);
    assert!(status == Some(2) && text.contains("--processes"), "{text}");
    for hours in ["nan", "0", "1e9", "many"] {
        let (status, text) = run(&["simulate", "stalls", "--hours", hours]);
        assert!(status == Some(2) && text.contains("--hours"), "{text}");
    }
    let (status, text) = run(&["simulate", "broadcast", "--only", "bionmial"]);
    assert!(status == Some(1) && text.contains("bionmial") && text.contains("binomial, phased checked"), "{text}");
    let (status, text) = run(&["simulate", "--plots", "/proc/nowhere", "board"]);
    assert!(status == Some(1) && text.contains("/proc/nowhere"), "{text}");
}

#[test]
fn a_short_experiment_prints_a_table_and_draws_a_plot() {
    let dir = tempfile::tempdir().unwrap();
    let plots = dir.path().join("plots");
    let output = Command::new(BINARY)
        .args(["simulate", "broadcast", "--processes", "512", "--runs", "3", "--only", "optimal", "--plots"])
        .arg(&plots)
        .output()
        .unwrap();
    assert!(output.status.success());
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("optimal, phased checked") && !table.contains("binomial"), "{table}");
    assert!(std::fs::read_to_string(plots.join("broadcast.svg")).unwrap().contains("</svg>"));
}

#[test]
fn who_reads_only_the_beginning_of_an_experiment_ends_it_without_a_word() {
    let mut child = Command::new(BINARY)
        .args(["simulate", "fail-proof", "--processes", "10", "--faults", "9"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let (status, text) = output(&child.wait_with_output().unwrap());
    assert_eq!((status, text.as_str()), (Some(1), ""));
}

#[test]
fn an_overhead_experiment_that_is_ended_takes_its_daemon_along() {
    let dir = tempfile::tempdir().unwrap();
    let mut experiment = Command::new(BINARY)
        .args(["simulate", "overhead", "--peers", "2"])
        .env("TMPDIR", dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let children = format!("/proc/{0}/task/{0}/children", experiment.id());
    let daemon = wait_for("start of the daemon under test", || {
        let pid: i32 = std::fs::read_to_string(&children).unwrap().trim().parse().ok()?;
        dir.path().read_dir().unwrap().next().map(|_| pid)
    });
    kill(Pid::from_raw(i32::try_from(experiment.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(experiment.wait().unwrap().code(), Some(130));
    assert!(kill(Pid::from_raw(daemon), None).is_err(), "the daemon under test lives on");
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let cluster = Cluster::new(2, "");
    cluster.wait_alive(0, 2);
    let socket = cluster.path("0.sock").display().to_string();
    for args in [&["simulate", "allreduce"][..], &["board", "--socket", &socket]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let (status, text) = output(&Command::new(BINARY).args(args).stdout(full).output().unwrap());
        assert!(status == Some(1) && text.contains("standard output: No space left"), "{args:?}: {text}");
    }
}

#[test]
fn the_seed_chooses_the_history_of_every_random_experiment() {
    let experiments: [&[&str]; 3] = [
        &["broadcast", "--processes", "256", "--runs", "3", "--dead", "0,4", "--only", "phased checked"],
        &["detection", "--nodes", "4", "--deaths", "2"],
        &["stalls", "--nodes", "5", "--hours", "0.01"],
    ];
    for experiment in experiments {
        let told = |seed: &str| {
            let output = Command::new(BINARY).args(["simulate", "--seed", seed]).args(experiment).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let first = told("1");
        assert_eq!(first, told("1"), "{experiment:?}");
        assert_ne!(first, told("2"), "{experiment:?}");
    }
}
