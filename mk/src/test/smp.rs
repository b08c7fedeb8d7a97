//! Linux on several service cores: what only more than one CPU can get wrong, and the tests of one CPU once more.

use super::guest::read_suite;
use super::tally::Tally;
use crate::build::Builder;
use crate::job::{self, Job};
use crate::qemu::{Accelerator, Machine, System};
use anyhow::Result;
use fs_err as fs;
use std::path::Path;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Cores of the machine, and how many of them Linux gets. The others are compute cores.
const SPLITS: &[(u32, u32)] = &[(3, 2), (4, 4)];

/// Boots once for each split; the programs are in `programs`/bin.
pub fn run(builder: &Builder, programs: &Path, wanted: &dyn Fn(&str) -> bool, tally: &mut Tally) -> Result<()> {
    let image = builder.image()?;
    let (kernel, archive) = builder.tacet_archive()?;
    for &(cores, service) in SPLITS {
        let title = format!("linux on {service} of {cores} cores");
        let mut suites = vec![("smp-test", service.to_string()), ("os-test", String::new())];
        if service < cores {
            suites.extend([("decouple-test", String::new()), ("decouple-quiet", String::new())]);
        }
        let mut script = String::from("cd /run/job && chmod +x bin/* || exit 1\n");
        let mut files = Vec::new();
        for (name, arguments) in &suites {
            script.push_str(&format!("(timeout 300 bin/{name} {arguments}; echo status $?) >results/{name} 2>&1\n"));
            files.push((format!("bin/{name}"), fs::read(programs.join("bin").join(name))?));
        }
        script.push_str("sync\nexit 0\n");
        files.push(("job.sh".into(), script.into_bytes()));
        let job = Job {
            machine: &Machine { cores, memory: "1G".into(), accelerator: Accelerator::Tcg, extra: Vec::new() },
            system: System::Tacet { kernel: &kernel, archive: &archive, service_cores: service },
            image: &image,
            keep_image: false,
            files: &files,
            words: "",
            meter: None,
            timeout: TIMEOUT,
        };
        match job::run(&job, |_| {}).and_then(|outcome| outcome.expect_success(&title).map(|()| outcome)) {
            Ok(outcome) => {
                for (name, _) in &suites {
                    read_suite(&outcome.results().join(name), &title, true, wanted, tally);
                }
            }
            Err(error) => tally.fail(&format!("{title}: it boots and powers off"), &format!("{error:#}")),
        }
    }
    Ok(())
}
