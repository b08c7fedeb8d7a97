//! Messages to another thread and back.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use fwq::error::{Error, Result};

use crate::{Bench, Share};

/// Both ends of a pipe, as files: what reads and what writes.
fn pipe() -> io::Result<(std::fs::File, std::fs::File)> {
    let (read, write): (OwnedFd, OwnedFd) = nix::unistd::pipe()?;
    Ok((read.into(), write.into()))
}

/// Sends each byte back until the other side closes.
fn echo(mut from: impl Read + Send + 'static, mut to: impl Write + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut byte = [0];
        while from.read_exact(&mut byte).is_ok() && to.write_all(&byte).is_ok() {}
    })
}

fn there_and_back<const ID: u8>(
    bench: &mut Bench,
    name: &str,
    (mut from, mut to): (impl Read, impl Write),
) -> Result<()> {
    let mut byte = [0];
    bench.measure::<ID>(name, Share::All, |_| {
        to.write_all(&[1])?;
        from.read_exact(&mut byte)
    })
}

pub fn measure(bench: &mut Bench) -> Result<()> {
    let name = "pipe: a byte there and back";
    if bench.wants(name) {
        let failed = |reason| Error::Operation { name: name.into(), reason };
        let ((here, their_write), (their_read, there)) = (pipe().map_err(failed)?, pipe().map_err(failed)?);
        let peer = echo(their_read, their_write);
        there_and_back::<17>(bench, name, (here, there))?;
        let _ = peer.join();
    }
    let name = "TCP: a byte there and back";
    if bench.wants(name) {
        let failed = |reason| Error::Operation { name: name.into(), reason };
        let (ours, theirs) = connection().map_err(failed)?;
        let peer = echo(theirs.try_clone().map_err(failed)?, theirs);
        there_and_back::<18>(bench, name, (&ours, &ours))?;
        drop(ours);
        let _ = peer.join();
    }
    Ok(())
}

/// Two ends of a connection over loopback, without Nagle's delay.
fn connection() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let ours = TcpStream::connect(listener.local_addr()?)?;
    let (theirs, _) = listener.accept()?;
    ours.set_nodelay(true)?;
    theirs.set_nodelay(true)?;
    Ok((ours, theirs))
}
