//! Which rank on this node a process is, as its launcher says in the environment.

use crate::error::Error;

/// Position among the ranks of one job on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalRank {
    /// From 0.
    pub rank: u32,
    /// How many ranks the job has here, where the launcher says so.
    pub of: Option<u32>,
}

/// What the launcher says about this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Launch {
    pub local: Option<LocalRank>,
    /// An MPI launcher started it, so it is going to call MPI_Init. (srun without an MPI plugin gives a rank only.)
    pub mpi: bool,
}

/// (rank, number of ranks here, set by an MPI launcher only), the most specific first: `mpirun` inside a Slurm job sets
/// its own beside Slurm's. PMI_RANK is the rank in the whole job, which is the local one on one node.
const VARIABLES: [(&str, Option<&str>, bool); 6] = [
    ("OMPI_COMM_WORLD_LOCAL_RANK", Some("OMPI_COMM_WORLD_LOCAL_SIZE"), true),
    ("MPI_LOCALRANKID", Some("MPI_LOCALNRANKS"), true),
    ("MV2_COMM_WORLD_LOCAL_RANK", Some("MV2_COMM_WORLD_LOCAL_SIZE"), true),
    ("PALS_LOCAL_RANKID", None, true),
    ("SLURM_LOCALID", None, false),
    ("PMI_RANK", Some("PMI_SIZE"), true),
];

/// Set for every process of an MPI job, whether or not a local rank is told.
const MPI_MARKS: [&str; 3] = ["PMIX_RANK", "PMI_RANK", "PMI_FD"];

/// Reads the launcher's variables through `get`. A value that is not a number is an error, not a guess.
pub fn detect(get: impl Fn(&str) -> Option<String>) -> Result<Launch, Error> {
    // In the script of a batch job Slurm sets SLURM_LOCALID too, but no task has been started yet.
    let slurm_task = get("SLURM_STEP_ID").is_some() || get("SLURM_STEPID").is_some();
    let marked = MPI_MARKS.iter().any(|name| get(name).is_some());
    for (name, size, mpi) in VARIABLES {
        if name == "SLURM_LOCALID" && !slurm_task {
            continue;
        }
        if let Some(value) = get(name) {
            let rank = number(name, value)?;
            let of = match size.and_then(|size| get(size).map(|value| (size, value))) {
                Some((size, value)) => Some(number(size, value)?),
                None => None,
            };
            return Ok(Launch { local: Some(LocalRank { rank, of }), mpi: mpi || marked });
        }
    }
    Ok(Launch { local: None, mpi: marked })
}

fn number(name: &'static str, value: String) -> Result<u32, Error> {
    value.parse().map_err(|_| Error::Rank { name, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(environment: &[(&str, &str)]) -> Result<Launch, Error> {
        detect(|name| environment.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string()))
    }

    fn rank(environment: &[(&str, &str)]) -> Option<u32> {
        with(environment).unwrap().local.map(|local| local.rank)
    }

    #[test]
    fn without_a_launcher_there_is_no_rank() {
        assert_eq!(with(&[("HOME", "/root")]).unwrap(), Launch::default());
    }

    #[test]
    fn open_mpi_tells_rank_and_size() {
        let launch = with(&[("OMPI_COMM_WORLD_LOCAL_RANK", "1"), ("OMPI_COMM_WORLD_LOCAL_SIZE", "4")]).unwrap();
        assert_eq!(launch, Launch { local: Some(LocalRank { rank: 1, of: Some(4) }), mpi: true });
    }

    #[test]
    fn mpich_tells_a_local_rank_beside_the_global_one() {
        assert_eq!(rank(&[("PMI_RANK", "7"), ("MPI_LOCALRANKID", "3")]), Some(3));
        assert_eq!(rank(&[("PMI_RANK", "2")]), Some(2));
    }

    #[test]
    fn mpirun_inside_slurm_wins() {
        let slurm = [("SLURM_LOCALID", "0"), ("SLURM_STEP_ID", "0")];
        assert_eq!(rank(&[slurm[0], slurm[1], ("OMPI_COMM_WORLD_LOCAL_RANK", "2")]), Some(2));
        assert_eq!(rank(&slurm), Some(0));
    }

    #[test]
    fn srun_alone_gives_a_rank_but_promises_no_mpi() {
        let step = [("SLURM_LOCALID", "1"), ("SLURM_STEP_ID", "0")];
        assert!(!with(&step).unwrap().mpi);
        assert!(with(&[step[0], step[1], ("PMIX_RANK", "1")]).unwrap().mpi);
    }

    #[test]
    fn a_batch_script_is_not_a_rank() {
        assert_eq!(with(&[("SLURM_LOCALID", "0")]).unwrap(), Launch::default());
    }

    #[test]
    fn a_rank_that_is_no_number_is_named() {
        let error = with(&[("OMPI_COMM_WORLD_LOCAL_RANK", "x")]).unwrap_err();
        assert_eq!(error.to_string(), "the environment says OMPI_COMM_WORLD_LOCAL_RANK=x, which is not a rank");
    }
}
