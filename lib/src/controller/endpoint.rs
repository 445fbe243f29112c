//! Where a Docker engine listens, and by what the two sides of an encrypted connection know each other.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, FailureKind};
use crate::world::raw_path;

/// Where a Docker engine listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Endpoint {
    /// A Unix socket.
    Unix(#[serde(with = "raw_path")] PathBuf),
    /// `HOST:PORT` without encryption: for a filtering proxy on this host.
    Tcp(String),
    /// `HOST:PORT` with TLS 1.3.
    Tls {
        /// The address; its host is the name that the engine's certificate must have.
        address: String,
        /// The files, read at each connection anew where they have changed.
        files: TlsFiles,
    },
}

/// The files of an encrypted connection, PEM each.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TlsFiles {
    /// The authorities that the engine's certificate may be of; no other is trusted.
    #[serde(with = "raw_path")]
    pub ca: PathBuf,
    /// What we show the engine; `None`: nothing, and one that asks (`--tlsverify`) refuses us.
    #[serde(default)]
    pub client: Option<ClientFiles>,
}

/// By what the engine knows us.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientFiles {
    /// The certificate, with those between it and the engine's authority.
    #[serde(with = "raw_path")]
    pub cert: PathBuf,
    /// Its private key, for us or root alone.
    #[serde(with = "raw_path")]
    pub key: PathBuf,
}

impl Endpoint {
    /// Where an engine listens if nobody says otherwise.
    #[must_use]
    pub fn usual() -> Self {
        Self::Unix("/var/run/docker.sock".into())
    }

    /// `tcp://HOST:PORT` of any host, with TLS.
    ///
    /// # Errors
    /// For anything else.
    ///
    /// ```
    /// use svckit::controller::{Endpoint, TlsFiles};
    /// let files = TlsFiles { ca: "/etc/svckit/docker/ca.pem".into(), client: None };
    /// assert!(Endpoint::with_tls("tcp://db.example:2376", files.clone()).is_ok());
    /// assert!(Endpoint::with_tls("unix:///run/docker.sock", files).is_err());
    /// ```
    pub fn with_tls(text: &str, files: TlsFiles) -> Result<Self, EndpointError> {
        let address = text.strip_prefix("tcp://").or_else(|| text.strip_prefix("https://"));
        let address = address.filter(|address| {
            let parts = address.rsplit_once(':');
            let plain = |c: char| c.is_ascii_alphanumeric() || ".-_[]:".contains(c);
            parts.is_some_and(|(host, port)| {
                !host.is_empty() && host.chars().all(plain) && port.parse::<u16>().is_ok_and(|port| port > 0)
            })
        });
        let address = address.ok_or_else(|| EndpointError { text: text.to_owned(), with_tls: true })?;
        Ok(Self::Tls { address: address.to_owned(), files })
    }
}

/// An address of an engine that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the engine's address {text:?} can't be used: {}", self.why())]
pub struct EndpointError {
    text: String,
    with_tls: bool,
}

impl EndpointError {
    fn why(&self) -> &'static str {
        match self.with_tls {
            true => "with TLS it is tcp://HOST:PORT",
            false => "without TLS anybody on the way could stop and change containers",
        }
    }
}

impl Failure for EndpointError {
    fn kind(&self) -> FailureKind {
        FailureKind::Usage
    }
    fn hint(&self) -> Option<String> {
        let hint = match self.with_tls {
            true => "write tcp://HOST:2376, or leave the files of TLS out",
            false => {
                "unix:///PATH, tcp://127.0.0.1:PORT for a proxy on this host, or tcp://HOST:2376 with tls-ca, tls-cert and tls-key"
            }
        };
        Some(hint.to_owned())
    }
}

impl std::str::FromStr for Endpoint {
    type Err = EndpointError;

    /// `unix:///PATH` or `tcp://HOST:PORT` of this host, as `DOCKER_HOST` has it.
    ///
    /// ```
    /// use svckit::controller::Endpoint;
    /// assert_eq!("unix:///run/docker.sock".parse(), Ok(Endpoint::Unix("/run/docker.sock".into())));
    /// assert!("tcp://10.0.0.1:2375".parse::<Endpoint>().is_err());
    /// ```
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let unix =
            || text.strip_prefix("unix://").filter(|path| path.starts_with('/')).map(|path| Self::Unix(path.into()));
        let tcp = || {
            let address = text.strip_prefix("tcp://")?;
            let (host, _) = address.rsplit_once(':')?;
            is_loopback(host).then(|| Self::Tcp(address.to_owned()))
        };
        unix().or_else(tcp).ok_or_else(|| EndpointError { text: text.to_owned(), with_tls: false })
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) | Self::Tls { address, .. } => write!(f, "tcp://{address}"),
        }
    }
}
