//! METIS, Scotch and Zoltan in a process of their own, PT-Scotch in several: opponents.c, built when it is
//! needed.

use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, anyhow, bail, ensure};
use gossip_balance::TaskGraph;
use gossip_balance::mesh::Mesh;
use tempfile::TempDir;

const SOURCE: &str = include_str!("opponents.c");
const PROGRAM: &str = "opponents";

/// Processes of PT-Scotch.
const PROCESSES: u32 = 2;
/// Seconds in which they must end; they take about ten.
const PATIENCE_S: u32 = 900;

/// Headers, and the Debian package that each comes from.
const NEEDED: [(&str, &str); 4] = [
    ("/usr/include/metis.h", "libmetis-dev"),
    ("/usr/include/scotch/scotch.h", "libscotch-dev"),
    ("/usr/include/scotch/ptscotch.h", "libptscotch-dev"),
    ("/usr/include/trilinos/zoltan.h", "libtrilinos-zoltan-dev"),
];

/// A way to repartition. The values, but PT-Scotch's, are those of `enum method` in opponents.c.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Method {
    /// METIS, k-way, from scratch.
    Metis = 0,
    /// Scotch from scratch.
    Scotch = 1,
    /// PT-Scotch from scratch, in more than one process.
    PtScotch = 6,
    /// Scotch from the old partition, with a price on migration.
    ScotchRemap = 2,
    /// Zoltan's recursive coordinate bisection; it is told the coordinates.
    ZoltanRcb = 3,
    /// Zoltan's graph repartitioning from the old partition, with a price on migration.
    ZoltanRepartition = 4,
    /// Zoltan's refinement of the old partition.
    ZoltanRefine = 5,
}

impl Method {
    /// What tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Metis => "METIS k-way",
            Self::Scotch => "Scotch map",
            Self::PtScotch => "PT-Scotch",
            Self::ScotchRemap => "Scotch remap",
            Self::ZoltanRcb => "Zoltan RCB",
            Self::ZoltanRepartition => "Zoltan PHG repartition",
            Self::ZoltanRefine => "Zoltan PHG refine",
        }
    }
}

/// The running program.
pub struct Opponents {
    folder: TempDir,
    child: Child,
    requests: BufWriter<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// The header, the offsets and the neighbours, as they are sent.
    topology: Vec<u8>,
}

impl Opponents {
    /// Builds the program and hands it the graph.
    ///
    /// # Errors
    /// If a package is missing, or the program cannot be built or started.
    pub fn start(mesh: Mesh, graph: &TaskGraph, parts: u32, tolerance: f64) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
        let program = build(folder.path())?;
        let mut child = Command::new(&program)
            // For what Open MPI leaves behind.
            .env("TMPDIR", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let (requests, answers) = child.stdin.take().zip(child.stdout.take()).context("the opponents have no pipes")?;
        let mut offsets = vec![0];
        let mut neighbours = Vec::new();
        for task in 0..graph.len() {
            neighbours.extend(graph.edges(task).map(|(other, _)| other as i32));
            offsets.push(neighbours.len() as i32);
        }
        let header = [graph.len() as i32, neighbours.len() as i32, parts as i32, (tolerance * 1e6).round() as i32];
        let topology = bytes(header.into_iter().chain(offsets).chain(neighbours));
        let (requests, answers) = (BufWriter::new(requests), BufReader::new(answers));
        let mut new = Self { folder, child, requests, answers, topology };
        let coordinates = (0..graph.len()).flat_map(|task| mesh.position(task).map(|x| x as i32));
        let told = new.requests.write_all(&new.topology).and_then(|()| new.requests.write_all(&bytes(coordinates)));
        told.map_err(|error| new.ended(error))?;
        Ok(new)
    }

    /// Lets `method` change `owner`; returns the seconds of processor time that it took.
    ///
    /// # Errors
    /// If the method fails or names a part that there is not.
    pub fn repartition(
        &mut self,
        method: Method,
        graph: &TaskGraph,
        owner: &mut [u32],
        parts: u32,
    ) -> anyhow::Result<f64> {
        let name = method.name();
        let weights = bytes((0..graph.len()).map(|task| graph.weight(task) as i32));
        let answer = match method {
            Method::PtScotch => self.in_parallel(&weights)?,
            _ => {
                let old = bytes(owner.iter().map(|&part| part as i32));
                let question = [bytes([method as i32]), weights, old].concat();
                let mut answer = vec![0; 8 + 4 * owner.len()];
                let asked = self.requests.write_all(&question).and_then(|()| self.requests.flush());
                let answered = asked.and_then(|()| self.answers.read_exact(&mut answer));
                answered.map_err(|error| self.ended(error)).with_context(|| format!("{name} failed"))?;
                answer
            }
        };
        ensure!(answer.len() == 8 + 4 * owner.len(), "{name} answered {} bytes", answer.len());
        let (seconds, owners) = answer.split_at(8);
        for (part, bytes) in owner.iter_mut().zip(owners.chunks_exact(4)) {
            *part = u32::from_ne_bytes(bytes.try_into()?);
            ensure!(*part < parts, "{name} gave a task to part {part} of {parts}");
        }
        Ok(f64::from_ne_bytes(seconds.try_into()?))
    }

