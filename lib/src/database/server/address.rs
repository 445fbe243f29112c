//! Where a server listens that is reached from this host: a socket, or a host and its port.

use std::fmt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{EngineKind, ServerError, WordError};
use crate::failure::{FailureKind, kind_of_io};

/// No host's name is longer (RFC 1035).
const HOST_LEN_MAX: usize = 253;
/// The longest path of a socket (unix(7)).
const SOCKET_LEN_MAX: usize = 107;

/// Where a server listens.
///
/// ```
/// use svckit::database::server::ServerAddress;
/// let socket: ServerAddress = "unix:/run/postgresql".parse()?;
/// assert_eq!(socket.to_string(), "unix:/run/postgresql");
/// assert!("db.example:5432".parse::<ServerAddress>().is_ok());
/// assert!("db.example".parse::<ServerAddress>().is_err());
/// # Ok::<(), svckit::database::server::WordError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerAddress {
    /// A socket of this host, by its absolute path; for PostgreSQL also the directory that its sockets are in.
    Socket(PathBuf),
    /// A host and a port.
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
}

impl FromStr for ServerAddress {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let wrong = |reason: &str| Err(WordError::new("the server's address", text, reason));
        let path = text.strip_prefix("unix:").or_else(|| text.starts_with('/').then_some(text));
        if let Some(path) = path {
            return match path {
                _ if !path.starts_with('/') => wrong("a socket is named by its whole path: unix:/run/..."),
                _ if path.chars().any(char::is_control) => wrong("it has a control character"),
                // PostgreSQL takes a list of them; and no option's value may be taken for two.
                _ if path.contains(',') => wrong("a path with a comma is taken for two"),
                _ if path.len() > SOCKET_LEN_MAX => wrong("no socket's path is longer than 107 bytes"),
                _ => Ok(Self::Socket(PathBuf::from(path))),
            };
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return wrong("it is unix:/PATH or HOST:PORT");
        };
        let Some(port) = port.parse::<u16>().ok().filter(|number| *number > 0 && number.to_string() == port) else {
            return wrong("a port is a number from 1 to 65535");
        };
        let of_brackets = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = match of_brackets {
            Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => address,
            Some(_) => return wrong("in brackets stands an IPv6 address"),
            None if host.contains(':') => return wrong("an IPv6 address stands in brackets: [::1]:5432"),
            None => host,
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        match of_brackets {
            None if host.is_empty() || host.len() > HOST_LEN_MAX => wrong("it lacks its host, or that is too long"),
            None if !host.chars().all(is_name) || host.starts_with(['-', '.']) => {
                wrong("a host's name has letters, digits, '.', '_' and '-'")
            }
            _ => Ok(Self::Tcp { host: host.to_ascii_lowercase(), port }),
        }
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// PostgreSQL's socket in a directory: `.s.PGSQL.5432`.
const POSTGRES_SOCKET: &str = ".s.PGSQL.";

impl ServerAddress {
    /// The same by the real path of its socket, which is there.
    pub(crate) fn found(&self, engine: EngineKind) -> Result<Self, ServerError> {
        let Self::Socket(path) = self else { return Ok(self.clone()) };
        let absent = |reason: String, kind: FailureKind| ServerError::Refused {
            reason,
            kind,
            hint: Some("is the server running? where it listens its own configuration says".to_owned()),
        };
        let real = std::fs::canonicalize(path)
            .map_err(|error| absent(format!("no server listens on {}: {error}", path.display()), no_or(&error)))?;
        let is_dir = real.is_dir();
        let socket = if is_dir && engine == EngineKind::Postgres { only_socket(&real) } else { Some(real.clone()) };
        let is_socket = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket());
        match socket.filter(is_socket) {
            Some(socket) => Ok(Self::Socket(socket)),
            None if is_dir && engine == EngineKind::Postgres => {
                let reason = format!("{} has not exactly one socket of a PostgreSQL server", path.display());
                Err(absent(reason, FailureKind::No))
            }
            None => Err(absent(format!("{} is no socket", path.display()), FailureKind::No)),
        }
    }

    /// How the engine's clients are told.
    pub(crate) fn client_options(&self, engine: EngineKind) -> Result<Vec<String>, ServerError> {
        let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect();
        Ok(match (self, engine) {
            (Self::Socket(path), EngineKind::Mysql) => {
                words(&["--protocol=socket", &format!("--socket={}", path.display())])
            }
            (Self::Tcp { host, port }, EngineKind::Mysql) => {
                words(&["--protocol=tcp", &format!("--host={host}"), &format!("--port={port}")])
            }
            (Self::Socket(path), EngineKind::Postgres) => {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let port = name.strip_prefix(POSTGRES_SOCKET).filter(|port| port.parse::<u16>().is_ok());
                let (Some(port), Some(directory)) = (port, path.parent()) else {
                    return Err(ServerError::Refused {
                        reason: format!("{} has no name of a PostgreSQL server's socket", path.display()),
                        kind: FailureKind::Usage,
                        hint: Some("its name is .s.PGSQL.PORT; or name its directory".to_owned()),
                    });
                };
                words(&[&format!("--host={}", directory.display()), &format!("--port={port}")])
            }
            (Self::Tcp { host, port }, EngineKind::Postgres) => {
                words(&[&format!("--host={host}"), &format!("--port={port}")])
            }
            (Self::Socket(path), EngineKind::Redis) => words(&["-s", &path.display().to_string()]),
            (Self::Tcp { host, port }, EngineKind::Redis) => words(&["-h", host, "-p", &port.to_string()]),
            (_, EngineKind::Mongodb | EngineKind::Influxdb | EngineKind::Influxdb1) => {
                return Err(ServerError::Refused {
                    reason: format!("{} is dumped in its container only", engine.title()),
                    kind: FailureKind::Usage,
                    hint: Some("name its container; from an address: mysql, postgres and redis".to_owned()),
                });
            }
        })
    }

    /// Whether it is a socket of this host.
    pub(crate) fn is_socket(&self) -> bool {
        matches!(self, Self::Socket(_))
    }
}

fn no_or(error: &std::io::Error) -> FailureKind {
    if error.kind() == std::io::ErrorKind::NotFound { FailureKind::No } else { kind_of_io(error) }
}

fn only_socket(directory: &Path) -> Option<PathBuf> {
    let names = std::fs::read_dir(directory).ok()?.flatten().map(|entry| entry.file_name());
    let is_one = |name: &std::ffi::OsString| {
        let port = name.to_str().and_then(|name| name.strip_prefix(POSTGRES_SOCKET));
        port.is_some_and(|port| port.parse::<u16>().is_ok())
    };
    let mut sockets = names.filter(is_one);
    match (sockets.next(), sockets.next()) {
        (Some(name), None) => Some(directory.join(name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> ServerAddress {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_a_whole_path_or_a_host_with_its_port() {
        assert_eq!(of("/run/mysqld/mysqld.sock"), of("unix:/run/mysqld/mysqld.sock"));
        for good in ["localhost:5432", "db-1.example_2:1", "127.0.0.1:65535", "[::1]:5432"] {
            assert_eq!(of(good).to_string(), good);
        }
        assert_eq!(of("DB.Example:3306"), of("db.example:3306"));
        for bad in [
            "",
            "localhost",
            "localhost:",
            ":5432",
            "localhost:0",
            "localhost:65536",
            "localhost:+1",
            "localhost:05432",
            "::1:5432",
            "[::1]",
            "[host]:1",
            "a b:1",
            "-x:1",
            "a,b:1",
            "user@host:1",
            "unix:run/sock",
            "unix:",
            "unix:/run/a,/run/b",
            "unix:/run/a\nb",
            "run/sock",
            &format!("/{}", "x".repeat(107)),
            &format!("{}:1", "x".repeat(254)),
        ] {
            assert!(bad.parse::<ServerAddress>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn clients_are_told_in_their_own_words() {
        let told = |text: &str, engine| of(text).client_options(engine).unwrap().join(" ");
        assert_eq!(told("[::1]:5433", EngineKind::Postgres), "--host=::1 --port=5433");
        assert_eq!(told("unix:/run/pg/.s.PGSQL.5433", EngineKind::Postgres), "--host=/run/pg --port=5433");
        assert_eq!(told("localhost:3306", EngineKind::Mysql), "--protocol=tcp --host=localhost --port=3306");
        assert_eq!(told("/run/my.sock", EngineKind::Mysql), "--protocol=socket --socket=/run/my.sock");
        assert_eq!(told("/run/r.sock", EngineKind::Redis), "-s /run/r.sock");
        assert!(of("/run/my.sock").client_options(EngineKind::Postgres).is_err());
        assert!(of("localhost:8086").client_options(EngineKind::Influxdb1).is_err());
    }

    #[test]
    fn a_socket_must_be_there_and_a_directory_must_have_one() {
        let dir = tempfile::tempdir().unwrap();
        let here = ServerAddress::Socket(dir.path().to_owned());
        let kind = |address: &ServerAddress, engine| crate::failure::Failure::kind(&address.found(engine).unwrap_err());
        assert_eq!(kind(&here, EngineKind::Postgres), FailureKind::No);
        let first = dir.path().join(".s.PGSQL.5433");
        let _listens = std::os::unix::net::UnixListener::bind(&first).unwrap();
        std::fs::write(dir.path().join(".s.PGSQL.5433.lock"), "").unwrap();
        let real = ServerAddress::Socket(first.canonicalize().unwrap());
        assert_eq!(here.found(EngineKind::Postgres).unwrap(), real);
        assert_eq!(ServerAddress::Socket(first).found(EngineKind::Postgres).unwrap(), real);
        assert_eq!(kind(&here, EngineKind::Mysql), FailureKind::No);
        let _another = std::os::unix::net::UnixListener::bind(dir.path().join(".s.PGSQL.1")).unwrap();
        assert_eq!(kind(&here, EngineKind::Postgres), FailureKind::No);
        assert_eq!(kind(&of("/nonexistent/sock"), EngineKind::Mysql), FailureKind::No);
    }
}
