//! Readers of a store while its backups are expired.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::super::request::{BackupMode, BackupRequest, Includes, RestoreRequest, ServiceOptions};
use super::super::{backup, restore};
use super::*;
use crate::lock::{LockRules, Wait};
use crate::progress::{Cancel, Observer, Silent};
use crate::quiesce::StopPolicy;
use crate::world::StateDirs;

const ONE: retention::Policy = retention::Policy { keep_last: 1, daily: 0, weekly: 0, monthly: 0, yearly: 0 };

/// A store with backups of a database.
struct Place {
    dir: tempfile::TempDir,
    ids: Vec<BackupId>,
}

impl Place {
    fn new(backups: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut place = Self { dir, ids: Vec::new() };
        rusqlite::Connection::open(place.path("a.db")).unwrap().execute_batch("CREATE TABLE t(v)").unwrap();
        for _ in 0..backups {
            let request = BackupRequest {
                compression: Default::default(),
                databases: vec![place.path("a.db")],
                includes: Includes::default(),
                store: place.path("store"),
                name: Some("t".parse().unwrap()),
                mode: BackupMode::Hot,
                fence_hold_max: Duration::from_secs(2),
                service: options(),
                dry_run: false,
            };
            let made = backup(&context(place.path("state"), Arc::new(Silent)), None, &request).unwrap();
            place.ids.extend(made.backup);
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// In which all but the newest backup is expired at the first step that begins so.
    fn expiring(&self, at: &'static str) -> (Context, Arc<Expiring>) {
        let expiring = Arc::new(Expiring {
            at,
            store: self.path("store"),
            state: self.path("state"),
            steps: AtomicUsize::new(0),
            told: AtomicUsize::new(0),
        });
        (context(self.path("state"), expiring.clone()), expiring)
    }

    fn left(&self) -> Vec<BackupId> {
        list(&self.path("store"), None).unwrap().into_iter().map(|listed| listed.backup).collect()
    }
}

struct Expiring {
    at: &'static str,
    store: PathBuf,
    state: PathBuf,
    steps: AtomicUsize,
    told: AtomicUsize,
}

impl Observer for Expiring {
    fn step(&self, what: &str) {
        if what.starts_with(self.at) && self.steps.fetch_add(1, Ordering::SeqCst) == 0 {
            expire(&context(self.state.clone(), Arc::new(Silent)), &self.store, None, &ONE, false).unwrap();
        }
    }

    fn notice(&self, _what: &str) {
        self.told.fetch_add(1, Ordering::SeqCst);
    }
}

fn context(state: PathBuf, observer: Arc<dyn Observer>) -> Context {
    Context {
        dirs: StateDirs { state: state.join("state"), lock: state.join("lock"), runtime: state },
        locks: LockRules::default(),
        guard_argv: Vec::new(),
        cancel: Cancel::new().unwrap(),
        observer,
    }
}

fn options() -> ServiceOptions {
    ServiceOptions { databases: Vec::new(), policy: StopPolicy::default(), ready: Vec::new(), wait: Wait::No }
}

#[test]
fn backups_that_are_expired_before_their_turn_are_not_called_damaged() {
    let place = Place::new(3);
    let (context, expiring) = place.expiring("verifying t ");
    let verified = verify(&context, &place.path("store"), None, None, None).unwrap();
    let judged: Vec<(BackupId, bool)> = verified.into_iter().map(|one| (one.backup, one.ok)).collect();
    assert_eq!(judged, [(place.ids[2].clone(), true)]);
    assert_eq!(expiring.told.load(Ordering::SeqCst), 2);
    assert_eq!(place.left(), place.ids[2..]);
}

#[test]
fn a_backup_that_is_restored_is_expired_afterwards() {
    let place = Place::new(2);
    let (context, expiring) = place.expiring("extracting");
    let request = RestoreRequest {
        store: place.path("store"),
        target: "t".parse().unwrap(),
        member: None,
        backup: Some(place.ids[0].clone()),
        to: place.path("back.db"),
        service: options(),
        dry_run: false,
    };
    restore(&context, None, &request).unwrap();
    assert!(expiring.steps.load(Ordering::SeqCst) > 0);
    assert_eq!(place.left(), place.ids);
    let removed = expire(&context, &place.path("store"), None, &ONE, false).unwrap().remove(0).removed;
    assert_eq!(removed, place.ids[..1]);
}
