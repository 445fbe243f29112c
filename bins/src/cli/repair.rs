//! The command line of `svc-repair`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::ctl::{CompletionsArgs, ManArgs};
use super::{Global, GuardArgs, duration};

/// Check SQLite databases without touching them
#[derive(Debug, Parser)]
#[command(name = "svc-repair", version, styles = super::styles(), after_help = EXAMPLES, after_long_help = long_help())]
pub struct Cli {
    #[command(flatten)]
    /// What every command understands.
    pub global: Global,
    #[command(subcommand)]
    /// What to do.
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  svc-repair check /var/lib/notes/notes.db
  svc-repair check --deep /var/lib/notes/notes.db --json";

fn long_help() -> String {
    format!("{EXAMPLES}\n\nExit status:\n{}", crate::exit::table())
}

/// What `svc-repair` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check a database, read-only, also while its service runs (exit 11: it is damaged)
    #[command(
        after_help = "Examples:\n  svc-repair check /var/lib/notes/notes.db\n  \
        svc-repair check --deep --scratch /srv/tmp /var/lib/notes/notes.db",
        long_about = CHECK_LONG
    )]
    Check(CheckArgs),
    /// Print the completions of a shell
    #[command(after_help = "Example:\n  svc-repair completions fish > ~/.config/fish/completions/svc-repair.fish")]
    Completions(CompletionsArgs),
    /// Write the manual pages into a directory
    #[command(hide = true, after_help = "Example:\n  svc-repair man target/man")]
    Man(ManArgs),
    /// Watch a run, and bring its services back when it dies
    #[command(hide = true, after_help = "Example: started by svckit itself")]
    Guard(GuardArgs),
}

const CHECK_LONG: &str = "Check a database, read-only, also while its service runs (exit 11: it is damaged)

Every page is read and judged without SQLite, on all cores: the structure, that every page \
has one use, every record, every index against its table; and the files beside the database, for commits that are lost \
although SQLite's own checks call everything ok. Nothing is written, not a byte, and no file appears beside the database.

Some losses leave no evidence: a log (-wal) that was cut or deleted together with its -shm, and a whole older database \
without its log. Only SQLite knows CHECK constraints, foreign keys, full-text indices and generated columns: --deep has \
it judge them, on a copy.";

/// The options of `check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// The database
    pub path: PathBuf,
    /// Have SQLite check a consistent copy too, for what only it knows
    #[arg(long)]
    pub deep: bool,
    /// Where that copy lies meanwhile [default: the system's temporary directory]
    #[arg(long, value_name = "DIR", requires = "deep")]
    pub scratch: Option<PathBuf>,
    /// How many threads read [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: Option<u16>,
    /// How long writers in a rollback mode may be kept waiting
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "2s")]
    pub hold_max: Duration,
}
