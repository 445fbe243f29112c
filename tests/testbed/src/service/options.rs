//! How the service is told to behave.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// A service that commits rows to SQLite and records each one, and misbehaves as told.
#[derive(Debug, Clone, Parser)]
pub struct Options {
    /// The record of what it does.
    #[arg(long)]
    pub record: PathBuf,
    /// Its databases. A row goes to all of them, one after the other, under one number.
    #[arg(long = "database", required = true)]
    pub databases: Vec<PathBuf>,
    /// The journal mode.
    #[arg(long, default_value = "wal")]
    pub journal_mode: String,
    /// PRAGMA locking_mode=EXCLUSIVE.
    #[arg(long)]
    pub exclusive: bool,
    /// One of SQLite's virtual file systems, as `unix-excl`.
    #[arg(long)]
    pub vfs: Option<String>,
    /// How long SQLite waits for somebody else's lock, in milliseconds.
    #[arg(long, default_value_t = 10_000)]
    pub busy_timeout: u64,
    /// Milliseconds between two transactions.
    #[arg(long, default_value_t = 5)]
    pub pause: u64,
    /// Milliseconds that each transaction stays open after its first change.
    #[arg(long, default_value_t = 0)]
    pub hold_open: u64,
    /// Bytes of each row.
    #[arg(long, default_value_t = 200)]
    pub payload: usize,
    /// What SIGTERM leads to.
    #[arg(long, value_enum, default_value_t = OnTerm::Exit)]
    pub on_term: OnTerm,
    /// Milliseconds that a slow stop takes.
    #[arg(long, default_value_t = 12_000)]
    pub slow_for: u64,
    /// Becomes a daemon by forking twice, and writes its pid here.
    #[arg(long)]
    pub daemonise: Option<PathBuf>,
    /// Has a child process that opens the same databases and ignores SIGTERM.
    #[arg(long, value_enum)]
    pub child: Option<ChildWork>,
    /// Milliseconds that the child lives on after its parent's end.
    #[arg(long, default_value_t = 3_000)]
    pub child_lingers: u64,
    /// Never tells systemd that it is ready.
    #[arg(long)]
    pub never_ready: bool,
    /// Accepts connections here, and answers HTTP.
    #[arg(long)]
    pub listen: Option<std::net::SocketAddr>,
    /// Accepts connections on the socket that is its standard input (systemd: StandardInput=socket).
    #[arg(long)]
    pub listen_on_stdin: bool,
    /// Does its work once and ends, as a job of a timer.
    #[arg(long)]
    pub rows: Option<i64>,
    /// Internal: which part of a double fork, or the child, this process is.
    #[arg(long, hide = true, value_enum, default_value_t = Role::Main, overrides_with = "role")]
    pub role: Role,
}

/// What SIGTERM leads to. SIGUSR1 always leads to an orderly end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnTerm {
    /// An orderly end at once.
    Exit,
    /// An orderly end after `--slow-for`; until then it goes on committing.
    Slow,
    /// Nothing: it goes on committing.
    Ignore,
    /// Nothing, except that it stays inside its next transaction.
    Stuck,
    /// SIGABRT, from within a transaction.
    Crash,
}

/// What the child does with the databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ChildWork {
    /// Keeps them open.
    Hold,
    /// Commits rows of its own.
    Write,
}

/// Which process of the service this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// The one that was started.
    Main,
    /// The first fork of a daemon: makes a session, starts the daemon and ends.
    Forked,
    /// The daemon.
    Daemon,
    /// The child; it notices its parent's end by the end of its standard input.
    Child,
}
