//! Reads a password from where it is kept.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{
    EngineKind, Host, Place, Secret, SecretName, SecretSource, ServerAddress, ServerError, ServerSpec, Session,
};
use crate::controller::CommandLine;
use crate::failure::{FailureKind, kind_of_io};
use crate::progress::Cancel;
use crate::world::secret_file::{self, Links, Untrusted};
use crate::world::{program, wait};

/// No password is longer.
const SECRET_MAX: u64 = 64 << 10;
/// A command may have to ask somebody else for it.
const COMMAND_MAX: Duration = Duration::from_secs(60);

/// A session with a server that is reached from this host, whose lock has this key.
pub(crate) fn open_host_session(
    spec: &ServerSpec,
    address: &ServerAddress,
    key: &str,
    credentials: Option<&Path>,
    cancel: &Cancel,
) -> Result<Session, ServerError> {
    let of_container = match &spec.secret {
        SecretSource::ContainerEnv(name) => Some(format!("the variable {name}")),
        SecretSource::DockerSecret(name) => Some(format!("the Docker secret {name}")),
        _ => None,
    };
    if let Some(secret) = of_container {
        return Err(ServerError::Refused {
            reason: format!("{secret} is one of a container, and {address} is reached from this host"),
            kind: FailureKind::Usage,
            hint: Some("name a file, a systemd credential or a command in its place".to_owned()),
        });
    }
    let client = address.client_options(spec.engine)?;
    let host = Host::new(format!("server {address}"), key.to_owned());
    let mut session = open_session(spec, Place::Host(host), credentials, cancel)?;
    session.client = client;
    if session.secret.is_none() && address.is_socket() {
        session.run_as = peer(spec.engine, session.user.as_deref());
    }
    Ok(session)
}

/// Without a password, a server knows who asks through its socket by the system's user, who has the same name as its own.
/// Root can be any of them.
fn peer(engine: EngineKind, user: Option<&str>) -> Option<String> {
    let user = user.filter(|_| matches!(engine, EngineKind::Mysql | EngineKind::Postgres))?;
    let is_root = nix::unistd::geteuid().is_root();
    let found = nix::unistd::User::from_name(user).ok().flatten().filter(|found| is_root && !found.uid.is_root());
    found.map(|found| found.name)
}

/// A session with the server of a container: as whom, and with which password. `credentials` is the directory in which
/// systemd hands credentials over.
pub(crate) fn open_session(
    spec: &ServerSpec,
    at: Place,
    credentials: Option<&Path>,
    cancel: &Cancel,
) -> Result<Session, ServerError> {
    let variables = at.variables().map_err(|error| ServerError::NotRun {
        action: "read the environment".to_owned(),
        place: at.label().to_owned(),
        reason: error.to_string(),
    })?;
    let value = |name: &str| variables.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str());
    let of_image = || spec.engine.user_variable().and_then(value).filter(|user| !user.is_empty());
    let usual = || of_image().or(spec.engine.usual_user()).map(str::to_owned);
    let user = spec.user.as_ref().map(ToString::to_string).or_else(usual);
    let mut session = Session::new(at, user, None, cancel.clone());
    let of_variable = |name: &str| -> Result<Option<Secret>, ServerError> {
        if let Some(text) = value(name) {
            return Ok(Secret::first_line(text));
        }
        match value(&format!("{name}_FILE")) {
            Some(path) => in_container(&session, path).map(Some),
            None => Ok(None),
        }
    };
    let secret = match &spec.secret {
        SecretSource::None => None,
        SecretSource::Image => {
            let mut found = None;
            for name in spec.engine.password_variables() {
                found = of_variable(name)?;
                if found.is_some() {
                    break;
                }
            }
            found
        }
        SecretSource::ContainerEnv(name) => {
            let path = PathBuf::from(format!("{} of {}", name, session.place()));
            let absent = || secret_error(&path, "it is not set, nor with _FILE after it", FailureKind::No);
            Some(of_variable(name.as_str())?.ok_or_else(absent)?)
        }
        SecretSource::DockerSecret(name) => Some(in_container(&session, &format!("/run/secrets/{name}"))?),
        SecretSource::File(path) => Some(in_file(path, true)?),
        SecretSource::SystemdCredential(name) => Some(credential(name, credentials)?),
        SecretSource::Command(command) => Some(of_command(command, cancel)?),
    };
    session.secret = secret;
    Ok(session)
}

fn secret_error(path: &Path, reason: impl ToString, kind: FailureKind) -> ServerError {
    ServerError::Secret { source_path: path.to_owned(), reason: reason.to_string(), kind }
}

