//! The command line of `svc-backup`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use svckit::name::{BackupId, TargetName};

use super::ctl::{CompletionsArgs, ManArgs};
use super::server::{AddressFlags, LoginFlags, ServerFlags};
use super::{Global, GuardArgs, ServiceFlags, StopFlags, duration};

/// Back up the databases of services that run, prove the backups, and restore them
#[derive(Debug, Parser)]
#[command(name = "svc-backup", version, styles = super::styles(), after_help = EXAMPLES, after_long_help = long_help())]
pub struct Cli {
    #[command(flatten)]
    /// What every command understands.
    pub global: Global,
    #[command(subcommand)]
    /// What to do.
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  svc-backup demo
  svc-backup backup plex --to /srv/backups
  svc-backup backup --sqlite /var/lib/notes/notes.db --to /srv/backups
  svc-backup verify --from /srv/backups --restore
  svc-backup restore --from /srv/backups notes --to /var/lib/notes/notes.db --unit notes.service";

fn long_help() -> String {
    format!("{EXAMPLES}\n\nExit status:\n{}", crate::exit::table())
}

/// What `svc-backup` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Back up databases, verify the copy, and keep it in a store
    #[command(after_help = "Examples:\n  svc-backup backup plex --to /srv/backups\n  \
        svc-backup backup --sqlite /srv/a.db --sqlite /srv/b.db --include /etc/notes --name notes --to /srv/backups\n  \
        svc-backup backup --sqlite /srv/notes.db --unit notes.service --mode cold --to /srv/backups --dry-run\n  \
        svc-backup backup --engine mysql --container shop-db --to /srv/backups
  \
        svc-backup backup --engine postgres --server unix:/run/postgresql --to /srv/backups
  \
        svc-backup backup --group shop
  \
        svc-backup backup --all")]
    Backup(Box<BackupArgs>),
    /// List the backups in a store
    #[command(after_help = "Example:\n  svc-backup list --from /srv/backups notes")]
    List(ListArgs),
    /// Verify backups again: hashes, and with --restore a restore into a scratch directory
    #[command(after_help = "Example:\n  svc-backup verify --from /srv/backups notes --restore")]
    Verify(VerifyArgs),
    /// Put a backup back, keeping what it replaces
    #[command(after_help = "Examples:\n  svc-backup restore --from /srv/backups notes --to /tmp/look.db\n  \
        svc-backup restore --from /srv/backups notes --to /var/lib/notes/notes.db --unit notes.service\n  \
        svc-backup restore --from /srv/backups shop-db --container shop-db --overwrite\n  \
        svc-backup restore --from /srv/backups postgres --server db.example:5432 --password-file /etc/svckit/db.password")]
    Restore(Box<RestoreArgs>),
    /// Remove backups that a rule no longer keeps; never the last one that verifies
    #[command(
        after_help = "Example:\n  svc-backup expire --from /srv/backups notes --keep-last 7 --keep-weekly 8 --dry-run"
    )]
    Expire(ExpireArgs),
    /// Back up a busy service in a temporary directory in all three modes, and show what it cost
    #[command(after_help = "Example:\n  svc-backup demo")]
    Demo(DemoArgs),
    /// List what would be backed up: configured targets, labelled containers, known services that are found here
    #[command(after_help = "Example:\n  svc-backup targets --json")]
    Targets,
    /// Show what became of the targets, and of the last run; exit status 10 where one has no good backup since it failed
    #[command(after_help = "Example:\n  svc-backup status --json")]
    Status,
    /// Forget what is known of a target that is not backed up any more; its backups stay
    #[command(after_help = "Example:\n  svc-backup forget old-wiki")]
    Forget(ForgetArgs),
    /// List the labels by which a container says what of it is to be backed up
    #[command(after_help = "Example:\n  svc-backup labels")]
    Labels,
    /// Work on the configuration
    #[command(after_help = "Example:\n  svc-backup config check")]
    Config {
        #[command(subcommand)]
        /// What to do with it.
        command: ConfigCommand,
    },
    /// Take over what another tool was told
    Import {
        #[command(subcommand)]
        /// Which tool.
        command: ImportCommand,
    },
    /// Write and enable the units: a timer per target, and the resume at boot
    #[command(after_help = "Examples:\n  svc-backup install-units --dry-run\n  svc-backup install-units\n  \
        systemctl enable --now svc-backup@notes.timer")]
    InstallUnits(InstallUnitsArgs),
    /// Print the completions of a shell
    #[command(after_help = "Example:\n  svc-backup completions zsh > ~/.zfunc/_svc-backup")]
    Completions(CompletionsArgs),
    /// Write the manual pages into a directory
    #[command(hide = true, after_help = "Example:\n  svc-backup man target/man")]
    Man(ManArgs),
    /// Watch a run, and bring its services back when it dies
    #[command(hide = true, after_help = "Example: started by svckit itself")]
    Guard(GuardArgs),
    /// The service of the demonstration
    #[command(hide = true, after_help = "Example: started by svc-backup demo")]
    DemoService(DemoServiceArgs),
}

