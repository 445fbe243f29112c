//! `svc-backup demo`: a service that commits as fast as it can, backed up in the three modes, each backup restored
//! and asked for every row that the service had acknowledged before the backup began.
//!
//! Nothing here is staged: the service is a process of its own under the process controller, what it acknowledged
//! and when is taken from its own log, and the gaps between its commits are measured there, not claimed by us.

pub mod acks;
pub mod service;
mod table;

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use svckit::FailureKind;
use svckit::controller::{self, CommandLine, ServiceController, ServiceSpec};
use svckit::lock::{OnNetwork, Wait};
use svckit::name::TargetName;
use svckit::operation::{self, BackupMode, BackupReport, BackupRequest, Includes, RestoreRequest, ServiceOptions};
use svckit::progress::Cancel;
use svckit::quiesce::{Context, StopPolicy};
use svckit::ready::{Probe, ReadyCheck};
use svckit::world::{StateDirs, wait};

use crate::app::{self, App};
use crate::cli::backup::DemoArgs;
use crate::error::ToolError;
use crate::exit::Outcome;
use acks::Acks;
use table::Row;

/// How long the service is watched without a backup, for comparison.
const BASELINE: Duration = Duration::from_millis(700);
/// Its stop is a matter of one commit.
const STOP_WAIT_MAX: Duration = Duration::from_secs(20);

/// Runs the demonstration; leaves nothing behind.
///
/// # Errors
/// When a step of it fails; the service is stopped and the directory is removed all the same.
pub fn run(app: &App, args: &DemoArgs) -> Result<Outcome, ToolError> {
    let directory = tempfile::Builder::new()
        .prefix("svc-backup-demo-")
        .tempdir()
        .map_err(ToolError::io("make a directory in", std::env::temp_dir()))?;
    let context = app.context()?;
    let dirs = StateDirs::below(directory.path().join("svckit"));
    let context = app::context_in(dirs, OnNetwork::Refuse, context.cancel, context.observer)?;
    let stage = Stage::set(directory.path(), &context, args.size)?;
    if !app.output.is_json() {
        let place = directory.path().display();
        let size = args.size;
        app.output.text(&format!("A service commits rows to a WAL database of {size} MiB in {place}.\n\n"))?;
    }
    let rows = stage.play(&context);
    let ended = stage.clear(&context);
    drop(stage);
    let removed = directory.close().map_err(ToolError::io("remove", "the directory of the demonstration"));
    let rows = rows?;
    ended?;
    removed?;
    table::print(app, &rows)?;
    let lost = rows.iter().any(|row| row.missing() > 0);
    Ok(if lost { Outcome::Failed(FailureKind::Unverified) } else { Outcome::Done })
}

/// The service and where its things are.
struct Stage {
    root: PathBuf,
    database: PathBuf,
    acknowledged: PathBuf,
    service: Box<dyn ServiceController>,
    options: ServiceOptions,
}

impl Stage {
    fn set(root: &Path, context: &Context, size_mib: u32) -> Result<Self, ToolError> {
        let database = root.join("data.db");
        let acknowledged = root.join("acknowledged");
        context.observer.step("making the database");
        service::prepare(&database, size_mib)?;
        let port = free_port()?;
        let program = std::env::current_exe().map_err(ToolError::io("find", "the program that runs"))?;
        let port_word = PathBuf::from(port.to_string());
        let argv = [program.as_path(), Path::new("demo-service"), &database, &acknowledged, &port_word];
        let spec = ServiceSpec::Command {
            name: "demo".parse()?,
            command: CommandLine::new(argv),
            record_dir: context.dirs.runtime.join("commands"),
            seen: Vec::new(),
        };
        let policy = StopPolicy { stop_wait_max: STOP_WAIT_MAX, ..StopPolicy::default() };
        let ready = ReadyCheck::new(Probe::Tcp { host: "127.0.0.1".to_owned(), port });
        let options = ServiceOptions { databases: vec![database.clone()], policy, ready: vec![ready], wait: Wait::No };
        let service = controller::open(&spec)?;
        Ok(Self { root: root.to_owned(), database, acknowledged, service, options })
    }

