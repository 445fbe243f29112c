//! The command lines: what can be typed, and nothing of what it does. Help, completions and manual pages are all
//! made from these types.

pub mod backup;
pub mod ctl;
pub mod lock;
pub mod publish;
pub mod repair;
pub mod server;
mod service;
pub mod tend;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use svckit::lock::OnNetwork;

pub use service::{LastResortArg, ServiceFlags, StopFlags};

/// What every command of every program understands.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Say more on standard error; twice: everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet", help_heading = "Output")]
    pub verbose: u8,
    /// Say nothing on standard error but errors
    #[arg(short, long, global = true, help_heading = "Output")]
    pub quiet: bool,
    /// Print one JSON object per result, with its kind as a word
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
    /// The configuration [default: ~/.config/svckit/svckit.toml, else /etc/svckit/svckit.toml]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Output")]
    pub config: Option<PathBuf>,
}

/// What may be done where the lock directory is on a network file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OnNetworkArg {
    /// Refuse: a lock there may be worth nothing
    #[default]
    Refuse,
    /// Lock, and warn
    Warn,
}

impl From<OnNetworkArg> for OnNetwork {
    fn from(arg: OnNetworkArg) -> Self {
        match arg {
            OnNetworkArg::Refuse => Self::Refuse,
            OnNetworkArg::Warn => Self::Warn,
        }
    }
}

/// The hidden entry of the programs that waits for the end of its owner and then brings services back.
#[derive(Debug, Clone, Args)]
pub struct GuardArgs {
    /// Where the locks are
    #[arg(long)]
    pub lock_dir: PathBuf,
    /// Where the durable state is
    #[arg(long)]
    pub state_dir: PathBuf,
    /// Where the state of this boot is
    #[arg(long)]
    pub runtime_dir: PathBuf,
    /// Whether the locks may lie on a network file system
    #[arg(long, default_value = "refuse")]
    pub on_network: OnNetworkArg,
    /// The process that is watched, as PID:START_TICKS:BOOT_ID
    pub owner: String,
    /// The journal entry
    pub entry: PathBuf,
}

/// Reads a duration as people write it.
///
/// # Errors
/// When it is none, or longer than a year.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| format!("{error}; write it as 90s or 5m"))?;
    if duration > std::time::Duration::from_secs(366 * 86_400) {
        return Err("longer than a year".to_owned());
    }
    Ok(duration)
}

/// The colours of help and errors; clap itself leaves them out where there is no terminal or where NO_COLOR is set.
#[must_use]
pub fn styles() -> clap::builder::Styles {
    use clap::builder::styling::AnsiColor;
    clap::builder::Styles::styled()
        .header(AnsiColor::Green.on_default().bold())
        .usage(AnsiColor::Green.on_default().bold())
        .literal(AnsiColor::Cyan.on_default().bold())
        .placeholder(AnsiColor::Cyan.on_default())
}
