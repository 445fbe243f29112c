//! The command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::bench::Bench;
use crate::{Outcome, actors, data, measures, report};

/// svckit measured side by side with what a user would pick instead
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Clone, Args)]
struct Options {
    /// Size of the large database
    #[arg(long, global = true, default_value = "1500M", value_parser = size)]
    size: u64,
    /// Size of the small database, with which the memory is compared
    #[arg(long, global = true, default_value = "150M", value_parser = size)]
    small: u64,
    /// Measured runs per contestant; one more warms up
    #[arg(long, global = true, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Where databases and copies lie; six times the size must be free
    #[arg(long, global = true, default_value_os_t = default_dir())]
    dir: PathBuf,
    /// Where svc-ctl, svc-backup and svc-repair are [default: beside this program]
    #[arg(long, global = true)]
    programs: Option<PathBuf>,
    /// The file that keeps the figures; `-` keeps none
    #[arg(long, global = true, default_value_os_t = default_results())]
    results: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every measure
    All,
    /// From the real end of a service to the return of its stop
    Stop,
    /// How long a cold backup keeps a service away
    Downtime,
    /// A hot snapshot
    Snapshot,
    /// A whole backup: snapshot, compression, verification
    Backup,
    /// The peak memory of a backup
    Memory,
    /// What a hot snapshot costs a busy writer
    Stall,
    /// A check of every page, warm and cold, and its peak memory
    Check,
    /// A repair of damaged tables
    Salvage,
    /// A command under a lock, and the hand-over of a lock to a waiter
    Lock,
    /// A tree that is published again
    Publish,
    /// Expired rows that are pruned beside a service that writes
    Tend,
    /// The same with a million of them: minutes
    TendLarge,
    /// 200 labelled containers found and planned, and the memory of that (an engine of its own: root)
    Targets,
    /// Dumps of PostgreSQL and MariaDB of about --size, and their peak memory at --small too (an engine of its own: root)
    Dump,
    /// Remove the generated databases
    Clean,
    /// Prints the nanoseconds of CLOCK_MONOTONIC
    #[command(hide = true)]
    Clock,
    /// A service that opens a database and says when it is ready and when it ends
    #[command(hide = true)]
    Service(actors::ServiceArgs),
    /// A writer that measures its own commits
    #[command(hide = true)]
    Writer(actors::WriterArgs),
    /// Runs a command and writes the peak memory of it and its children, in KiB
    #[command(hide = true)]
    Peak(actors::PeakArgs),
}

pub(crate) fn run() -> Outcome<()> {
    let cli = Cli::parse();
    let options = cli.options;
    let names: &[&str] = match cli.command {
        Command::Service(args) => return actors::service(&args),
        Command::Writer(args) => return actors::writer(&args),
        Command::Peak(args) => return actors::peak(&args),
        Command::Clean => return data::clean(&options.dir),
        Command::Clock => {
            println!("{}", actors::now());
            return Ok(());
        }
        Command::All => measures::ALL,
        Command::Stop => &["stop"],
        Command::Downtime => &["downtime"],
        Command::Snapshot => &["snapshot"],
        Command::Backup => &["backup"],
        Command::Memory => &["memory"],
        Command::Stall => &["stall"],
        Command::Check => &["check"],
        Command::Salvage => &["salvage"],
        Command::Lock => &["lock", "lock-wait"],
        Command::Publish => &["publish", "publish-large"],
        Command::Tend => &["tend"],
        Command::TendLarge => &["tend-large"],
        Command::Targets => &["targets"],
        Command::Dump => &["dump"],
    };
    let own = std::env::current_exe()?;
    let programs = options.programs.unwrap_or_else(|| own.parent().unwrap_or(Path::new(".")).to_owned());
    let bench = Bench {
        dir: options.dir,
        programs,
        own,
        size: options.size,
        small: options.small,
        runs: usize::try_from(options.runs)?,
        wait_max: Duration::from_secs(600),
    };
    std::fs::create_dir_all(&bench.dir)?;
    for name in names {
        eprintln!("measuring {name}");
        match measures::run(name, &bench) {
            Ok(section) => {
                println!("{section}");
                if options.results.as_os_str() != "-" {
                    report::keep(&options.results, &section, &bench)?;
                }
            }
            Err(error) if names.len() > 1 => eprintln!("svckit-benches: {name} was not measured: {error}"),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn default_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target").join("bench-data")
}

fn default_results() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md")
}

/// `1500M`, `2G`, `4096K`.
fn size(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.char_indices().find(|(_, c)| !c.is_ascii_digit()) {
        Some((at, _)) => text.split_at(at),
        None => (text, ""),
    };
    let factor = match unit {
        "" => 1,
        "K" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        other => return Err(format!("the unit {other:?} is none of K, M and G")),
    };
    let number: u64 = digits.parse().map_err(|error| format!("{digits:?} is no number: {error}"))?;
    number.checked_mul(factor).ok_or_else(|| "too large".to_owned())
}
