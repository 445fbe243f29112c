//! The command line of `svc-lock`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::ctl::{CompletionsArgs, ManArgs};
use super::{Global, OnNetworkArg, duration};

/// Run a command under the lock of a whole operation; show and prove who holds it
#[derive(Debug, Parser)]
#[command(name = "svc-lock", version, styles = super::styles(), after_help = EXAMPLES, after_long_help = long_help())]
pub struct Cli {
    #[command(flatten)]
    /// What every command understands.
    pub global: Global,
    #[command(subcommand)]
    /// What to do.
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  svc-lock run --name mirror -- /usr/local/bin/merge-and-push
  svc-lock run --name mirror --wait 10m --step contents -- make contents
  svc-lock run --unit plexmediaserver.service -- /usr/local/bin/move-library
  svc-lock status --json
  svc-lock prove --name mirror || exit 1";

fn long_help() -> String {
    format!(
        "{EXAMPLES}\n\nExit status:\n{}\n\
        Of `svc-lock run`: that of its command (128 and the signal's number where a signal ended it), and its own:\n  \
        75  somebody else holds the lock (--conflict-exit-code)\n \
        125  svc-lock itself failed\n 126  the command can't be executed\n 127  the command was not found\n",
        crate::exit::table()
    )
}

/// What `svc-lock` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command under a lock that covers it and what it starts
    #[command(after_help = RUN_HELP)]
    Run(RunArgs),
    /// Say who holds locks and who waits (exit 10: nobody holds the one that was named)
    #[command(after_help = "Examples:\n  svc-lock status\n  svc-lock status --name mirror --json")]
    Status(StatusArgs),
    /// Say whether this very process was handed a lock and holds it (exit 10: it does not)
    #[command(after_help = "Example, the first line of a script that must run under the lock:\n  \
        svc-lock prove --name mirror || exec svc-lock run --name mirror -- \"$0\" \"$@\"")]
    Prove(Which),
    /// Print the completions of a shell
    #[command(after_help = "Example:\n  svc-lock completions bash > /etc/bash_completion.d/svc-lock")]
    Completions(CompletionsArgs),
    /// Write the manual pages into a directory
    #[command(hide = true, after_help = "Example:\n  svc-lock man target/man")]
    Man(ManArgs),
}

const RUN_HELP: &str = "The lock is a kernel lock: it ends with the processes that have it, whatever becomes of files. \
It covers the command and what it starts. When the command has ended, the lock ends too, also for a daemon that was left \
behind; a background job that is to keep it runs under `svc-lock run` of the same name itself, which goes through where \
the lock was handed on. If svc-lock is killed, the command and what it started keep the lock until they end.

SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH and SIGCONT are passed on to the command.

Examples:
  svc-lock run --name mirror --wait 10m -- sh -c 'merge && push'
  svc-lock run --name mirror --no-wait --conflict-exit-code 0 -- update   # another run does it already";

/// What is locked.
#[derive(Debug, Clone, Default, Args)]
#[group(id = "what", required = true, multiple = true)]
pub struct Which {
    /// A name that all who take part agree on; may be repeated
    #[arg(long, value_name = "N", value_parser = name, group = "what", help_heading = "What is locked")]
    pub name: Vec<String>,
    /// A systemd unit of the system: as svc-ctl, svc-backup and svc-repair lock it
    #[arg(long, value_name = "U", group = "what", help_heading = "What is locked")]
    pub unit: Vec<String>,
    /// A systemd unit of this user
    #[arg(long, value_name = "U", group = "what", help_heading = "What is locked")]
    pub user_unit: Vec<String>,
    /// A container of the Docker engine at DOCKER_HOST
    #[arg(long, value_name = "C", group = "what", help_heading = "What is locked")]
    pub container: Vec<String>,
    /// A daemon that wrote its pid to this file
    #[arg(long, value_name = "F", group = "what", help_heading = "What is locked")]
    pub pid_file: Vec<PathBuf>,
    /// A service or target of the configuration, or a known service, with its databases
    #[arg(long, value_name = "NAME", group = "what", help_heading = "What is locked")]
    pub service: Vec<String>,
    /// A database file, whoever uses it
    #[arg(long, value_name = "PATH", group = "what", help_heading = "What is locked")]
    pub database: Vec<PathBuf>,
}

/// The options of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    #[command(flatten)]
    /// What is locked.
    pub which: Which,
    /// How long to wait while somebody else holds the lock [default: not at all]
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "no_wait", help_heading = "Waiting")]
    pub wait: Option<Duration>,
    /// Do not wait
    #[arg(long, help_heading = "Waiting")]
    pub no_wait: bool,
    /// The exit status where somebody else holds the lock
    #[arg(long, value_name = "N", default_value_t = 75, help_heading = "Waiting")]
    pub conflict_exit_code: u8,
    /// What the operation is at, for those who are refused and for `status`
    #[arg(long, value_name = "TEXT", value_parser = step)]
    pub step: Option<String>,
    /// What to do where svckit's locks lie on a network file system
    #[arg(long, value_name = "WORD", default_value = "refuse")]
    pub on_network: OnNetworkArg,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// The options of `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Only this one
    #[arg(long, value_name = "N", value_parser = name)]
    pub name: Option<String>,
    /// Those too that nobody holds
    #[arg(long)]
    pub all: bool,
}

/// A name for a lock: 1 to 200 bytes, and no control character, since it is shown.
fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 200 || text.chars().any(char::is_control) {
        return Err("a name has 1 to 200 bytes and no control characters".to_owned());
    }
    Ok(text.to_owned())
}

fn step(text: &str) -> Result<String, String> {
    if text.len() > 1000 || text.chars().any(char::is_control) {
        return Err("a step has 1,000 bytes at most and no control characters".to_owned());
    }
    Ok(text.to_owned())
}
