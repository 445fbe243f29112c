//! Connections, and the word to systemd.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{Error, Options, Role};

/// Answers each connection at once with one HTTP response; it is enough for readiness checks.
pub(super) struct Server {
    listener: Option<TcpListener>,
}

impl Server {
    pub(super) fn open(options: &Options) -> Result<Self, Error> {
        let listener = if options.role == Role::Child {
            None
        } else if options.listen_on_stdin {
            let fd: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned()?;
            Some(TcpListener::from(fd))
        } else {
            options.listen.map(TcpListener::bind).transpose()?
        };
        if let Some(listener) = &listener {
            listener.set_nonblocking(true)?;
        }
        Ok(Self { listener })
    }

    pub(super) fn fds(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn answer(&self, rows: u64) -> Result<(), Error> {
        let Some(listener) = &self.listener else { return Ok(()) };
        loop {
            match listener.accept() {
                // A client that is gone before its answer is no reason to end.
                Ok((stream, _)) => drop(respond(stream, rows)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn respond(mut stream: TcpStream, rows: u64) -> std::io::Result<()> {
    let body = format!("{rows}\n");
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// sd_notify(3), as far as a service of the test bed needs it.
pub(super) fn notify(state: &str) -> Result<(), Error> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let path = path.to_string_lossy();
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name.as_bytes())?,
        None => SocketAddr::from_pathname(&*path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}
