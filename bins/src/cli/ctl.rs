//! The command line of `svc-ctl`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::{Global, GuardArgs, ServiceFlags, StopFlags};

/// Stop, start and watch services without ever killing a database write
#[derive(Debug, Parser)]
#[command(name = "svc-ctl", version, styles = super::styles(), after_help = EXAMPLES, after_long_help = crate::cli::ctl::long_help())]
pub struct Cli {
    #[command(flatten)]
    /// What every command understands.
    pub global: Global,
    #[command(subcommand)]
    /// What to do.
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  svc-ctl status --unit plexmediaserver.service
  svc-ctl stop --unit notes.service --stop-timeout 2m
  svc-ctl audit --service plex --json
  svc-ctl resume";

fn long_help() -> String {
    format!("{EXAMPLES}\n\nExit status:\n{}", crate::exit::table())
}

/// A command on one service.
#[derive(Debug, Clone, Args)]
pub struct OnService {
    #[command(flatten)]
    /// Which.
    pub service: ServiceFlags,
    /// A database of the service, beside those that its processes have open; may be repeated
    #[arg(long, value_name = "PATH", help_heading = "Which service")]
    pub database: Vec<PathBuf>,
    #[command(flatten)]
    /// How.
    pub stop: StopFlags,
}

/// A command that changes one service.
#[derive(Debug, Clone, Args)]
pub struct ChangeService {
    #[command(flatten)]
    /// On what.
    pub on: OnService,
    /// Print the plan, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What `svc-ctl` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say whether a service runs (exit 10: it does not)
    #[command(after_help = "Example:\n  svc-ctl status --unit notes.service --json")]
    Status(OnService),
    /// Stop a service, and prove that it is stopped
    #[command(after_help = "Examples:\n  svc-ctl stop --unit notes.service\n  \
        svc-ctl stop --pid-file /run/notes.pid --database /srv/notes.db --last-resort fenced-kill")]
    Stop(ChangeService),
    /// Start a service, and wait until it is ready
    #[command(
        after_help = "Example:\n  svc-ctl start --unit notes.service --ready 'http:http://127.0.0.1:8080/health;timeout=60s'"
    )]
    Start(ChangeService),
    /// Stop a service, start it again, and wait until it is ready
    #[command(after_help = "Example:\n  svc-ctl restart --unit notes.service --ready tcp:127.0.0.1:8080")]
    Restart(ChangeService),
    /// Wait until a service is ready (exit 10: it is not, in time)
    #[command(after_help = "Example:\n  svc-ctl wait --unit notes.service --ready 'log:listening on;timeout=2m'")]
    Wait(OnService),
    /// Say who could kill a service while it stops (exit 22: somebody could, and can't be prevented)
    #[command(after_help = "Example:\n  svc-ctl audit --unit notes.service")]
    Audit(OnService),
    /// Bring back what an interrupted run left stopped
    #[command(after_help = "Example:\n  svc-ctl resume")]
    Resume(ResumeArgs),
    /// Print the completions of a shell
    #[command(after_help = "Example:\n  svc-ctl completions bash > /etc/bash_completion.d/svc-ctl")]
    Completions(CompletionsArgs),
    /// Write the manual pages into a directory
    #[command(hide = true, after_help = "Example:\n  svc-ctl man target/man")]
    Man(ManArgs),
    /// Watch a run, and bring its services back when it dies
    #[command(hide = true, after_help = "Example: started by svckit itself")]
    Guard(GuardArgs),
    /// Print the locks of services, for svc-lock
    #[command(hide = true, after_help = "Example: started by svckit itself")]
    LockKeys(super::lock::Which),
}

/// The options of `resume`.
#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    /// As the unit svc-resume.service runs it at boot, before the services start
    #[arg(long)]
    pub boot: bool,
}

/// The options of `completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// The options of `man`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// The directory; it is created
    pub directory: PathBuf,
}
