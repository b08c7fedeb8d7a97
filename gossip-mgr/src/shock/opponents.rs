//! METIS, Scotch and Zoltan, in a process of their own: opponents.c, built when it is needed.

use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, bail, ensure};
use gossip_balance::TaskGraph;
use gossip_balance::mesh::Mesh;

const SOURCE: &str = include_str!("opponents.c");

/// Headers, and the Debian package that each comes from.
const NEEDED: [(&str, &str); 3] = [
    ("/usr/include/metis.h", "libmetis-dev"),
    ("/usr/include/scotch/scotch.h", "libscotch-dev"),
    ("/usr/include/trilinos/zoltan.h", "libtrilinos-zoltan-dev"),
];

/// A way to repartition. The values are those of `enum method` in opponents.c.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// METIS, k-way, from scratch.
    Metis = 0,
    /// Scotch from scratch.
    Scotch = 1,
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
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Metis, Self::Scotch, Self::ScotchRemap, Self::ZoltanRcb, Self::ZoltanRepartition, Self::ZoltanRefine];

    /// What tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Metis => "METIS k-way",
            Self::Scotch => "Scotch map",
            Self::ScotchRemap => "Scotch remap",
            Self::ZoltanRcb => "Zoltan RCB",
            Self::ZoltanRepartition => "Zoltan PHG repartition",
            Self::ZoltanRefine => "Zoltan PHG refine",
        }
    }

    /// Whether it starts afresh, so that its parts must be renamed after the old ones.
    pub fn starts_afresh(self) -> bool {
        matches!(self, Self::Metis | Self::Scotch)
    }
}

/// The running program.
pub struct Opponents {
    child: Child,
    requests: BufWriter<ChildStdin>,
    answers: BufReader<ChildStdout>,
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
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let (requests, answers) = child.stdin.take().zip(child.stdout.take()).context("the opponents have no pipes")?;
        let mut new = Self { child, requests: BufWriter::new(requests), answers: BufReader::new(answers) };
        let mut offsets = vec![0];
        let mut neighbours = Vec::new();
        for task in 0..graph.len() {
            neighbours.extend(graph.edges(task).map(|(other, _)| other as i32));
            offsets.push(neighbours.len() as i32);
        }
        let header = [graph.len() as i32, neighbours.len() as i32, parts as i32, (tolerance * 1e6).round() as i32];
        new.send(header)?;
        new.send(offsets)?;
        new.send(neighbours)?;
        new.send((0..graph.len()).flat_map(|task| mesh.position(task).map(|x| x as i32)))?;
        Ok(new)
    }

    fn send(&mut self, values: impl IntoIterator<Item = i32>) -> anyhow::Result<()> {
        for value in values {
            self.requests
                .write_all(&value.to_ne_bytes())
                .context("the opponents ended early; their message is above")?;
        }
        Ok(())
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
        self.send([method as i32])?;
        self.send((0..graph.len()).map(|task| graph.weight(task) as i32))?;
        self.send(owner.iter().map(|&part| part as i32))?;
        self.requests.flush().context("the opponents ended early; their message is above")?;
        let mut bytes = vec![0; 8 + 4 * owner.len()];
        self.answers.read_exact(&mut bytes).with_context(|| format!("{name} failed; its message is above"))?;
        let (seconds, owners) = bytes.split_at(8);
        for (part, bytes) in owner.iter_mut().zip(owners.chunks_exact(4)) {
            *part = u32::from_ne_bytes(bytes.try_into()?);
            ensure!(*part < parts, "{name} gave a task to part {part} of {parts}");
        }
        Ok(f64::from_ne_bytes(seconds.try_into()?))
    }
}

impl Drop for Opponents {
    fn drop(&mut self) {
        // After an error it may be in the middle of a step that nobody waits for any more; otherwise
        // nothing is left to do. Either may fail only because it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn build(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut missing: Vec<&str> =
        NEEDED.iter().filter(|(header, _)| !Path::new(header).exists()).map(|&(_, package)| package).collect();
    let compiler = Command::new("mpicc").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !compiler.is_ok_and(|status| status.success()) {
        missing.extend(["gcc", "libopenmpi-dev"]);
    }
    if !missing.is_empty() {
        bail!(
            "the partitioners to compare with are not installed; `apt-get install \
             --no-install-recommends {}` as root does it, and --alone runs without them",
            missing.join(" ")
        );
    }
    let source = folder.join("opponents.c");
    let program = folder.join("opponents");
    std::fs::write(&source, SOURCE).with_context(|| format!("cannot write {}", source.display()))?;
    let status = Command::new("mpicc")
        .args(["-O2", "-I/usr/include/trilinos", "-I/usr/include/scotch", "-o"])
        .args([&program, &source])
        .args(["-ltrilinos_zoltan", "-lscotch", "-lscotcherr", "-lmetis"])
        .status()
        .context("cannot run mpicc")?;
    ensure!(status.success(), "mpicc could not build the program that calls the partitioners");
    Ok(program)
}