/// How the data is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// A consistent snapshot; the service runs on
    Hot,
    /// Writers wait while the data is copied; the service runs on
    Fenced,
    /// The service is stopped while the data is copied
    Cold,
}

/// The options of `backup`.
#[derive(Debug, Clone, Args)]
pub struct BackupArgs {
    /// Targets of the configuration, or known services (see: svc-backup targets)
    #[arg(value_name = "TARGET", conflicts_with = "sqlite")]
    pub targets: Vec<String>,
    /// Every target of the configuration and of containers
    #[arg(long, conflicts_with_all = ["targets", "sqlite"])]
    pub all: bool,
    /// Groups of the configuration: their members are taken together, as one backup or none; may be repeated
    #[arg(long, value_name = "GROUP", conflicts_with_all = ["targets", "sqlite", "all"])]
    pub group: Vec<String>,
    /// How many targets are worked on at once [default: 2]; SIGUSR1 makes it one more, SIGUSR2 one fewer
    #[arg(long, value_name = "N", conflicts_with = "sqlite", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub at_once: Option<u8>,
    /// A SQLite database; may be repeated: all are taken at one instant
    #[arg(long, value_name = "PATH", required_unless_present_any = ["targets", "all", "group", "engine", "address"])]
    pub sqlite: Vec<PathBuf>,
    /// The directory of the store [default: the target's]
    #[arg(long, value_name = "STORE")]
    pub to: Option<PathBuf>,
    /// The name in the store [default: the target's, else the database's]
    #[arg(long, value_name = "TARGET")]
    pub name: Option<TargetName>,
    /// A file, a directory or a pattern that belongs to the data; may be repeated
    #[arg(long, value_name = "PATH")]
    pub include: Vec<PathBuf>,
    /// How the data is taken [default: the target's, else hot]
    #[arg(long, value_name = "MODE")]
    pub mode: Option<ModeArg>,
    /// none, zstd, zstd:LEVEL with a level of 1 to 19, or zstd:LEVEL:THREADS [default: the target's, else zstd:3]
    #[arg(long, value_name = "WORD")]
    pub compression: Option<svckit::compression::Compression>,
    /// The longest time that writers may be made to wait (hot and fenced)
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2s")]
    pub fence_hold_max: Duration,
    /// Print the plan, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    /// Which server is dumped.
    pub server: ServerFlags,
    #[command(flatten)]
    /// Where it is.
    pub at: AddressFlags,
    #[command(flatten)]
    /// As whom.
    pub login: LoginFlags,
    #[command(flatten)]
    /// Which service it belongs to.
    pub service: ServiceFlags,
    #[command(flatten)]
    /// How that is stopped.
    pub stop: StopFlags,
}

/// From which tool.
#[derive(Debug, Clone, Subcommand)]
pub enum ImportCommand {
    /// Read `baktainer.*` labels and `BT_*` variables; print the configuration and the labels to write instead
    #[command(
        after_help = "Examples:\n  svc-backup import baktainer\n  svc-backup import baktainer --env-file baktainer.env"
    )]
    Baktainer(ImportArgs),
}

/// The options of `import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// A file of its variables, NAME=value in lines [default: those of its own container]
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
}

/// The options of `forget`.
#[derive(Debug, Clone, Args)]
pub struct ForgetArgs {
    /// The target
    pub target: TargetName,
}

