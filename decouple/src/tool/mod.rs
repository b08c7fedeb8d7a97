//! What the three programs do, over the library.

pub mod corectl;
pub mod launch;
pub mod outside;
pub mod program;
pub mod recouple;
pub mod report;
pub mod run;
pub mod status;

use crate::driver::{Device, Driver};
use crate::error::Error;
use crate::reservation;
use crate::state::Sysfs;
use clap::Parser;
use std::process::ExitCode;

/// Exit status of every tool for its own errors, usage included.
pub const OWN_ERROR: u8 = 125;

/// Where a tool gets its driver from: the real one opens the device, that of a test hands out a fake.
pub trait Host {
    /// The driver, through the open file of `reservation` where one is named.
    fn driver(&self, reservation: Option<i32>) -> Result<Box<dyn Driver + '_>, Error>;
    fn sysfs(&self) -> &Sysfs;
}

/// This machine.
#[derive(Default)]
pub struct ThisMachine(Sysfs);

impl Host for ThisMachine {
    fn driver(&self, reservation: Option<i32>) -> Result<Box<dyn Driver + '_>, Error> {
        let device = match reservation {
            // Without the device the holder is not to blame.
            Some(holder) => Device::open().and_then(|_| reservation::adopt(&self.0, holder))?,
            None => Device::open()?,
        };
        Ok(Box::new(device))
    }

    fn sysfs(&self) -> &Sysfs {
        &self.0
    }
}

/// Parses the command line; on a mistake clap prints it, and the status is [`OWN_ERROR`] instead of clap's 2.
pub fn parse<T: Parser>(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<T, ExitCode> {
    T::try_parse_from(arguments).map_err(|error| {
        let _ = error.print();
        if error.use_stderr() { ExitCode::from(OWN_ERROR) } else { ExitCode::SUCCESS }
    })
}

/// The exit status of a tool; an error is printed with the tool's name in front.
pub fn finish(tool: &str, result: Result<u8, Error>) -> ExitCode {
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("{tool}: {error}");
            ExitCode::from(u8::try_from(error.status()).unwrap_or(OWN_ERROR))
        }
    }
}

/// A list of cores from the command line.
pub fn core_list(text: &str) -> Result<crate::cores::CoreList, Error> {
    text.parse().map_err(|reason| Error::List { text: text.to_string(), reason })
}

/// The reservation to use: the option, or the environment.
pub fn reservation_holder(option: Option<i32>) -> Result<Option<i32>, Error> {
    match (option, std::env::var(reservation::VARIABLE)) {
        (Some(holder), _) => Ok(Some(holder)),
        (None, Ok(text)) => match text.parse() {
            Ok(pid) if pid > 0 => Ok(Some(pid)),
            _ => Err(Error::Usage(format!("{}={text} is not a PID", reservation::VARIABLE))),
        },
        (None, Err(_)) => Ok(None),
    }
}

/// A failed system call in words.
pub fn system(what: impl Into<String>) -> impl FnOnce(nix::errno::Errno) -> Error {
    let what = what.into();
    move |errno| Error::System { what, source: errno.into() }
}
