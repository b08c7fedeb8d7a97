//! The control socket: one line of JSON to the daemon, one back.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

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

/// Asks the daemon behind `socket`.
///
/// # Errors
/// If there is no daemon, it does not answer within 5 s, or it answers with an error.
pub fn ask(socket: &Path, request: &Request) -> anyhow::Result<Response> {
    let mut stream = UnixStream::connect(socket).with_context(|| {
        format!(
            "no gossip-mgr answers at {}: is `gossip-mgr run` running? If it has another control.socket, give its \
             configuration with --config, or --socket",
            socket.display()
        )
    })?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).context("the daemon does not answer")?;
    match serde_json::from_str(&answer).context("the daemon's answer is not understood")? {
        Response::Error(error) => anyhow::bail!(error),
        response => Ok(response),
    }
}
