//! Real SQLite writers in other processes: the test binary itself, started once more.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::time::Duration;

use rusqlite::Connection;

const DATABASES: [&str; 2] = ["SVCKIT_TEST_WRITER_DB", "SVCKIT_TEST_WRITER_DB_2"];
const SETUP: &str = "SVCKIT_TEST_WRITER_SETUP";
const TASK: &str = "SVCKIT_TEST_WRITER_TASK";
const VFS: &str = "SVCKIT_TEST_WRITER_VFS";
/// A writer that nobody ends does not fill the disk.
const ROWS_MAX: u64 = 300_000;
/// No test waits for longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What a writer does until it is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Commits row after row, the same in every database, and acknowledges each.
    Busy,
    /// Commits the rows asked for, then keeps the connection open and does nothing.
    Idle(u64),
    /// Commits as [`Task::Busy`] does, but opens the databases for each row, and closes them again.
    EachAnew,
    /// Has a write transaction open with one row in it.
    InTransaction,
}

/// A writer process. Dropped, it is told to end and waited for.
pub(crate) struct Writer {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    newest: u64,
}

impl Writer {
    /// Starts one; `setup` are pragmas, run on every database. Returns when its tables exist.
    pub(crate) fn start(databases: &[&Path], setup: &str, task: Task) -> Self {
        Self::start_with_vfs(databases, setup, task, "unix")
    }

    pub(crate) fn start_with_vfs(databases: &[&Path], setup: &str, task: Task, vfs: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "sqlite_locks::testing::writer_process", "--nocapture", "--test-threads=1"]);
        for (variable, path) in DATABASES.iter().zip(databases) {
            command.env(variable, path);
        }
        let task = match task {
            Task::Busy => "busy".to_owned(),
            Task::EachAnew => "each".to_owned(),
            Task::Idle(rows) => format!("idle {rows}"),
            Task::InTransaction => "transaction".to_owned(),
        };
        command.env(SETUP, setup).env(TASK, task).env(VFS, vfs);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        // Some hundred rows ahead of us it waits: a busy writer must not fill the disk while we look at a copy.
        let stdout = child.stdout.take().unwrap();
        rustix::pipe::fcntl_setpipe_size(&stdout, 4096).unwrap();
        let stdout = BufReader::new(stdout);
        let (send, lines) = sync_channel(64);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let stdin = child.stdin.take();
        let mut writer = Self { child, stdin, lines, newest: 0 };
        writer.wait_for("ready");
        writer
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    fn wait_for(&mut self, wanted: &str) {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("no {wanted:?}: {e}"));
            if line == wanted {
                return;
            }
            self.note(&line);
        }
    }

    fn note(&mut self, line: &str) {
        let row = line.strip_prefix("ack ").and_then(|row| row.parse().ok());
        self.newest = self.newest.max(row.unwrap_or(0));
    }

    /// The newest row that it has acknowledged up to now.
    pub(crate) fn acknowledged(&mut self) -> u64 {
        while let Ok(line) = self.lines.try_recv() {
            self.note(&line);
        }
        self.newest
    }

    /// Waits until it has acknowledged row `row`.
    pub(crate) fn wait_row(&mut self, row: u64) {
        while self.acknowledged() < row {
            let line = self.lines.recv_timeout(PATIENCE).unwrap();
            self.note(&line);
        }
    }

    /// Ends its transaction or loop, closes its connections and waits for its end.
    pub(crate) fn finish(mut self) -> u64 {
        self.end();
        self.acknowledged()
    }

    /// Kills it without warning, in the midst of what it does.
    pub(crate) fn crash(mut self) -> u64 {
        // A crash of the service is what these tests are about; nothing of the library is involved.
        self.child.kill().unwrap();
        self.end();
        self.acknowledged()
    }

    /// It may have to say many rows before it hears of its end.
    fn end(&mut self) {
        drop(self.stdin.take());
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.note(&line);
        }
        self.child.wait().unwrap();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.stdin.is_some() {
            self.end();
        }
    }
}

/// Not a test: the writer's own program. It does nothing unless it is told to.
#[test]
fn writer_process() {
    let databases: Vec<PathBuf> = DATABASES.iter().filter_map(std::env::var_os).map(PathBuf::from).collect();
    let (Ok(setup), Ok(task), Ok(vfs)) = (std::env::var(SETUP), std::env::var(TASK), std::env::var(VFS)) else {
        return;
    };
    let connections: Vec<Connection> = databases.iter().map(|path| open(path, &setup, &vfs)).collect();
    let say = |line: String| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush()).is_ok()
    };
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    let (send, gone) = channel::<()>();
    std::thread::spawn(move || {
        let _ignored = std::io::stdin().read(&mut [0]);
        told.store(true, Ordering::SeqCst);
        drop(send);
    });
    say(String::new());
    let last = "SELECT coalesce(max(id), 0) FROM t";
    let base: i64 = connections[0].query_row(last, [], |row| row.get(0)).unwrap();
    let base = u64::try_from(base).unwrap();
    match task.split_once(' ').unwrap_or((&task, "")) {
        ("busy" | "each", _) => {
            let kept = (task == "busy").then_some(connections);
            say("ready".to_owned());
            let mut row = base;
            while !over.load(Ordering::SeqCst) && row < base + ROWS_MAX {
                row += 1;
                match &kept {
                    Some(connections) => insert(connections, row),
                    None => insert(&databases.iter().map(|path| open(path, &setup, &vfs)).collect::<Vec<_>>(), row),
                }
                if !say(format!("ack {row}")) {
                    break;
                }
            }
        }
        ("idle", rows) => {
            for row in base + 1..=base + rows.parse::<u64>().unwrap() {
                insert(&connections, row);
                say(format!("ack {row}"));
            }
            say("ready".to_owned());
            let _ignored = gone.recv();
        }
        _ => {
            for connection in &connections {
                connection.execute_batch("BEGIN IMMEDIATE; INSERT INTO t(v) VALUES(randomblob(300));").unwrap();
            }
            say("ready".to_owned());
            let _ignored = gone.recv();
            for connection in &connections {
                connection.execute_batch("COMMIT").unwrap();
            }
        }
    }
}

fn open(path: &Path, setup: &str, vfs: &str) -> Connection {
    let connection = Connection::open_with_flags_and_vfs(path, rusqlite::OpenFlags::default(), vfs).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    for pragma in setup.split(';').filter(|p| !p.trim().is_empty()) {
        let mut statement = connection.prepare(pragma).unwrap();
        let mut rows = statement.query([]).unwrap();
        while rows.next().unwrap().is_some() {}
    }
    connection
        .execute_batch(
            "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, v BLOB); CREATE INDEX IF NOT EXISTS t_v ON t(v);",
        )
        .unwrap();
    connection
}

/// One row in every database; the databases agree between two calls, and while none is locked.
fn insert(connections: &[Connection], row: u64) {
    if connections.len() > 1 {
        for connection in connections {
            connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        }
    }
    for connection in connections {
        let row = i64::try_from(row).unwrap();
        connection.execute("INSERT INTO t(id, v) VALUES(?1, randomblob(300))", [row]).unwrap();
    }
    if connections.len() > 1 {
        for connection in connections {
            connection.execute_batch("COMMIT").unwrap();
        }
    }
}