fn in_container(session: &Session, path: &str) -> Result<Secret, ServerError> {
    let argv = ["cat", "--", path].map(str::to_owned).to_vec();
    let text = session.answer("read the password", argv, b"")?;
    Secret::first_line(&text).ok_or_else(|| secret_error(Path::new(path), "it is empty", FailureKind::No))
}

fn credential(name: &SecretName, directory: Option<&Path>) -> Result<Secret, ServerError> {
    match directory {
        // systemd has seen to its rights.
        Some(directory) => in_file(&directory.join(name.as_str()), false),
        None => {
            let reason = "no systemd has handed credentials to this process (LoadCredential=)";
            Err(secret_error(Path::new(name.as_str()), reason, FailureKind::No))
        }
    }
}

/// `strict`: nobody else may read or change it.
fn in_file(path: &Path, strict: bool) -> Result<Secret, ServerError> {
    let io = |error: std::io::Error| secret_error(path, &error, kind_of_io(&error));
    let file = match strict {
        true => secret_file::open(path, Links::Refused).map_err(|untrusted| match untrusted {
            Untrusted::Io(error) => io(error),
            Untrusted::Rights(why) => secret_error(path, why, FailureKind::Permission),
        })?,
        false => File::open(path).map_err(io)?,
    };
    let mut text = String::new();
    file.take(SECRET_MAX).read_to_string(&mut text).map_err(io)?;
    Secret::first_line(&text).ok_or_else(|| secret_error(path, "it is empty", FailureKind::No))
}

fn of_command(line: &CommandLine, cancel: &Cancel) -> Result<Secret, ServerError> {
    let name = line.argv.first().map(|word| word.0.clone()).unwrap_or_default();
    let io = |error: std::io::Error| secret_error(&name, &error, kind_of_io(&error));
    let mut command = Command::new(&name);
    command.args(line.argv.iter().skip(1).map(|word| &word.0)).current_dir("/");
    if let Some(variables) = &line.environment {
        command.env_clear();
        for variable in variables {
            let bytes = variable.0.as_os_str().as_bytes();
            let at = bytes.iter().position(|byte| *byte == b'=').unwrap_or(bytes.len());
            let text = |bytes| std::ffi::OsStr::from_bytes(bytes).to_owned();
            command.env(text(&bytes[..at]), text(bytes.get(at + 1..).unwrap_or_default()));
        }
    }
    // What it says on standard error may quote what it found.
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(io)?;
    let until = Instant::now() + COMMAND_MAX;
    let mut text = Vec::new();
    if let Some(mut out) = child.stdout.take() {
        let mut buffer = [0; 4096];
        while (text.len() as u64) < SECRET_MAX
            && wait::readable(&[out.as_fd(), cancel.as_fd()], until).map_err(io)? == [0]
        {
            match out.read(&mut buffer).map_err(io)? {
                0 => break,
                count => text.extend_from_slice(&buffer[..count]),
            }
        }
    }
    let left = until.saturating_duration_since(Instant::now());
    match program::wait_for(child, left, Some(cancel.as_fd())).map_err(io)? {
        Some(status) if status.success() => {}
        Some(status) => return Err(secret_error(&name, format!("it ended with {status}"), FailureKind::Failed)),
        None => return Err(secret_error(&name, "it did not end in time, or was cancelled", FailureKind::Failed)),
    }
    let text = String::from_utf8_lossy(&text);
    Secret::first_line(&text).ok_or_else(|| secret_error(&name, "it printed nothing", FailureKind::No))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_that_others_can_read_or_that_is_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "hunter2\nmore\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(in_file(&path, true).unwrap(), Secret::first_line("hunter2").unwrap());
        for mode in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = in_file(&path, true).unwrap_err();
            assert!(matches!(error, ServerError::Secret { kind: FailureKind::Permission, .. }), "{mode:o}: {error}");
            assert!(!error.to_string().contains("hunter2"));
        }
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&path, dir.path().join("link")).unwrap();
        assert!(in_file(&dir.path().join("link"), true).is_err());
        assert!(in_file(dir.path(), true).is_err());
        std::fs::write(&path, "").unwrap();
        assert!(in_file(&path, true).unwrap_err().to_string().contains("empty"));
    }

    #[test]
    fn a_command_s_first_line_is_the_password_and_its_failure_is_told_without_what_it_said() {
        let cancel = Cancel::new().unwrap();
        let found = of_command(&CommandLine::new(["printf", "s3cret\\nrest"]), &cancel).unwrap();
        assert_eq!(found, Secret::first_line("s3cret").unwrap());
        assert_eq!(format!("{found:?}"), "Secret(***)");
        for argv in [&["false"][..], &["true"], &["/nonexistent/program"]] {
            assert!(of_command(&CommandLine::new(argv.iter().copied()), &cancel).is_err(), "{argv:?}");
        }
    }
}
