//! The control socket: one line of JSON to the daemon, one back.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;

/// How long a daemon may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// [`crate::view::Status`].
    Status,
    /// [`crate::view::Explained`].
    Explain {
        /// About whom.
        node: SocketAddr,
    },
}

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Box<crate::view::Status>),
    /// To [`Request::Explain`].
    Explained(crate::view::Explained),
    /// It did not work.
    Error(String),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens at the socket.
    #[error(
        "no gossip-mgr answers at {}: {error}. Is `gossip-mgr run` running? If it has another control.socket, give its \
         configuration with --config, or --socket",
        socket.display()
    )]
    NoDaemon {
        /// The socket.
        socket: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// Somebody listens, but does not answer.
    #[error("the gossip-mgr at {} does not answer: {}", socket.display(), silence(error))]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The answer is that it cannot be done.
    #[error("{0}")]
    Refused(String),
    /// The answer is of another version, or of another program.
    #[error("the daemon's answer is not understood: {0}")]
    NotUnderstood(serde_json::Error),
}

fn silence(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock => {
            format!("it took longer than {} s; is it stopped, or the machine overloaded?", PATIENCE.as_secs())
        }
        _ => error.to_string(),
    }
}

/// Asks the daemon behind `socket`.
///
/// # Errors
/// [`AskError`]; a daemon that does not answer within 5 s is silent.
pub fn ask(socket: &Path, request: &Request) -> Result<Response, AskError> {
    let connection = UnixStream::connect(socket);
    let mut stream = connection.map_err(|error| AskError::NoDaemon { socket: socket.into(), error })?;
    let answer = exchange(&mut stream, request).map_err(|error| AskError::Silent { socket: socket.into(), error })?;
    match serde_json::from_str(&answer).map_err(AskError::NotUnderstood)? {
        Response::Error(error) => Err(AskError::Refused(error)),
        response => Ok(response),
    }
}

fn exchange(stream: &mut UnixStream, request: &Request) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let line = serde_json::to_string(request)? + "\n";
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    match BufReader::new(stream).read_line(&mut answer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(answer),
    }
}

/// Removes the control socket when the daemon ends, if it is still the daemon's.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Listens at `path`. A socket that a killed daemon left there is replaced, nothing else.
///
/// # Errors
/// If another daemon listens there, if something else is there, or if the system refuses.
pub fn listen(path: &Path) -> anyhow::Result<(UnixListener, SocketFile)> {
    remove_stale(path)?;
    let listener = UnixListener::bind(path).with_context(|| {
        format!("control.socket: cannot listen at {}: choose another in the configuration", path.display())
    })?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    let inode = std::fs::symlink_metadata(path)?.ino();
    Ok((listener, SocketFile { path: path.into(), inode }))
}

fn remove_stale(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("control.socket: cannot look at {shown}")),
        Ok(file) if !file.file_type().is_socket() => {
            bail!("control.socket: {shown} is there and is no socket: choose another place, or move it away");
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => bail!("control.socket: another gossip-mgr answers at {shown}"),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).with_context(|| format!("control.socket: cannot remove the old {shown}"))
        }
        Err(error) => Err(error).with_context(|| {
            format!("control.socket: {shown} is a socket of something else: choose another place, or move it away")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Listens within a runtime; what went wrong as text.
    fn listened(path: &Path) -> Result<(UnixListener, SocketFile), String> {
        listen(path).map_err(|error| format!("{error:#}"))
    }

    #[tokio::test]
    async fn only_a_socket_that_nobody_listens_at_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        // Dropping the listener leaves the file, as a kill does.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (_listener, guard) = listened(&path).unwrap();
        assert!(listened(&path).unwrap_err().contains("another gossip-mgr answers"));
        drop(guard);
        assert!(!path.exists());

        let datagrams = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        assert!(listened(&path).unwrap_err().contains("of something else"));
        assert!(path.exists());
        drop(datagrams);
    }

    #[tokio::test]
    async fn a_file_or_folder_at_its_place_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("precious");
        std::fs::write(&file, "data").unwrap();
        for path in [file.as_path(), dir.path()] {
            assert!(listened(path).unwrap_err().contains("is no socket"), "{}", path.display());
        }
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(listened(&link).unwrap_err().contains("is no socket"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "data");
    }

    #[tokio::test]
    async fn at_the_end_another_file_at_its_place_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let (_listener, guard) = listened(&path).unwrap();
        std::fs::rename(&path, dir.path().join("moved")).unwrap();
        std::fs::write(&path, "data").unwrap();
        drop(guard);
        assert!(path.exists());
    }

    #[test]
    fn who_does_not_answer_is_told_from_who_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        assert!(matches!(ask(&path, &Request::Status), Err(AskError::NoDaemon { .. })));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let answers = ["", "{\"error\":\"no\"}\n", "nonsense\n"];
        let server = std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                BufReader::new(&stream).read_line(&mut String::new()).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        assert!(matches!(ask(&path, &Request::Status), Err(AskError::Silent { .. })));
        assert!(matches!(ask(&path, &Request::Status), Err(AskError::Refused(text)) if text == "no"));
        assert!(matches!(ask(&path, &Request::Status), Err(AskError::NotUnderstood(_))));
        server.join().unwrap();
        assert!(matches!(ask(&path, &Request::Status), Err(AskError::NoDaemon { .. })), "a stale socket");
    }
}
