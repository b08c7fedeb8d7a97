//! The weighted graph of tasks and their communication.

/// What is wrong with a graph or a partition of it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum GraphError {
    /// The offsets are not those of the tasks.
    #[error(
        "the offsets of the neighbour lists do not ascend from 0 to the number of edges, or there \
         are more than 2^32 tasks"
    )]
    Offsets,
    /// Lists of different lengths.
    #[error("{what}: {found} values for {expected}")]
    Length {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many are needed.
        expected: usize,
    },
    /// A task has a neighbour that does not exist.
    #[error("neighbour {neighbour} is outside 0..{tasks}")]
    Neighbour {
        /// The neighbour.
        neighbour: u32,
        /// How many tasks there are.
        tasks: usize,
    },
    /// A task belongs to a part that does not exist.
    #[error("part {part} is outside 0..{parts}")]
    Part {
        /// The part.
        part: u32,
        /// How many there are.
        parts: u32,
    },
    /// A weight that is negative or no number.
    #[error("the weight of task {0} is not a positive number")]
    Weight(usize),
    /// An edge with a weight that is no positive number, or that joins a task with itself, or that
    /// does not stand in the lists of both its ends with the same weight.
    #[error(
        "the edges of task {0} are wrong: one joins it with itself, has no positive weight, or is \
         not the same in the list of its other end"
    )]
    Edge(usize),
    /// An option that is no number or out of its range.
    #[error("{0} is {1}; it must be a number of at least 0, the flow threshold above 0")]
    Option(&'static str, f64),
}

/// Tasks with weights and weighted edges, as neighbour lists in one array. Each edge stands in the
/// lists of both its ends.
#[derive(Clone, Debug)]
pub struct TaskGraph {
    offsets: Vec<usize>,
    neighbours: Vec<u32>,
    edge_weights: Vec<f32>,
    weights: Vec<f32>,
}

impl TaskGraph {
    /// A graph whose task t has the neighbours `neighbours[offsets[t]..offsets[t + 1]]`.
    ///
    /// # Errors
    /// [`GraphError`] if the lists do not fit each other.
    pub fn new(
        offsets: Vec<usize>,
        neighbours: Vec<u32>,
        edge_weights: Vec<f32>,
        weights: Vec<f32>,
    ) -> Result<Self, GraphError> {
        let tasks = weights.len();
        let ascending = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
        if u32::try_from(tasks).is_err()
            || offsets.len() != tasks + 1
            || offsets[0] != 0
            || offsets[tasks] != neighbours.len()
            || !ascending
        {
            return Err(GraphError::Offsets);
        }
        if edge_weights.len() != neighbours.len() {
            let (found, expected) = (edge_weights.len(), neighbours.len());
            return Err(GraphError::Length { what: "edge weights", found, expected });
        }
        if let Some(&neighbour) = neighbours.iter().find(|&&n| n as usize >= tasks) {
            return Err(GraphError::Neighbour { neighbour, tasks });
        }
        let graph = Self { offsets, neighbours, edge_weights, weights };
        graph.check_weights()?;
        graph.check_edges()?;
        Ok(graph)
    }

    /// Compares each list with what the others say of its task.
    fn check_edges(&self) -> Result<(), GraphError> {
        let mut mirrored: Vec<Vec<(usize, f32)>> = vec![Vec::new(); self.len()];
        for task in 0..self.len() {
            for (other, weight) in self.edges(task) {
                if other == task || !(weight.is_finite() && weight > 0.0) {
                    return Err(GraphError::Edge(task));
                }
                mirrored[other].push((task, weight));
            }
        }
        for (task, mirrored) in mirrored.iter().enumerate() {
            let mut own: Vec<(usize, f32)> = self.edges(task).collect();
            // The mirrored ones came in this order.
            own.sort_by_key(|&(other, _)| other);
            if own != *mirrored {
                return Err(GraphError::Edge(task));
            }
        }
        Ok(())
    }

    fn check_weights(&self) -> Result<(), GraphError> {
        match self.weights.iter().position(|w| !(w.is_finite() && *w > 0.0)) {
            Some(task) => Err(GraphError::Weight(task)),
            None => Ok(()),
        }
    }

    /// Replaces the tasks' weights.
    ///
    /// # Errors
    /// [`GraphError::Length`] or [`GraphError::Weight`]; the graph is unchanged then.
    pub fn set_weights(&mut self, weights: Vec<f32>) -> Result<(), GraphError> {
        if weights.len() != self.weights.len() {
            let (found, expected) = (weights.len(), self.weights.len());
            return Err(GraphError::Length { what: "task weights", found, expected });
        }
        let old = std::mem::replace(&mut self.weights, weights);
        self.check_weights().inspect_err(|_| self.weights = old)
    }

    pub(crate) fn check_owner(&self, owner: &[u32], parts: u32) -> Result<(), GraphError> {
        if owner.len() != self.len() {
            let (found, expected) = (owner.len(), self.len());
            return Err(GraphError::Length { what: "owners", found, expected });
        }
        match owner.iter().find(|&&part| part >= parts) {
            Some(&part) => Err(GraphError::Part { part, parts }),
            None => Ok(()),
        }
    }

    /// Number of tasks.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Whether there are no tasks.
    pub fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }

    /// The weight of a task.
    pub fn weight(&self, task: usize) -> f32 {
        self.weights[task]
    }

    /// The neighbours of a task with the weights of the edges to them.
    pub fn edges(&self, task: usize) -> impl Iterator<Item = (usize, f32)> + '_ {
        let range = self.offsets[task]..self.offsets[task + 1];
        self.neighbours[range.clone()].iter().map(|&n| n as usize).zip(self.edge_weights[range].iter().copied())
    }
}
