//! The command line of `svc-repair`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use svckit::name::{BackupId, TargetName};

use super::ctl::{CompletionsArgs, ManArgs};
use super::{Global, GuardArgs, ServiceFlags, StopFlags, duration};

/// Check and repair SQLite databases: the original is preserved, and every row is accounted for
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
  svc-repair repair /var/lib/notes/notes.db --unit notes.service --dry-run
  svc-repair repair /var/lib/notes/notes.db --unit notes.service
  svc-repair list /var/lib/notes/notes.db
  svc-repair undo /var/lib/notes/notes.db --unit notes.service";

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
    /// Repair a database (exit 13: only with losses; they are told, and the original stays unless --accept-loss)
    #[command(
        after_help = "Examples:\n  svc-repair repair /var/lib/notes/notes.db --unit notes.service --dry-run\n  \
        svc-repair repair /var/lib/notes/notes.db --unit notes.service\n  \
        svc-repair repair ./copy.db --no-service --accept-loss\n  \
        svc-repair repair /var/lib/notes/notes.db --unit notes.service --from /srv/backups\n  \
        svc-repair repair /var/lib/notes/notes.db --unit notes.service --strategy restore --from /srv/backups",
        long_about = REPAIR_LONG
    )]
    Repair(Box<RepairArgs>),
    /// Put a preserved original back, byte for byte
    #[command(after_help = "Examples:\n  svc-repair undo /var/lib/notes/notes.db --unit notes.service\n  \
        svc-repair undo ./copy.db --no-service --set 20261121T103000Z-0a1b2c")]
    Undo(Box<UndoArgs>),
    /// List preserved originals; nothing removes them but you
    #[command(after_help = "Example:\n  svc-repair list /var/lib/notes")]
    List(ListArgs),
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

Some losses leave no evidence: a log (-wal) that was cut or deleted together with its -shm, a hot journal that was \
deleted, and a whole older database without its log. Only SQLite knows CHECK constraints, foreign keys, full-text \
indices and generated columns: --deep has it judge them, on a copy.";

const REPAIR_LONG: &str = "Repair a database (exit 13: only with losses; they are told, and the original stays unless \
--accept-loss)

The service is stopped and held, the database is preserved together with its log and journal in a private directory \
beside it and read back, and only then a copy is repaired: by its log or journal alone where that is all it takes, by \
new indices where all tables are whole, else by reading every row that can be read into a new database. What comes of \
it is checked by two readers and compared, table by table, with what the damaged database could show. Rows that fit \
nowhere are kept in lost_and_found.db beside the preserved original, with report.json.

Where rows are lost and a verified backup of the database is known (--from, or the configuration), the report names the \
command that fills them from it. --strategy restore does: rows that can be read stay as they are, rows that can't are \
the backup's, and a row that was deleted since stays deleted where the rest of its table, or a whole index, tells. The \
account has, table by table, how many rows are the backup's and how many of those are proved by indices in every column; \
without that proof a row may have been changed or deleted since, the exit status is 13, and the original is replaced all \
the same, since naming the strategy is the agreement.

What only the service's own SQLite can build (an index in the order of its collation, the words of its tokenizer, a \
stored column that its function computes) is built by its own program where one is known: --sqlite-program, \
sqlite-program in svckit.toml, or the profile. It works on a copy, on one statement each, and its result must be whole for \
both readers and for the program itself. Else the report says what is missing, and the repair is one in part. No program \
helps a table without rowids whose key is in such an order: where it has to be made anew, its rows are kept in \
lost_and_found.db, and the table is told as missing.

A full-text index that can be read and does not agree with its rows is built anew from them. Which of the two was wrong \
can't be told, so that such a repair is one in part, too.

Damage within a value that no index covers can't be seen by anybody.";

/// The options of `repair`.
#[derive(Debug, Clone, Args)]
pub struct RepairArgs {
    /// The database
    pub path: PathBuf,
    #[command(flatten)]
    /// Which service uses it.
    pub service: ServiceFlags,
    /// No service uses it: refused while any process has it open or locked
    #[arg(long, conflicts_with = "which", help_heading = "Which service")]
    pub no_service: bool,
    /// Do it on copies, say what would come of it, and leave service and original alone
    #[arg(long)]
    pub dry_run: bool,
    /// Replace the original also where something is lost: what, is told
    #[arg(long)]
    pub accept_loss: bool,
    /// A store with backups of it: where its definitions are damaged, those of the newest stand in for them; its rows
    /// are taken by `--strategy restore` alone [default: the store of the target that has this database]
    #[arg(long, value_name = "STORE")]
    pub from: Option<PathBuf>,
    /// Its name in the store [default: whichever has backups of this path]
    #[arg(long, value_name = "NAME", requires = "from")]
    pub target: Option<TargetName>,
    /// The service's own build of sqlite3, which makes what only it can (indices in the order of its collations, the words
    /// of its tokenizers) on a copy [default: that of its profile, or of the configuration]
    #[arg(long, value_name = "PATH")]
    pub sqlite_program: Option<PathBuf>,
    /// How it is repaired
    #[arg(long, value_name = "WORD", default_value = "auto")]
    pub strategy: StrategyArg,
    #[command(flatten)]
    /// How the service is stopped.
    pub stop: StopFlags,
}

/// How a database is repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StrategyArg {
    /// The least invasive way that gives a whole database
    #[value(alias = "least")]
    Auto,
    /// Only what the log or the hot journal has is taken into the file
    Recovery,
    /// Only damaged indices are built anew
    Indices,
    /// Every row that can be read goes into a new database
    Salvage,
    /// What even that loses is filled from the newest verified backup; naming it is the agreement to that
    Restore,
}

/// The options of `undo`.
#[derive(Debug, Clone, Args)]
pub struct UndoArgs {
    /// The database
    pub path: PathBuf,
    /// Which preserved original, as `list` names it [default: that of the latest repair which
    /// replaced anything]
    #[arg(long, value_name = "ID")]
    pub set: Option<BackupId>,
    #[command(flatten)]
    /// Which service uses it.
    pub service: ServiceFlags,
    /// No service uses it: refused while any process has it open or locked
    #[arg(long, conflicts_with = "which", help_heading = "Which service")]
    pub no_service: bool,
    /// Print the plan, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    /// How the service is stopped.
    pub stop: StopFlags,
}

/// The options of `list`.
#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    /// A database, or a directory [default: this one]
    pub path: Option<PathBuf>,
}

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
    /// How long writers in a rollback mode may be kept waiting, where they write all the time
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "50ms")]
    pub hold_max: Duration,
}
