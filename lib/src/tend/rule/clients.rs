//! Who is connected to the service, and since when at the latest: a server marks what its clients use only while they
//! do something, or while its own loop lives.

use std::collections::HashMap;
use std::net::SocketAddr;

use procfs::net::{TcpNetEntry, TcpState};

use crate::tend::TaskError;

/// The connections to a port of this machine, from look to look.
#[derive(Debug)]
pub(super) struct Clients {
    port: u16,
    /// Of each connection a time before which it was not there, in seconds since 1970; 0 where that is not known.
    since: HashMap<(SocketAddr, SocketAddr), i64>,
    /// When we last looked.
    looked: i64,
}

impl Clients {
    pub(super) fn new(port: u16) -> Self {
        Self { port, since: HashMap::new(), looked: 0 }
    }

    /// Looks, at `now`. The answer is a time before which none of those was connected who are connected now.
    pub(super) fn look(&mut self, now: i64) -> Result<i64, TaskError> {
        let unseen = |error: procfs::ProcError| TaskError::Unavailable(format!("can't see who is connected: {error}"));
        // A machine without IPv6 has no such table.
        let entries = procfs::net::tcp().map_err(unseen)?.into_iter().chain(procfs::net::tcp6().unwrap_or_default());
        self.note(&entries.collect::<Vec<_>>(), now)
    }

    fn note(&mut self, entries: &[TcpNetEntry], now: i64) -> Result<i64, TaskError> {
        let ours = || entries.iter().filter(|entry| entry.local_address.port() == self.port);
        if !ours().any(|entry| entry.state == TcpState::Listen) {
            return Err(TaskError::Unavailable(format!(
                "nobody listens on port {} here: it can't be told who is connected",
                self.port
            )));
        }
        let connected = ours().filter(|entry| !matches!(entry.state, TcpState::Listen | TcpState::TimeWait));
        let before = std::mem::take(&mut self.since);
        for entry in connected {
            let ends = (entry.local_address, entry.remote_address);
            self.since.insert(ends, before.get(&ends).copied().unwrap_or(self.looked));
        }
        self.looked = now;
        Ok(self.since.values().copied().min().unwrap_or(now))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_oldest_client_decides() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || {
            let client = TcpStream::connect(address).unwrap();
            (client, listener.accept().unwrap())
        };
        let mut clients = Clients::new(address.port());
        assert_eq!(clients.look(1_000).unwrap(), 1_000, "nobody");
        let first = connect();
        assert_eq!(clients.look(2_000).unwrap(), 1_000, "since the look before, at the latest");
        let second = connect();
        assert_eq!(clients.look(3_000).unwrap(), 1_000);
        // The client ends first: what stays of it at the server's end is no client.
        let (client, (server, _)) = first;
        drop(client);
        drop(server);
        assert_eq!(clients.look(4_000).unwrap(), 2_000, "that of the second");
        drop(second);
        let mut later = Clients::new(address.port());
        let _third = connect();
        assert_eq!(later.look(5_000).unwrap(), 0, "it was there before us: it may be of any age");
        drop(listener);
        assert!(
            matches!(Clients::new(1).look(6_000), Err(TaskError::Unavailable(why)) if why.contains("nobody listens"))
        );
    }
}
