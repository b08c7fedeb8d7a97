//! Asking the agents of other nodes.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use super::locked;
use super::wire::{Answer, Ask, Connection, Side};
use crate::id::Name;

/// A node that is there is reached within this time.
const CONNECT: Duration = Duration::from_secs(2);
/// An agent that is not stopped begins a conversation, and reads some bytes, within this time.
const ANSWER: Duration = Duration::from_secs(15);
/// Reading all of a large checkpoint to compare its hashes takes a while.
const VERIFY: Duration = Duration::from_secs(600);

/// The agents of all nodes, with connections that were used before.
pub struct Peers {
    own: Name,
    addresses: BTreeMap<Name, SocketAddr>,
    key: [u8; 32],
    idle: Mutex<Vec<(Name, Connection<TcpStream>)>>,
}

impl Peers {
    /// Those at `addresses`.
    pub fn new(own: Name, addresses: BTreeMap<Name, SocketAddr>, key: [u8; 32]) -> Self {
        Self { own, addresses, key, idle: Mutex::default() }
    }

    /// Asks a node's agent.
    ///
    /// # Errors
    /// If it does not answer, or answers that it cannot.
    pub fn ask(&self, node: &Name, ask: &Ask) -> io::Result<(Answer, Vec<u8>)> {
        // An agent that was started anew has closed what is idle here.
        if let Some(connection) = self.take(node)
            && let Ok(answer) = self.on(node, connection, ask)
        {
            return refused(node, answer);
        }
        let answer = self.on(node, self.connect(node)?, ask)?;
        refused(node, answer)
    }

    fn take(&self, node: &Name) -> Option<Connection<TcpStream>> {
        let mut idle = locked(&self.idle);
        let at = idle.iter().position(|(name, _)| name == node)?;
        Some(idle.swap_remove(at).1)
    }

    fn connect(&self, node: &Name) -> io::Result<Connection<TcpStream>> {
        let unknown = || io::Error::other(format!("{} knows no address of {node}", self.own));
        let address = self.addresses.get(node).ok_or_else(unknown)?;
        let reached = |error: io::Error| io::Error::new(error.kind(), format!("{node} at {address}: {error}"));
        let stream = TcpStream::connect_timeout(address, CONNECT).map_err(reached)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        stream.set_nodelay(true)?;
        Connection::keyed(stream, &self.key, Side::Client).map_err(reached)
    }

    fn on(&self, node: &Name, mut connection: Connection<TcpStream>, ask: &Ask) -> io::Result<(Answer, Vec<u8>)> {
        let told = |error: io::Error| io::Error::new(error.kind(), format!("{node}: {error}"));
        let reads_all = matches!(ask, Ask::Held { verify: Some(_), .. } | Ask::Verify { .. });
        let patience = if reads_all { VERIFY } else { ANSWER };
        connection.stream().set_read_timeout(Some(patience)).map_err(told)?;
        connection.send(ask, &[]).map_err(told)?;
        let answer = connection.receive().map_err(told)?;
        locked(&self.idle).push((node.clone(), connection));
        Ok(answer)
    }
}

fn refused(node: &Name, (answer, bytes): (Answer, Vec<u8>)) -> io::Result<(Answer, Vec<u8>)> {
    match answer {
        Answer::Failed(why) => Err(io::Error::other(format!("{node}: {why}"))),
        answer => Ok((answer, bytes)),
    }
}
