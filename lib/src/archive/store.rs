//! A directory of backups: `STORE/TARGET/BACKUP_ID/`.
//!
//! Under the target's lock nobody else can be at work there, so what has the name of a draft, of its scratch space or of
//! a backup that is being removed (see `names`) is left over from a dead attempt then, and is swept.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::names::{PARTIAL, SCRATCH, entries, holds_ours, is_backup_id, is_leftover};
use super::target_lock::TargetLock;
use super::{ArchiveError, Backup, Draft, Verified, draft, files, rights};
use crate::lock::Holder;
use crate::name::{BackupId, TargetName};
use crate::progress::Cancel;
use crate::world::disk::{AtPath, create_private_dir, parent_of, sync_dir};

/// A store: a directory that only we and root can change.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// A directory that has a backup's name, and what is in it.
#[derive(Debug)]
pub struct Found {
    /// The backup's identity: its directory's name.
    pub id: BackupId,
    /// The backup, or why it can't be read.
    pub backup: Result<Backup, ArchiveError>,
}

impl Store {
    /// Opens a store that exists. Writes nothing: a read-only store can be listed and restored from.
    ///
    /// # Errors
    /// [`ArchiveError::Missing`], and [`ArchiveError::Rights`] when others could change it.
    pub fn open(root: &Path) -> Result<Self, ArchiveError> {
        let canonical = match std::fs::canonicalize(root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ArchiveError::Missing { what: "store".to_owned(), path: root.to_owned() });
            }
            other => other.at("open the store", root)?,
        };
        rights::check(&canonical)?;
        Ok(Self { root: canonical })
    }

    /// Opens a store, and creates its directory (0700; its parent must exist) when it does not exist.
    ///
    /// # Errors
    /// As [`Store::open`], and when it can't be created.
    pub fn create(root: &Path) -> Result<Self, ArchiveError> {
        // Only the last component: a path that was mistyped must not become a store of its own.
        let parent = crate::world::disk::parent_of(root);
        if !parent.is_dir() {
            return Err(ArchiveError::Missing { what: "directory for the store".to_owned(), path: parent.to_owned() });
        }
        create_private_dir(root)?;
        Self::open(root)
    }

    /// Its real path.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn target_dir(&self, target: &TargetName) -> PathBuf {
        self.root.join(target.as_str())
    }

    /// The targets that it has backups of, or had, sorted. Somebody's own directory is none: the store may have been
    /// mistyped, or be shared.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn targets(&self) -> Result<Vec<TargetName>, ArchiveError> {
        let mut targets = Vec::new();
        for (name, is_dir) in entries(&self.root)? {
            if (is_dir || self.leads_elsewhere(&name))
                && let Ok(target) = name.parse::<TargetName>()
                && holds_ours(&self.target_dir(&target))?
            {
                targets.push(target);
            }
        }
        targets.sort();
        Ok(targets)
    }

    /// Whether it is a link to a directory outside of the store: a target may live on another disk. A link to another
    /// target is only a second name of that.
    fn leads_elsewhere(&self, name: &str) -> bool {
        let path = self.root.join(name);
        let Ok(next) = std::fs::read_link(&path) else { return false };
        let is_within = |path: PathBuf| std::fs::canonicalize(path).is_ok_and(|real| real.starts_with(&self.root));
        path.is_dir() && !is_within(path) && !is_within(parent_of(&self.root.join(next)).to_owned())
    }

    /// The backups of a target, the newest (by sequence number) last; those that can't be read stand in their place
    /// with the reason. A target without a directory has none.
    ///
    /// # Errors
    /// When the target's directory can't be read, or others could change it ([`ArchiveError::Rights`]).
    pub fn backups(&self, target: &TargetName) -> Result<Vec<Found>, ArchiveError> {
        let dir = self.target_dir(target);
        if !dir.exists() {
            return Ok(Vec::new());
        }
        rights::check_part(&self.root, &dir)?;
        // Reading a directory is not atomic: a backup may come and another go meanwhile, and neither be seen.
        let mut looked = look(&dir, target)?;
        for _ in 1..LOOKS_MAX {
            if !looked.changed {
                break;
            }
            looked = look(&dir, target)?;
        }
        let Looked { mut good, mut bad, .. } = looked;
        good.sort_by(|a, b| {
            let key = |b: &Backup| (b.manifest().sequence, b.manifest().id.clone());
            key(a).cmp(&key(b))
        });
        let mut found: Vec<Found> =
            good.into_iter().map(|b| Found { id: b.manifest().id.clone(), backup: Ok(b) }).collect();
        bad.sort_by(|a, b| a.id.cmp(&b.id));
        for unreadable in bad {
            // Its sequence number can't be trusted; its time has to do.
            let place = found.iter().position(|f| f.id > unreadable.id).unwrap_or(found.len());
            found.insert(place, unreadable);
        }
        Ok(found)
    }

    /// Those of several targets that can be read, in one order, the newest last: within a target by sequence number, among
    /// targets by the time at which they were begun, to the nanosecond.
    ///
    /// # Errors
    /// When a target's directory can't be read.
    pub fn backups_of(&self, targets: &[TargetName]) -> Result<Vec<Backup>, ArchiveError> {
        let mut lists = Vec::new();
        for target in targets {
            let readable = self.backups(target)?.into_iter().filter_map(|found| found.backup.ok());
            lists.push(readable.collect::<VecDeque<Backup>>());
        }
        let mut all = Vec::new();
        // The oldest of those that come first: a clock that went back does not change the order within a target.
        while let Some(list) = lists
            .iter_mut()
            .filter(|list| !list.is_empty())
            .min_by(|a, b| a.front().map(begun).cmp(&b.front().map(begun)))
        {
            all.extend(list.pop_front());
        }
        Ok(all)
    }

    /// One backup.
    ///
    /// # Errors
    /// [`ArchiveError::Missing`] when there is none of this name, [`ArchiveError::Unverified`] or
    /// [`ArchiveError::Newer`] when it can't be used.
    pub fn backup(&self, target: &TargetName, id: &BackupId) -> Result<Backup, ArchiveError> {
        let dir = self.target_dir(target).join(id.as_str());
        if !is_backup_id(id.as_str()) || !dir.is_dir() {
            return Err(ArchiveError::Missing { what: format!("backup {id} of {target}"), path: dir });
        }
        rights::check_part(&self.root, &self.target_dir(target))?;
        rights::check_part(&self.root, &dir)?;
        match Backup::load(dir.clone(), target, id) {
            // Expiry renames a directory away in one step: it was removed while we looked.
            Err(_) if !dir.exists() => Err(ArchiveError::Expired { path: dir }),
            other => other,
        }
    }

    /// Begins a backup: takes the target's lock, removes what dead attempts left, and makes the directories of the
    /// draft and of its scratch space.
    ///
    /// # Errors
    /// [`ArchiveError::Locked`] when another operation works on the target, and those of the file system.
    pub fn begin(&self, target: &TargetName, holder: &Holder, cancel: &Cancel) -> Result<Draft, ArchiveError> {
        let dir = self.target_dir(target);
        create_private_dir(&dir)?;
        rights::check_part(&self.root, &dir)?;
        let lock = self.lock(target, holder)?;
        let mut newest = 0;
        for found in self.backups(target)? {
            let sequence = match &found.backup {
                Ok(backup) => backup.manifest().sequence,
                Err(_) => super::backup::claimed_sequence(&dir.join(found.id.as_str())),
            };
            newest = newest.max(sequence);
        }
        let id = draft::new_id()?;
        let (partial, scratch) = (dir.join(format!("{PARTIAL}{id}")), dir.join(format!("{SCRATCH}{id}")));
        // The draft owns the names before they exist, so that a failure of either is swept with it.
        let draft = Draft::new(target.clone(), id, newest.saturating_add(1), partial, scratch, lock, cancel.clone());
        files::create_dir(draft.dir())?;
        files::create_dir(draft.scratch())?;
        Ok(draft)
    }

    /// Makes a verified draft a backup: sums, manifest, directory, each synced; then one rename that no reader can see
    /// half of, and never onto another backup.
    ///
    /// # Errors
    /// When a step fails: the draft is removed, and nothing is visible. Only if the last step fails, the sync of the
    /// directory above, the backup is visible and whole, but may be gone after a power cut.
    pub fn publish(&self, draft: Verified<Draft>) -> Result<Backup, ArchiveError> {
        draft.into_inner().publish(&self.root)
    }

    /// Takes the target's lock and sweeps.
    pub(super) fn lock(&self, target: &TargetName, holder: &Holder) -> Result<TargetLock, ArchiveError> {
        let lock = TargetLock::take(&self.root, target, holder)?;
        sweep(&self.target_dir(target))?;
        Ok(lock)
    }
}

