//! The command line of `svc-tend`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::Global;
use super::ctl::{CompletionsArgs, ManArgs};

/// Prune what is expired in the SQLite database of a service, in loops that do not die
#[derive(Debug, Parser)]
#[command(name = "svc-tend", version, styles = super::styles(), after_help = EXAMPLES, after_long_help = long_help(), long_about = LONG)]
pub struct Cli {
    #[command(flatten)]
    /// What every command understands.
    pub global: Global,
    #[command(subcommand)]
    /// What to do.
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  svc-tend check                      # do the rules fit their databases? what would be faster with an index?
  svc-tend once mailboxes --dry-run   # what would go now
  svc-tend run                        # in the foreground, for systemd: svc-tend.service
  svc-tend status --json
  svc-tend quarantine list";

const LONG: &str = "Prune what is expired in the SQLite database of a service, in loops that do not die

A rule says which rows of a table are expired, and what belongs to them. Each item goes with all that belongs to it, or not \
at all; one that can't be removed is told, tried again after a growing pause and then set aside, and the others go in the \
same pass. The service runs meanwhile: transactions are short, nothing is checkpointed, no schema is changed, and while \
svckit repairs, restores or backs it up cold, nothing is pruned.

Rules are read from tend.toml: --config, else ~/.config/svckit/tend.toml, else /etc/svckit/tend.toml.";

fn long_help() -> String {
    format!("{EXAMPLES}\n\nExit status:\n{}", crate::exit::table())
}

/// What `svc-tend` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the rules by their schedules until a signal ends it
    #[command(after_help = "Example, in a unit:\n  ExecStart=/usr/bin/svc-tend run --config /etc/svckit/tend.toml")]
    Run(RunArgs),
    /// Run a pass of each rule, or of those that are named, now (exit 32: something failed)
    #[command(after_help = "Examples:\n  svc-tend once\n  svc-tend once mailboxes --dry-run")]
    Once(OnceArgs),
    /// Compare the rules with their databases; print indices that are missing (exit 3: a rule does not fit)
    #[command(after_help = "Example:\n  svc-tend check --config ./tend.toml")]
    Check(RulesArgs),
    /// Say when passes began, ended, succeeded and moved, and what failed (exit 10: a rule has not succeeded for too long)
    #[command(after_help = "Example:\n  svc-tend status --json")]
    Status(RulesArgs),
    /// Print what a munin plugin prints; never fails for what is unknown
    #[command(after_help = "Examples:\n  svc-tend munin config\n  svc-tend munin fetch")]
    Munin(MuninArgs),
    /// Print the figures in Prometheus' text format
    #[command(
        after_help = "Example, for node_exporter's textfile collector:\n  svc-tend metrics --to /var/lib/prometheus/node-exporter/svc-tend.prom"
    )]
    Metrics(MetricsArgs),
    /// Items that failed too often
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Print the completions of a shell
    #[command(after_help = "Example:\n  svc-tend completions zsh > ~/.zfunc/_svc-tend")]
    Completions(CompletionsArgs),
    /// Write the manual pages into a directory
    #[command(hide = true, after_help = "Example:\n  svc-tend man target/man")]
    Man(ManArgs),
}

/// The options of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Write the figures into this file, for node_exporter's textfile collector
    #[arg(long, value_name = "FILE", help_heading = "Monitoring")]
    pub textfile: Option<PathBuf>,
    /// Serve the figures to Prometheus at http://ADDRESS/metrics; an address of this machine alone, as 127.0.0.1:9780
    #[arg(long, value_name = "ADDRESS", help_heading = "Monitoring")]
    pub listen: Option<Loopback>,
}

/// An address of this machine alone: whoever can connect reads what is served there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loopback(SocketAddr);

impl Loopback {
    /// The address.
    #[must_use]
    pub fn address(self) -> SocketAddr {
        self.0
    }
}

impl FromStr for Loopback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address: SocketAddr = text.parse().map_err(|_| "write it as 127.0.0.1:9780".to_owned())?;
        if !address.ip().is_loopback() {
            return Err("others could reach it: it has to be a loopback address, as 127.0.0.1:9780".to_owned());
        }
        Ok(Self(address))
    }
}

/// Which rules.
#[derive(Debug, Clone, Args)]
pub struct RulesArgs {
    /// Only these rules
    #[arg(value_name = "RULE")]
    pub rules: Vec<String>,
}

/// The options of `once`.
#[derive(Debug, Clone, Args)]
pub struct OnceArgs {
    #[command(flatten)]
    /// Which rules.
    pub which: RulesArgs,
    /// Count what would go, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// The options of `metrics`.
#[derive(Debug, Clone, Args)]
pub struct MetricsArgs {
    /// Write them into this file, by a rename, instead of printing them
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
}

/// What munin asks a plugin for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum MuninWord {
    /// The values
    #[default]
    Fetch,
    /// The graphs, and the values too where munin understands that
    Config,
    /// Whether the plugin can work here
    Autoconf,
}

/// The options of `munin`.
#[derive(Debug, Clone, Args)]
pub struct MuninArgs {
    /// What to print
    #[arg(value_name = "WORD", default_value = "fetch")]
    pub word: MuninWord,
}

/// What can be done with items that failed too often. The items themselves are never touched.
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// Show them, and those that wait for their next attempt
    #[command(after_help = "Example:\n  svc-tend quarantine list --json")]
    List,
    /// Have one tried once more at the next pass; if it fails again, it is set aside again
    #[command(after_help = "Example:\n  svc-tend quarantine retry mailboxes 3yq5bk")]
    Retry(ItemArgs),
    /// Forget that one failed: where it is still expired, it is met as if for the first time
    #[command(after_help = "Example:\n  svc-tend quarantine drop mailboxes 3yq5bk")]
    Drop(ItemArgs),
}

/// An item of a rule.
#[derive(Debug, Clone, Args)]
pub struct ItemArgs {
    /// The rule
    pub rule: String,
    /// The item's key
    pub item: String,
}