/// The options of `list`.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// The directory of the store
    #[arg(long, value_name = "STORE")]
    pub from: PathBuf,
    /// Only this target
    pub target: Option<TargetName>,
}

/// The options of `verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// The directory of the store
    #[arg(long, value_name = "STORE")]
    pub from: PathBuf,
    /// Only this target
    pub target: Option<TargetName>,
    /// Only this backup
    pub backup: Option<BackupId>,
    /// Also restore each, into a scratch directory, or a dump into a scratch container or a private server, and check the databases there
    #[arg(long)]
    pub restore: bool,
    /// With --restore: a statement that the restored databases of a dump must answer; `SQL => LINE`: with this first line
    #[arg(long, value_name = "SQL", requires = "restore")]
    pub query: Vec<String>,
}

/// The options of `restore`.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// The directory of the store
    #[arg(long, value_name = "STORE")]
    pub from: PathBuf,
    /// The target, as the store names it
    pub target: TargetName,
    /// Which backup [default: the latest that verifies]
    pub backup: Option<BackupId>,
    /// Of a group's backup: this member alone
    #[arg(long, value_name = "MEMBER")]
    pub member: Option<TargetName>,
    /// A file for one database, a directory for a set and for files (a new one is made; `DIR/` asks for one); a dump
    /// goes into the server of --container or at --server instead
    #[arg(long, value_name = "PATH", required_unless_present_any = ["container", "address"], conflicts_with = "address")]
    pub to: Option<PathBuf>,
    /// Replace databases of that server that are not empty; they are dumped first, as a backup of TARGET.replaced
    #[arg(long, conflicts_with = "to")]
    pub overwrite: bool,
    /// Don't dump what --overwrite replaces
    #[arg(long, requires = "overwrite")]
    pub discard: bool,
    /// Print the plan, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    /// The server that a dump is loaded into.
    pub at: AddressFlags,
    #[command(flatten)]
    /// As whom a dump is loaded.
    pub login: LoginFlags,
    #[command(flatten)]
    /// Which service uses what is replaced.
    pub service: ServiceFlags,
    #[command(flatten)]
    /// How that is stopped.
    pub stop: StopFlags,
}

/// The options of `expire`.
#[derive(Debug, Clone, Args)]
pub struct ExpireArgs {
    /// The directory of the store
    #[arg(long, value_name = "STORE")]
    pub from: PathBuf,
    /// Only this target
    pub target: Option<TargetName>,
    /// Keep so many of the newest
    #[arg(long, value_name = "N")]
    pub keep_last: Option<u32>,
    /// Keep the newest of each of so many days
    #[arg(long, value_name = "N")]
    pub keep_daily: Option<u32>,
    /// Keep the newest of each of so many weeks
    #[arg(long, value_name = "N")]
    pub keep_weekly: Option<u32>,
    /// Keep the newest of each of so many months
    #[arg(long, value_name = "N")]
    pub keep_monthly: Option<u32>,
    /// Keep the newest of each of so many years
    #[arg(long, value_name = "N")]
    pub keep_yearly: Option<u32>,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// The options of `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// How large the database is before the service starts, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub size: u32,
}

/// The options of the demonstration's service.
#[derive(Debug, Clone, Args)]
pub struct DemoServiceArgs {
    /// Its database
    pub database: PathBuf,
    /// Where it acknowledges what it committed
    pub acknowledged: PathBuf,
    /// The port of 127.0.0.1 that it listens on once it is ready
    pub port: u16,
}

/// What is done with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read the configuration, and say everything that is wrong with it
    #[command(after_help = "Example:\n  svc-backup config check --config ./svckit.toml")]
    Check,
}

/// The options of `install-units`.
#[derive(Debug, Clone, Args)]
pub struct InstallUnitsArgs {
    /// Where to write them; they are enabled in the default directory only
    #[arg(long, value_name = "DIR", default_value = "/etc/systemd/system")]
    pub dir: PathBuf,
    /// Print them, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Where the programs will be [default: where this one is]
    #[arg(long, value_name = "DIR", hide = true)]
    pub bin_dir: Option<PathBuf>,
}
