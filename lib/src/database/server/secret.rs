//! Where a password is found. Never the password.

use std::path::PathBuf;

use super::word_type;
use crate::controller::CommandLine;

/// Where the password of a server's user comes from.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum SecretSource {
    /// From what the engine's image was given: the first of [`super::EngineKind::password_variables`] that the container
    /// has, itself or as `NAME_FILE`. Where it has none, none is used.
    #[default]
    Image,
    /// None is used: the server trusts whoever reaches its socket.
    None,
    /// A file of the host that only its owner can read; its first line.
    File(PathBuf),
    /// A variable in the container's environment; where only `NAME_FILE` is set, the file in the container that it names.
    ContainerEnv(VariableName),
    /// The file `/run/secrets/NAME` in the container.
    DockerSecret(SecretName),
    /// A credential that systemd has handed to our service (systemd.exec(5), `LoadCredential=`).
    SystemdCredential(SecretName),
    /// The first line of what a command prints. For the host's own configuration only, never for a label.
    Command(CommandLine),
}

word_type! {
    /// The name of an environment variable.
    VariableName, "the variable", check_variable
}
word_type! {
    /// The name of a Docker secret or of a systemd credential: one component of a path.
    SecretName, "the secret", check_secret
}

fn check_variable(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || name.len() > 255 {
        return Err("a variable's name begins with a letter or '_'");
    }
    match name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        true => Ok(()),
        false => Err("a variable's name has letters, digits and '_'"),
    }
}

fn check_secret(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.starts_with(['.', '-']) || name.len() > 255 {
        return Err("it begins with a letter, a digit or '_'");
    }
    match name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')) {
        true => Ok(()),
        false => Err("it has letters, digits, '.', '_' and '-'"),
    }
}
