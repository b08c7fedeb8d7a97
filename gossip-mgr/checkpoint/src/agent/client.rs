//! Asking the agent of the own node.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::wire::{AllHeldAnswer, Answer, Ask, Connection, Welcome};
use crate::id::{CheckpointId, Job};

/// Who does not answer for so long is stopped, or has a very large checkpoint to rebuild.
const ANSWER: Duration = Duration::from_secs(600);

/// The agent of this node, however often it is started anew.
pub struct Client {
    socket: PathBuf,
    connection: Option<Connection<UnixStream>>,
}

impl Client {
    /// The agent behind `socket`, for which it waits so long.
    ///
    /// # Errors
    /// If it does not answer, or is another user's.
    pub fn connect(socket: &Path, patience: Duration) -> io::Result<(Self, Welcome)> {
        let mut client = Self { socket: socket.into(), connection: None };
        let begin = Instant::now();
        loop {
            match client.ask(&Ask::Hello) {
                Ok(Answer::Welcome(welcome)) => return Ok((client, welcome)),
                Ok(_) => return Err(io::Error::other("something else answers there")),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied || begin.elapsed() >= patience => {
                    return Err(error);
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Asks it, once more if it was started anew.
    ///
    /// # Errors
    /// If it does not answer, or that it cannot.
    pub fn ask(&mut self, ask: &Ask) -> io::Result<Answer> {
        let had_one = self.connection.is_some();
        let answer = match self.once(ask) {
            Err(_) if had_one => self.once(ask)?,
            answer => answer?,
        };
        match answer {
            Answer::Failed(why) => Err(io::Error::other(why)),
            answer => Ok(answer),
        }
    }

    fn once(&mut self, ask: &Ask) -> io::Result<Answer> {
        // After an error the connection's state is unknown: it is dropped.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let stream = UnixStream::connect(&self.socket)?;
                stream.set_read_timeout(Some(ANSWER))?;
                Connection::plain(stream)
            }
        };
        connection.send(ask, &[])?;
        let (answer, _) = connection.receive()?;
        self.connection = Some(connection);
        Ok(answer)
    }

    /// What all nodes have of a job.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn all_held(&mut self, job: &Job, verify: Option<CheckpointId>) -> io::Result<AllHeldAnswer> {
        match self.ask(&Ask::AllHeld { job: job.clone(), verify })? {
            Answer::AllHeld(answer) => Ok(answer),
            _ => Err(io::Error::other("the agent answers something else")),
        }
    }
}
