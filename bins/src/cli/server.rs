//! How a database server is named on a command line, and where its password is.

use std::path::PathBuf;

use clap::Args;
use svckit::database::server::{DatabaseName, SecretName, SecretSource, ServerAddress, UserName, VariableName};

/// As whom, and where the password is; never the password.
#[derive(Debug, Clone, Default, Args)]
pub struct LoginFlags {
    /// The server's user [default: who the image was told, else the engine's usual one]
    #[arg(long, value_name = "U", help_heading = "Database server")]
    pub user: Option<UserName>,
    /// A file of this host with the password in its first line, for you or root alone
    #[arg(long, value_name = "F", group = "password", help_heading = "Database server")]
    pub password_file: Option<PathBuf>,
    /// A variable of the container with the password, or with _FILE after it the file [default: what its image uses]
    #[arg(long, value_name = "VAR", group = "password", help_heading = "Database server")]
    pub password_env: Option<VariableName>,
    /// A Docker secret of the container: /run/secrets/N
    #[arg(long, value_name = "N", group = "password", help_heading = "Database server")]
    pub docker_secret: Option<SecretName>,
    /// A credential that systemd hands over (LoadCredential=)
    #[arg(long, value_name = "N", group = "password", help_heading = "Database server")]
    pub credential: Option<SecretName>,
    /// Use no password: the server trusts its socket
    #[arg(long, group = "password", help_heading = "Database server")]
    pub no_password: bool,
}

impl LoginFlags {
    /// Where the password is.
    #[must_use]
    pub fn secret(&self) -> SecretSource {
        if let Some(path) = &self.password_file {
            SecretSource::File(std::path::absolute(path).unwrap_or_else(|_| path.clone()))
        } else if let Some(name) = &self.password_env {
            SecretSource::ContainerEnv(name.clone())
        } else if let Some(name) = &self.docker_secret {
            SecretSource::DockerSecret(name.clone())
        } else if let Some(name) = &self.credential {
            SecretSource::SystemdCredential(name.clone())
        } else if self.no_password {
            SecretSource::None
        } else {
            SecretSource::Image
        }
    }
}

/// Which databases of which server, and how they are stored.
#[derive(Debug, Clone, Default, Args)]
pub struct ServerFlags {
    /// The server in --container or at --server: mysql (MariaDB too), postgres, redis, mongodb, influxdb or influxdb1
    #[arg(long, value_name = "ENGINE", conflicts_with_all = ["sqlite", "targets", "all", "include", "mode"],
        help_heading = "Database server")]
    pub engine: Option<svckit::database::server::EngineKind>,
    /// Only this database, without users and roles; may be repeated [default: all, with users and roles]
    #[arg(long, value_name = "NAME", requires = "engine", help_heading = "Database server")]
    pub database: Vec<DatabaseName>,
}

/// Where a server listens that is in no container.
#[derive(Debug, Clone, Default, Args)]
pub struct AddressFlags {
    /// Where the server listens, for the programs of this host: HOST:PORT, or the path of its socket
    #[arg(long = "server", value_name = "ADDRESS", group = "which", help_heading = "Database server")]
    pub address: Option<ServerAddress>,
}