/// All of them are written alike, so that their order is that of time.
fn begun(backup: &Backup) -> (&str, u32) {
    (&backup.manifest().created, backup.manifest().created_ns)
}

/// A directory that changes under every look was busy for that long; the last look is answered then.
const LOOKS_MAX: usize = 20;

struct Looked {
    good: Vec<Backup>,
    bad: Vec<Found>,
    changed: bool,
}

/// Looks at every backup of a target once.
fn look(dir: &Path, target: &TargetName) -> Result<Looked, ArchiveError> {
    let state = || std::fs::metadata(dir).and_then(|m| m.modified()).at("look at", dir);
    let before = state()?;
    let (mut good, mut bad, mut vanished) = (Vec::new(), Vec::new(), false);
    for (name, is_dir) in entries(dir)? {
        if !is_dir || !is_backup_id(&name) {
            continue;
        }
        let id: BackupId = name.parse()?;
        let backup = dir.join(&name);
        match rights::check_part(dir, &backup).and_then(|()| Backup::load(backup, target, &id)) {
            Ok(backup) => good.push(backup),
            // Expiry renames a directory away in one step: it was removed while we looked.
            Err(_) if !dir.join(&name).exists() => vanished = true,
            Err(error) => bad.push(Found { id, backup: Err(error) }),
        }
    }
    Ok(Looked { good, bad, changed: vanished || state()? != before })
}

/// Removes what dead attempts left. Only under the target's lock.
fn sweep(dir: &Path) -> Result<(), ArchiveError> {
    let mut swept = false;
    for (name, is_dir) in entries(dir)? {
        if is_dir && is_leftover(&name) {
            let path = dir.join(name);
            tracing::info!(path = %path.display(), "removing what a dead attempt left");
            std::fs::remove_dir_all(&path).at("remove", &path)?;
            swept = true;
        }
    }
    if swept {
        sync_dir(dir)?;
    }
    Ok(())
}
