//! The demonstration's service: commits rows to a WAL database as fast as it can and acknowledges each after its
//! commit, until SIGTERM.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use signal_hook::consts::SIGTERM;
use svckit::FailureKind;

use super::acks;
use crate::cli::backup::DemoServiceArgs;
use crate::error::ToolError;
use crate::exit::Outcome;
use crate::render::Output;

/// Nobody is left to stop it when the demonstration was killed: it ends by itself.
const LIFE_MAX: Duration = Duration::from_secs(300);
/// What one row holds beside its id.
const ROW_LEN: usize = 200;

/// The hidden `demo-service` entry.
#[must_use]
pub fn main(args: &DemoServiceArgs) -> ExitCode {
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            Output::new("demo-service", false).failure(&error, None);
            Outcome::Failed(error.kind()).into()
        }
    }
}

/// Makes the database, with rows of half random bytes until it is about as large as asked.
pub(super) fn prepare(path: &Path, size_mib: u32) -> Result<(), ToolError> {
    let make = || -> rusqlite::Result<()> {
        let mut database = Connection::open(path)?;
        database.pragma_update(None, "journal_mode", "wal")?;
        database.execute_batch(
            "CREATE TABLE history (id INTEGER PRIMARY KEY, body BLOB NOT NULL);
             CREATE TABLE rows (id INTEGER PRIMARY KEY, body TEXT NOT NULL);",
        )?;
        let all = database.transaction()?;
        {
            let mut insert = all.prepare("INSERT INTO history (body) VALUES (randomblob(2000) || zeroblob(2000))")?;
            for _ in 0..size_mib * 256 {
                insert.execute([])?;
            }
        }
        all.commit()
    };
    make().map_err(|error| failed("make", path, &error))
}

fn failed(action: &str, path: &Path, error: &rusqlite::Error) -> ToolError {
    let what = format!("can't {action} {}: {error}", path.display());
    ToolError::Other { what, kind: FailureKind::Failed, hint: None }
}

fn serve(args: &DemoServiceArgs) -> Result<(), ToolError> {
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGTERM, Arc::clone(&stop)).map_err(ToolError::io("handle", "SIGTERM"))?;
    let log = OpenOptions::new().create(true).append(true).open(&args.acknowledged);
    let mut log = log.map_err(ToolError::io("open", &args.acknowledged))?;
    let database = open(&args.database).map_err(|error| failed("open", &args.database, &error))?;
    let body = "x".repeat(ROW_LEN);
    let insert = database.prepare("INSERT INTO rows (body) VALUES (?1)");
    let mut insert = insert.map_err(|error| failed("open", &args.database, &error))?;
    let mut commit = || insert.execute([&body]).map(|_| database.last_insert_rowid());
    let mut listener = None;
    let began = Instant::now();
    while !stop.load(Ordering::SeqCst) && began.elapsed() < LIFE_MAX {
        let id = commit().map_err(|error| failed("commit to", &args.database, &error))?;
        // One write of one record: a reader sees whole records only, but perhaps for the last.
        let record = acks::record(id.unsigned_abs(), acks::now());
        log.write_all(&record).map_err(ToolError::io("write", &args.acknowledged))?;
        if listener.is_none() {
            // Ready once the first row is in.
            let bound = TcpListener::bind(("127.0.0.1", args.port));
            listener = Some(bound.map_err(ToolError::io("listen on", args.port.to_string()))?);
        }
    }
    Ok(())
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let database = Connection::open(path)?;
    database.busy_timeout(Duration::from_secs(60))?;
    // FULL: what is acknowledged survives a power cut too.
    database.pragma_update(None, "synchronous", "full")?;
    Ok(database)
}
