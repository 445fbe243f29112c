//! Where the programs of an engine run: in a server's container, or on this host, beside a server that is reached by an
//! address or that is a private one of ours.

mod host;
mod private;

use std::io::{Read, Write};

pub(crate) use self::host::Host;
use self::host::OnHost;
pub(crate) use self::private::PrivateServer;
use crate::controller::docker::{Ended, Exec, ExecError, Inside, Program};
use crate::progress::Cancel;

/// One of the two.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Container(Inside),
    Host(Host),
}

impl Place {
    /// For people: `container db`.
    pub(crate) fn label(&self) -> &str {
        match self {
            Self::Container(inside) => inside.label(),
            Self::Host(host) => host.label(),
        }
    }

    /// The variables that a container was made with. Some are secrets. A host has none to offer.
    pub(crate) fn variables(&self) -> Result<Vec<(String, String)>, ExecError> {
        match self {
            Self::Container(inside) => inside.variables(),
            Self::Host(_) => Ok(Vec::new()),
        }
    }

    /// The name of a container's image, and its id; both empty for a host.
    pub(crate) fn image(&self) -> Result<(String, String), ExecError> {
        match self {
            Self::Container(inside) => inside.image(),
            Self::Host(_) => Ok((String::new(), String::new())),
        }
    }

    pub(crate) fn on_host(&self) -> Option<&Host> {
        match self {
            Self::Container(_) => None,
            Self::Host(host) => Some(host),
        }
    }

    /// Starts a program.
    pub(crate) fn start(&self, program: &Program, cancel: &Cancel) -> Result<Running, ExecError> {
        match self {
            Self::Container(inside) => inside.start(program, cancel).map(|exec| Running::InContainer(Box::new(exec))),
            Self::Host(host) => host.start(program, cancel).map(|here| Running::OnHost(Box::new(here))),
        }
    }

    /// Runs a program to its end: its input is written, its output collected.
    pub(crate) fn run(&self, program: &Program, input: &[u8], cancel: &Cancel) -> Result<(Ended, Vec<u8>), ExecError> {
        match self {
            Self::Container(inside) => inside.run(program, input, cancel),
            Self::Host(host) => host.run(program, input, cancel),
        }
    }
}

/// A program that runs there. Reading gives its standard output, writing goes to its standard input.
#[derive(Debug)]
pub(crate) enum Running {
    InContainer(Box<Exec>),
    OnHost(Box<OnHost>),
}

impl Running {
    /// The program reads the end of its input.
    pub(crate) fn close_input(&mut self) {
        match self {
            Self::InContainer(exec) => exec.close_input(),
            Self::OnHost(here) => here.close_input(),
        }
    }

    /// How it ended. What it still writes is dropped.
    pub(crate) fn finish(mut self) -> Result<Ended, ExecError> {
        self.end_early()
    }

    /// The same, of one that ended when nobody expected it.
    pub(crate) fn end_early(&mut self) -> Result<Ended, ExecError> {
        match self {
            Self::InContainer(exec) => exec.end_early(),
            Self::OnHost(here) => here.finish(),
        }
    }

    /// It is a server: it ends with the place that was made for it.
    pub(crate) fn leave(&mut self) {
        match self {
            // With its container.
            Self::InContainer(_) => {}
            Self::OnHost(here) => here.leave(),
        }
    }

    /// The error behind one of a read or a write.
    pub(crate) fn why(&self, error: std::io::Error) -> ExecError {
        match self {
            Self::InContainer(exec) => exec.why(error),
            Self::OnHost(here) => here.why(error),
        }
    }
}

impl Read for Running {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::InContainer(exec) => exec.read(buffer),
            Self::OnHost(here) => here.read(buffer),
        }
    }
}

impl Write for Running {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::InContainer(exec) => exec.write(bytes),
            Self::OnHost(here) => here.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
