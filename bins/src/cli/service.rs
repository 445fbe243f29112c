//! How a service is named on a command line, and how it is to be stopped.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use svckit::ready::ReadyCheck;

use super::duration;

/// Which service.
#[derive(Debug, Clone, Default, Args)]
pub struct ServiceFlags {
    /// A systemd unit of the system
    #[arg(long, value_name = "U", group = "which", help_heading = "Which service")]
    pub unit: Option<String>,
    /// A systemd unit of this user
    #[arg(long, value_name = "U", group = "which", help_heading = "Which service")]
    pub user_unit: Option<String>,
    /// A container of the Docker engine at DOCKER_HOST, by name or id
    #[arg(long, value_name = "C", group = "which", help_heading = "Which service")]
    pub container: Option<String>,
    /// A daemon that wrote its pid to this file
    #[arg(long, value_name = "F", group = "which", help_heading = "Which service")]
    pub pid_file: Option<PathBuf>,
    /// A service or target of the configuration, or a known service
    #[arg(long = "service", value_name = "NAME", group = "which", help_heading = "Which service")]
    pub service_name: Option<String>,
    /// How the daemon of --pid-file is started again: a program and its arguments, quoted as for a shell, though none runs
    /// [default: as it was started before]
    #[arg(long, value_name = "CMD", requires = "pid_file", help_heading = "Which service")]
    pub start_command: Option<OsString>,
}

impl ServiceFlags {
    /// Whether any service was named.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.unit.is_some()
            || self.user_unit.is_some()
            || self.container.is_some()
            || self.pid_file.is_some()
            || self.service_name.is_some()
    }
}

/// What may happen when a stop takes too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LastResortArg {
    /// Nothing: the service goes on stopping, and is started when it has ended
    Never,
    /// SIGKILL, only while svckit itself holds the write lock of every database of the service
    FencedKill,
}

/// How it is stopped, and when it counts as back.
#[derive(Debug, Clone, Default, Args)]
pub struct StopFlags {
    /// How long the stop may last before svckit gives up [default: 90s]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Stopping and starting")]
    pub stop_timeout: Option<Duration>,
    /// How much longer while a database write is in flight [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Stopping and starting")]
    pub write_wait: Option<Duration>,
    /// What may happen after that [default: never]
    #[arg(long, value_name = "WORD", help_heading = "Stopping and starting")]
    pub last_resort: Option<LastResortArg>,
    /// When the service counts as back: unit, pid, health, tcp:HOST:PORT, http:URL[=STATUS], exec:COMMAND or log:REGEX, with
    /// ;timeout=90s ;interval=500ms ;passes=3 after it
    #[arg(long, value_name = "SPEC", help_heading = "Stopping and starting")]
    pub ready: Vec<ReadyCheck>,
    /// How long to wait while another operation holds the lock [default: not at all]
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Stopping and starting")]
    pub wait: Option<Duration>,
}
