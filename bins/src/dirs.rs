//! Where this user's state, configuration and home are: the only module that reads the environment for paths.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use svckit::controller::{ClientFiles, Endpoint, TlsFiles};
use svckit::discover::{Config, Discovery, Search};
use svckit::lock::OnNetwork;
use svckit::world::StateDirs;

use crate::error::ToolError;

/// Overrides every directory of svckit's state; for tests and for people who keep several apart.
pub const STATE_DIR_VARIABLE: &str = "SVCKIT_STATE_DIR";

/// The directories of this user. Root's are the system's. A user's are all below one directory that does not depend
/// on whether somebody is logged in: a run of cron and one of a terminal must meet at the same lock.
///
/// # Errors
/// When the user has no home directory.
pub fn state() -> Result<StateDirs, ToolError> {
    if let Some(dir) = variable(STATE_DIR_VARIABLE) {
        return absolute(&dir).map(StateDirs::below);
    }
    if rustix::process::geteuid().is_root() {
        return Ok(StateDirs::for_root());
    }
    let state = match variable("XDG_STATE_HOME") {
        Some(dir) => absolute(&dir)?,
        None => home()
            .ok_or_else(|| {
                ToolError::usage(
                    "can't tell where to keep svckit's state: this user has no home directory",
                    format!("set {STATE_DIR_VARIABLE} to a directory of this user"),
                )
            })?
            .join(".local/state"),
    };
    Ok(StateDirs::below(state.join("svckit")))
}

/// The home directory: the environment's, else the account's.
#[must_use]
pub fn home() -> Option<PathBuf> {
    let account = || nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.dir);
    variable("HOME").or_else(account).filter(|home| home.is_absolute())
}

/// The configuration: the file that was named, else the user's, else the system's, else none.
///
/// # Errors
/// When a file that is there or was named can't be read or is invalid.
pub fn discovery(named: Option<&Path>) -> Result<Discovery, ToolError> {
    let config = match config_file(named) {
        Some(path) => Config::read(&path)?,
        None => Config::default(),
    };
    let discovery = Discovery::new(config, Search::here(home()));
    match std::env::var_os("DOCKER_HOST").filter(|host| !host.is_empty()) {
        Some(host) if discovery.docker().endpoint.is_none() => {
            Ok(discovery.on_engine(docker_host(&host.to_string_lossy())?))
        }
        _ => Ok(discovery),
    }
}

/// What the configuration says of locks on a network file system. What is wrong with it is told by those who need the
/// rest of it: a resume needs nothing else, and must not fail for it.
#[must_use]
pub fn locks_on_network(named: Option<&Path>) -> OnNetwork {
    let config = config_file(named).and_then(|path| Config::read(&path).ok());
    config.map(|config| config.locks_on_network).unwrap_or_default()
}

/// As Docker's own programs read their variables: with DOCKER_TLS_VERIFY the files of DOCKER_CERT_PATH, else of ~/.docker.
fn docker_host(host: &str) -> Result<Endpoint, ToolError> {
    if variable("DOCKER_TLS_VERIFY").is_none() || !host.starts_with("tcp://") {
        return Ok(host.parse()?);
    }
    let directory = variable("DOCKER_CERT_PATH").or_else(|| Some(home()?.join(".docker"))).ok_or_else(|| {
        ToolError::usage("DOCKER_TLS_VERIFY is set, and no directory of certificates is known", "set DOCKER_CERT_PATH")
    })?;
    let file = |name| absolute(&directory.join(name));
    let client = ClientFiles { cert: file("cert.pem")?, key: file("key.pem")? };
    let has_client = client.cert.exists() || client.key.exists();
    Ok(Endpoint::with_tls(host, TlsFiles { ca: file("ca.pem")?, client: has_client.then_some(client) })?)
}

/// The file that [`discovery`] reads, if there is one.
#[must_use]
pub fn config_file(named: Option<&Path>) -> Option<PathBuf> {
    if let Some(named) = named {
        return Some(named.to_owned());
    }
    config_candidates().into_iter().find(|path| path.exists())
}

/// Where a configuration is looked for, in this order.
#[must_use]
pub fn config_candidates() -> Vec<PathBuf> {
    candidates("svckit/svckit.toml")
}

/// The rules of maintenance that nobody named, if there are some.
#[must_use]
pub fn tend_config_file() -> Option<PathBuf> {
    tend_config_candidates().into_iter().find(|path| path.exists())
}

/// Where rules of maintenance are looked for, in this order.
#[must_use]
pub fn tend_config_candidates() -> Vec<PathBuf> {
    candidates("svckit/tend.toml")
}

fn candidates(name: &str) -> Vec<PathBuf> {
    let of_user = variable("XDG_CONFIG_HOME").or_else(|| home().map(|home| home.join(".config")));
    of_user.into_iter().chain(["/etc".into()]).map(|dir| dir.join(name)).collect()
}

/// Where what is large is kept for a while.
///
/// # Errors
/// When TMPDIR is relative to a working directory that is gone.
pub fn scratch() -> Result<PathBuf, ToolError> {
    variable("TMPDIR").map_or_else(|| Ok(PathBuf::from("/var/tmp")), |dir| absolute(&dir))
}

/// The directory in which systemd hands credentials to a service of its own (systemd.exec(5)).
#[must_use]
pub fn credentials() -> Option<PathBuf> {
    variable("CREDENTIALS_DIRECTORY")
}

fn variable(name: impl AsRef<OsStr>) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn absolute(path: &Path) -> Result<PathBuf, ToolError> {
    std::path::absolute(path).map_err(ToolError::io("resolve", path))
}