    fn play(&self, context: &Context) -> Result<Vec<Row>, ToolError> {
        operation::start(context, self.service.as_ref(), &self.options, false)?;
        let began = acks::now();
        // A measuring interval, not a wait for something: it is ended early by a cancellation.
        wait::readable(&[context.cancel.as_fd()], Instant::now() + BASELINE)
            .map_err(ToolError::io("watch", &self.acknowledged))?;
        let alone = Acks::read(&self.acknowledged)?.longest_gap(began, acks::now());
        let mut rows = vec![Row::alone(alone)];
        for mode in [BackupMode::Hot, BackupMode::Fenced, BackupMode::Cold] {
            rows.push(self.back_up(context, mode)?);
        }
        Ok(rows)
    }

    fn back_up(&self, context: &Context, mode: BackupMode) -> Result<Row, ToolError> {
        let acknowledged = Acks::read(&self.acknowledged)?.last_id();
        let began = acks::now();
        let report = self.request(context, mode)?;
        let longest_gap = Acks::read(&self.acknowledged)?.longest_gap(began, acks::now());
        let present = self.present_after_restore(context, &report, acknowledged)?;
        Ok(Row::of(&report, acknowledged, present, longest_gap))
    }

    fn request(&self, context: &Context, mode: BackupMode) -> Result<BackupReport, ToolError> {
        let request = BackupRequest {
            compression: Default::default(),
            databases: vec![self.database.clone()],
            includes: Includes::default(),
            store: self.root.join("store"),
            name: Some(target(mode)?),
            mode,
            // The fence may last as long as the copying does: the table shows how long that was.
            fence_hold_max: Duration::from_secs(30),
            service: self.options.clone(),
            dry_run: false,
        };
        Ok(operation::backup(context, Some(self.service.as_ref()), &request)?)
    }

    /// Restores the backup beside, and counts what was acknowledged before it began.
    fn present_after_restore(
        &self,
        context: &Context,
        report: &BackupReport,
        acknowledged: u64,
    ) -> Result<u64, ToolError> {
        let to = self.root.join(format!("restored-{}.db", report.target));
        let nobody = ServiceOptions { databases: Vec::new(), ready: Vec::new(), ..self.options.clone() };
        let request = RestoreRequest {
            member: None,
            store: self.root.join("store"),
            target: report.target.clone(),
            backup: report.backup.clone(),
            to: to.clone(),
            service: nobody,
            dry_run: false,
        };
        operation::restore(context, None, &request)?;
        let count = || -> rusqlite::Result<i64> {
            let restored = Connection::open_with_flags(&to, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            let last = i64::try_from(acknowledged).unwrap_or(i64::MAX);
            restored.query_row("SELECT count(*) FROM rows WHERE id <= ?1", [last], |row| row.get(0))
        };
        count().map(i64::unsigned_abs).map_err(|error| ToolError::Other {
            what: format!("count the rows of the restored {}: {error}", to.display()),
            kind: FailureKind::Unverified,
            hint: None,
        })
    }

    /// Stops the service, also after a cancellation.
    fn clear(&self, context: &Context) -> Result<(), ToolError> {
        let cancel = Cancel::new().map_err(ToolError::io("make an eventfd for", "cancellation"))?;
        let context = Context { cancel, ..context.clone() };
        operation::stop(&context, self.service.as_ref(), &self.options, false)?;
        Ok(())
    }
}

fn target(mode: BackupMode) -> Result<TargetName, ToolError> {
    let name = match mode {
        BackupMode::Hot => "hot",
        BackupMode::Fenced => "fenced",
        BackupMode::Cold => "cold",
    };
    Ok(name.parse()?)
}

/// A port that nobody listens on now. Somebody else may take it before the service does; the demonstration fails then,
/// and says so.
fn free_port() -> Result<u16, ToolError> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    bound.map(|address| address.port()).map_err(ToolError::io("listen on", "127.0.0.1"))
}