    /// What there is to say when the program can no longer be talked to.
    fn ended(&mut self, error: std::io::Error) -> anyhow::Error {
        match self.child.wait() {
            Ok(status) => {
                anyhow!("the program that calls the partitioners ended early ({status}); if it said why, it is above")
            }
            Err(_) => error.into(),
        }
    }

    /// Starts the processes of PT-Scotch for one answer. They talk through files, as only one of
    /// them would have a pipe.
    fn in_parallel(&self, weights: &[u8]) -> anyhow::Result<Vec<u8>> {
        let [request, answer] = ["request", "answer"].map(|name| self.folder.path().join(name));
        std::fs::write(&request, [&self.topology, weights].concat())
            .with_context(|| format!("cannot write {}", request.display()))?;
        let status = Command::new("mpirun")
            .args(["-n", &PROCESSES.to_string(), "--oversubscribe", "--timeout", &PATIENCE_S.to_string()])
            .arg(self.folder.path().join(PROGRAM))
            .args([&request, &answer])
            // The program does nothing that root should not.
            .envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")])
            .env("TMPDIR", self.folder.path())
            .stdin(Stdio::null())
            .status()
            .context("cannot run mpirun")?;
        ensure!(status.success(), "PT-Scotch failed, or did not end within {PATIENCE_S} s; its message is above");
        std::fs::read(&answer).with_context(|| format!("cannot read {}", answer.display()))
    }
}

fn bytes(values: impl IntoIterator<Item = i32>) -> Vec<u8> {
    values.into_iter().flat_map(i32::to_ne_bytes).collect()
}

impl Drop for Opponents {
    fn drop(&mut self) {
        // After an error it may be in the middle of a step that nobody waits for any more; otherwise
        // nothing is left to do. Either may fail only because it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The Debian packages that are needed and not installed.
pub fn missing_packages() -> Vec<&'static str> {
    let mut missing: Vec<&str> =
        NEEDED.iter().filter(|(header, _)| !Path::new(header).exists()).map(|&(_, package)| package).collect();
    for (program, packages) in [("mpicc", ["gcc", "libopenmpi-dev"].as_slice()), ("mpirun", &["openmpi-bin"])] {
        let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            missing.extend(packages);
        }
    }
    missing
}

fn build(folder: &Path) -> anyhow::Result<PathBuf> {
    let missing = missing_packages();
    if !missing.is_empty() {
        bail!(
            "the partitioners to compare with are not installed; `mk setup` does it, or as root `apt-get install \
             --no-install-recommends {}`; --alone runs without them",
            missing.join(" ")
        );
    }
    let source = folder.join("opponents.c");
    let program = folder.join(PROGRAM);
    std::fs::write(&source, SOURCE).with_context(|| format!("cannot write {}", source.display()))?;
    let status = Command::new("mpicc")
        .args(["-O2", "-I/usr/include/trilinos", "-I/usr/include/scotch", "-o"])
        .args([&program, &source])
        .args(["-ltrilinos_zoltan", "-lptscotch", "-lscotch", "-lptscotcherr", "-lmetis"])
        .status()
        .context("cannot run mpicc")?;
    ensure!(status.success(), "mpicc could not build the program that calls the partitioners");
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;
    use gossip_balance::metrics::quality;

    #[test]
    fn each_method_balances_a_small_mesh() {
        let missing = missing_packages();
        if !missing.is_empty() {
            println!("skipped: {} not installed", missing.join(" "));
            return;
        }
        let mesh = Mesh { size: [16, 8, 8] };
        let old = mesh.bisect(&vec![1.0; mesh.len()], 4);
        let graph = mesh.graph(mesh.shock(5, 10, 4.0)).unwrap();
        let imbalance = |owner: &[u32]| quality(&graph, &old, owner, 4).imbalance;
        let mut opponents = Opponents::start(mesh, &graph, 4, 0.05).unwrap();
        for &method in Method::value_variants() {
            let mut owner = old.clone();
            let seconds = opponents.repartition(method, &graph, &mut owner, 4).unwrap();
            assert!(seconds > 0.0, "{}", method.name());
            let (before, after) = (imbalance(&old), imbalance(&owner));
            assert!(after < 0.1 && after < before / 2.0, "{}: {before} before, {after} after", method.name());
        }
    }
}
