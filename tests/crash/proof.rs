//! The sweep itself is proved first: it must find a small program that loses data, and pass one that does not.

use std::path::Path;

use tempfile::TempDir;

use crate::actors::{PATTERN, actor};
use crate::engine::{Fault, Fixture, Interrupted, Program, Tally, control, sweep};

struct File {
    directory: TempDir,
    role: &'static str,
}

impl File {
    fn new(role: &'static str) -> Self {
        let directory = crate::plain::scratch();
        std::fs::write(directory.path().join("file"), vec![b'o'; PATTERN]).unwrap();
        Self { directory, role }
    }
}

impl Fixture for File {
    fn root(&self) -> &Path {
        self.directory.path()
    }

    fn program(&self) -> Program {
        actor(self.role, [self.directory.path().join("file")])
    }

    fn check(&mut self, end: &Interrupted, fault: Fault) -> Result<Option<&'static str>, String> {
        let found = std::fs::read(self.directory.path().join("file")).map_err(|e| e.to_string())?;
        let whole = |byte: u8| found.len() == PATTERN && found.iter().all(|b| *b == byte);
        if !whole(b'o') && !whole(b'n') {
            return Err(format!("neither the old content nor the new one: {} bytes", found.len()));
        }
        if fault != Fault::Kill && end.fired && end.outcome.status == 0 && !whole(b'n') {
            return Err("it reports success, and the content is old".to_owned());
        }
        Ok(None)
    }

    fn tear_down(&mut self) {}
}

const FAULTS: [Fault; 3] = [Fault::Kill, Fault::Error("ENOSPC"), Fault::Error("EIO")];

pub(crate) fn a_durable_write_survives() {
    Tally::assert_hold(&[sweep("a durable write", &FAULTS, || File::new("durable-write"))]);
}

pub(crate) fn a_naive_write_is_caught() {
    control("a naive write", &FAULTS, || File::new("naive-write"), &["neither the old content"]);
}
