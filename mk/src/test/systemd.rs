//! gossip-mgr as a service: Debian with its own kernel and systemd as the first process, in QEMU.

use super::guest::read_lines;
use super::tally::Tally;
use crate::build::Builder;
use crate::job::{self, Job};
use crate::qemu::{Accelerator, Machine, System};
use anyhow::Result;
use fs_err as fs;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(10 * 60);

/// Makes systemd the first process, lets it do the job, and keeps the console for the job; ssh has no keys in the image.
const WORDS: &str = "init=/usr/lib/systemd/systemd systemd.wants=tacet-job.service \
                     systemd.mask=serial-getty@hvc0.service systemd.mask=ssh.service";

const TITLE: &str = "systemd";

/// Shell commands, one test a line, each with what those before it left: name, command. Status 0 passes.
const CHECKS: &[(&str, &str)] = &[
    ("systemd is the first process", "[ \"$(cat /proc/1/comm)\" = systemd ]"),
    (
        "gossip-mgr is not started before it is configured",
        "systemctl start gossip-mgr; shows ActiveState inactive && shows ConditionResult no",
    ),
    (
        "systemctl starts it, and it answers",
        "printf '[advice]\\ninterval_s = 5\\n' >$config && systemctl enable --now gossip-mgr && soon answers && \
         gossip-mgr status | tee results/status && systemctl status gossip-mgr | tee results/unit && \
         [ \"$(cat /var/lib/gossip-mgr/127.0.0.1:7600.incarnation)\" = \"$(life)\" ]",
    ),
    (
        "killed, it is started again, in a new life",
        "old=$(life) && systemctl kill -s KILL gossip-mgr && soon lives_after $old && shows NRestarts 1 && \
         echo \"life $old, then $(life)\" | tee results/lives",
    ),
    (
        "systemctl stop ends it in order",
        "systemctl stop gossip-mgr && shows Result success && shows ExecMainStatus 0 && [ ! -e /run/gossip-mgr.sock ] && \
         journalctl -u gossip-mgr -o cat | grep -q leaving",
    ),
    (
        "with a wrong configuration it is not started again and again",
        "echo 'wrong = 1' >$config && systemctl start gossip-mgr; soon shows ActiveState failed && sleep 3 && \
         shows ExecMainStatus 3 && shows NRestarts 0",
    ),
];

/// What the commands use.
const FUNCTIONS: &str = r#"cd /run/job
config=/etc/gossip-mgr.toml
soon() { for try in $(seq 240); do "$@" && return; sleep 0.5; done; false; }
shows() { [ "$(systemctl show -P "$1" gossip-mgr)" = "$2" ]; }
answers() { gossip-mgr status >/dev/null; }
life() { gossip-mgr status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["incarnation"])'; }
lives_after() { new=$(life) && [ "$new" -gt "$1" ]; }
check() { name=$1; shift; if eval "$1" >check.out 2>&1; then echo "ok $name"; else cat check.out; echo "not ok $name"; fi; }
"#;

/// Runs those whose name contains `filter`: all, or none if no name does, as they depend on one another.
pub fn run(builder: &Builder, filter: Option<&str>, tally: &mut Tally) -> Result<()> {
    let wanted = |name: &str| filter.is_none_or(|filter| name.contains(filter));
    let title = |name: &str| format!("{TITLE}: {name}");
    if !CHECKS.iter().any(|(name, _)| wanted(&title(name))) {
        return Ok(());
    }
    let (vendor, image) = (builder.vendor()?, builder.image()?);
    let job = Job {
        machine: &Machine { cores: 2, memory: "1G".into(), accelerator: Accelerator::Tcg, extra: Vec::new() },
        system: System::Vendor { kernel: &vendor, arguments: "" },
        image: &image,
        keep_image: false,
        files: &[("job.sh".into(), script().into_bytes())],
        words: WORDS,
        meter: None,
        timeout: TIMEOUT,
    };
    let outcome =
        match job::run(&job, |_| {}).and_then(|outcome| outcome.expect_success("the service").map(|()| outcome)) {
            Ok(outcome) => outcome,
            Err(error) => {
                tally.fail(&title("Debian boots with systemd"), &format!("{error:#}"));
                return Ok(());
            }
        };
    let text = fs::read_to_string(outcome.results().join("checks"))?;
    if read_lines(&text, TITLE, &wanted, tally) != CHECKS.len() {
        tally.fail(&title("all is looked at"), &format!("it broke off after\n{text}"));
    }
    Ok(())
}

fn script() -> String {
    let checks = CHECKS.iter().map(|(name, command)| format!("check '{name}' '{}'\n", command.replace('\'', "'\\''")));
    format!(
        "{FUNCTIONS}{{\n{}}} >results/checks 2>&1\njournalctl -b -u gossip-mgr >results/journal\n",
        checks.collect::<String>()
    )
}
