//! Removing backups: the only code that touches a published one.
//!
//! | step | a crash after it leaves |
//! |---|---|
//! | the newest backup that stays is hashed again | everything |
//! | its directory is locked, where nobody reads it | everything |
//! | the directory is renamed to `.expired-ID`, the directory above synced | a removed backup that uses space |
//! | its files are removed | less of it; the next draft or expiry sweeps the rest |
//!
//! The rename makes it one step for readers, and its sync comes before the first file goes: no cut can leave a half
//! backup under a backup's name.

use std::path::PathBuf;

use super::hold::Hold;
use super::names::{EXPIRED, holds_ours};
use super::retention::{Entry, Kept, Plan, Policy, Reason, select};
use super::{ArchiveError, Found, Store, rights};
use crate::lock::Holder;
use crate::name::TargetName;
use crate::progress::Cancel;
use crate::world::disk::{AtPath, sync_dir};

impl Store {
    /// What a policy would remove now, where [`Store::expire`] would remove anything: the newest backup that stays is
    /// hashed as there. Takes no lock and writes nothing.
    ///
    /// # Errors
    /// [`ArchiveError::Missing`]; [`ArchiveError::Unverified`] when the newest that stays is damaged; when the target's
    /// directory can't be read.
    pub fn plan_expiry(&self, target: &TargetName, policy: &Policy, cancel: &Cancel) -> Result<Plan, ArchiveError> {
        let dir = self.require(target)?;
        let found = self.backups(target)?;
        let plan = select(&entries(&found), policy);
        prove_newest(dir, &found, &plan, cancel)?;
        Ok(plan)
    }

    /// Removes what the policy does not keep, the oldest first; answers what it did.
    ///
    /// Before anything goes, the newest backup that stays is read from the disk and hashed. If it is damaged, nothing is
    /// removed: of the older ones nobody knows how many are damaged too.
    ///
    /// # Errors
    /// [`ArchiveError::Locked`]; [`ArchiveError::Unverified`] when the newest that stays is damaged; those of the file
    /// system and a cancellation, after which what was not removed yet is as it was.
    pub fn expire(
        &self,
        target: &TargetName,
        policy: &Policy,
        holder: &Holder,
        cancel: &Cancel,
    ) -> Result<Plan, ArchiveError> {
        let dir = self.require(target)?;
        let _lock = self.lock(target, holder)?;
        let found = self.backups(target)?;
        let mut plan = select(&entries(&found), policy);
        prove_newest(dir.clone(), &found, &plan, cancel)?;
        let mut removed = Vec::new();
        for id in std::mem::take(&mut plan.remove) {
            if cancel.is_requested() {
                return Err(ArchiveError::Cancelled { what: "the expiry" });
            }
            let (from, to) = (dir.join(id.as_str()), dir.join(format!("{EXPIRED}{id}")));
            let Some(alone) = Hold::alone(&from)? else {
                tracing::info!(%target, %id, "a backup is being read: it stays for now");
                plan.keep.push(Kept { backup: id, reasons: vec![Reason::BeingRead] });
                continue;
            };
            std::fs::rename(&from, &to).at("rename away", &from)?;
            // Whoever has opened it meanwhile finds that its name is gone.
            drop(alone);
            sync_dir(&dir)?;
            std::fs::remove_dir_all(&to).at("remove", &to)?;
            // It says nothing without its backup.
            let _absent_mostly = std::fs::remove_file(dir.join(super::proof::file_name(&id)));
            tracing::info!(%target, %id, "backup expired");
            removed.push(id);
        }
        sync_dir(&dir)?;
        plan.remove = removed;
        plan.keep.sort_by_key(|kept| found.iter().position(|f| f.id == kept.backup));
        Ok(plan)
    }

    fn require(&self, target: &TargetName) -> Result<PathBuf, ArchiveError> {
        let dir = self.target_dir(target);
        match dir.is_dir() && holds_ours(&dir)? {
            true => rights::check_part(self.root(), &dir).map(|()| dir),
            false => Err(ArchiveError::Missing { what: "target".to_owned(), path: dir }),
        }
    }
}

/// Where anything is to go: that the newest verified backup that stays is as it was written.
fn prove_newest(dir: PathBuf, found: &[Found], plan: &Plan, cancel: &Cancel) -> Result<(), ArchiveError> {
    if plan.remove.is_empty() {
        return Ok(());
    }
    let stays = |f: &&Found| !plan.remove.contains(&f.id) && f.backup.as_ref().is_ok_and(is_verified);
    match found.iter().rev().find(stays).map(|f| f.backup.as_ref()) {
        Some(Ok(newest)) => newest.verify_hashes(cancel),
        // `select` keeps the newest good one, so this can't be reached; removing nothing is the safe answer.
        _ => Err(ArchiveError::Unverified { path: dir, reason: "no verified backup would stay".to_owned() }),
    }
}

fn is_verified(backup: &super::Backup) -> bool {
    backup.manifest().verified_at.is_some()
}

fn entries(found: &[Found]) -> Vec<Entry> {
    let mut before = 0;
    let mut entry = |f: &Found| match &f.backup {
        Ok(backup) => {
            let manifest = backup.manifest();
            before = manifest.sequence;
            Entry {
                id: f.id.clone(),
                sequence: manifest.sequence,
                created: manifest.created.clone(),
                verified: is_verified(backup),
            }
        }
        // It stays in its place of the list; nothing else of it is known.
        Err(_) => Entry { id: f.id.clone(), sequence: before, created: String::new(), verified: false },
    };
    found.iter().map(&mut entry).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Bed, holder};
    use super::*;
    use crate::failure::{Failure, FailureKind};

    const LAST_TWO: Policy = Policy { keep_last: 2, daily: 0, weekly: 0, monthly: 0, yearly: 0 };

    #[test]
    fn the_oldest_go_and_what_stays_verifies() {
        let bed = Bed::new();
        let backups: Vec<_> = (0..5).map(|_| bed.publish(1000)).collect();
        let dry = bed.store.plan_expiry(&bed.target, &LAST_TWO, &bed.cancel).unwrap();
        assert_eq!(bed.names().len(), 6, "a dry run removes nothing");
        let plan = bed.store.expire(&bed.target, &LAST_TWO, &holder(), &bed.cancel).unwrap();
        assert_eq!(plan, dry);
        assert_eq!(plan.remove.len(), 3);
        let mut left: Vec<_> = backups[3..].iter().map(|b| b.manifest().id.to_string()).collect();
        left.sort();
        assert_eq!(bed.names()[1..], left);
        backups[3].verify_hashes(&bed.cancel).unwrap();
        assert!(bed.store.expire(&bed.target, &LAST_TWO, &holder(), &bed.cancel).unwrap().remove.is_empty());
    }

    #[test]
    fn one_that_is_read_stays_until_it_is_not() {
        let bed = Bed::new();
        let backups: Vec<_> = (0..4).map(|_| bed.publish(1000)).collect();
        let id = |i: usize| backups[i].manifest().id.clone();
        let expire = || bed.store.expire(&bed.target, &LAST_TWO, &holder(), &bed.cancel).unwrap();
        let (held, also) = (backups[1].clone().held().unwrap(), backups[1].clone().held().unwrap());
        let plan = expire();
        assert_eq!(plan.remove, [id(0)]);
        assert_eq!(plan.keep.iter().map(|kept| kept.backup.clone()).collect::<Vec<_>>(), [id(1), id(2), id(3)]);
        assert_eq!(plan.keep[0].reasons, [Reason::BeingRead]);
        held.verify_hashes(&bed.cancel).unwrap();
        // A clone holds it as well.
        let clone = held.clone();
        drop((held, also));
        assert!(expire().remove.is_empty());
        drop(clone);
        assert_eq!(expire().remove, [id(1)]);
        let gone = [backups[1].clone().held(), bed.store.backup(&bed.target, &id(1))];
        assert!(matches!(&gone, [Err(ArchiveError::Expired { .. }), Err(ArchiveError::Missing { .. })]), "{gone:?}");
    }

    #[test]
    fn nothing_goes_while_the_newest_is_damaged() {
        let bed = Bed::new();
        let backups: Vec<_> = (0..4).map(|_| bed.publish(1000)).collect();
        let before = bed.names();
        let path = backups[3].dir().join("library.db.zst");
        let good = std::fs::read(&path).unwrap();
        let mut bytes = good.clone();
        bytes[20] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = bed.store.expire(&bed.target, &LAST_TWO, &holder(), &bed.cancel).unwrap_err();
        assert_eq!(error.kind(), FailureKind::Unverified);
        let dry = bed.store.plan_expiry(&bed.target, &LAST_TWO, &bed.cancel).unwrap_err();
        assert_eq!(dry.to_string(), error.to_string(), "a dry run tells it as well");
        assert_eq!(bed.names(), before);
        // Unreadable ones count for nothing: the two newest readable ones stay, and so do the unreadable.
        std::fs::write(&path, good).unwrap();
        std::fs::write(backups[3].dir().join("manifest.json"), "{}").unwrap();
        let plan = bed.store.expire(&bed.target, &LAST_TWO, &holder(), &bed.cancel).unwrap();
        assert_eq!(plan.remove, [backups[0].manifest().id.clone()]);
        assert_eq!(bed.names().len(), 4);
    }

    #[test]
    fn a_wrong_directory_keeps_all_that_is_in_it() {
        let bed = Bed::new();
        let app = bed.store.root().join("app");
        for theirs in [".scratch-area", ".partial-downloads", ".expired-certificates"] {
            std::fs::create_dir_all(app.join(theirs)).unwrap();
        }
        std::fs::create_dir(bed.store.root().join("www")).unwrap();
        assert!(bed.store.targets().unwrap().is_empty());
        let app_name: TargetName = "app".parse().unwrap();
        let error = bed.store.expire(&app_name, &LAST_TWO, &holder(), &bed.cancel).unwrap_err();
        assert_eq!(error.kind(), FailureKind::No);
        assert_eq!(std::fs::read_dir(&app).unwrap().count(), 3, "nothing went, and no lock came");
        // Also where there are backups beside them.
        let mut bed = bed;
        bed.target = app_name;
        let kept = bed.publish(10);
        bed.store.expire(&bed.target, &LAST_TWO, &holder(), &bed.cancel).unwrap();
        let all =
            [".expired-certificates", ".lock", ".partial-downloads", ".scratch-area", kept.manifest().id.as_str()];
        assert_eq!(bed.names(), all);
        assert_eq!(bed.store.targets().unwrap(), std::slice::from_ref(&bed.target));
    }

    #[test]
    fn expiry_and_backup_exclude_each_other() {
        let bed = Bed::new();
        let draft = bed.begin();
        let error = bed.store.expire(&bed.target, &LAST_TWO, &holder(), &bed.cancel).unwrap_err();
        assert_eq!(error.kind(), FailureKind::LockHeld);
        drop(draft);
        let nobody = "nobody".parse().unwrap();
        let error = bed.store.expire(&nobody, &LAST_TWO, &holder(), &bed.cancel).unwrap_err();
        assert_eq!(error.kind(), FailureKind::No);
        assert_eq!(bed.store.plan_expiry(&nobody, &LAST_TWO, &bed.cancel).unwrap_err().kind(), FailureKind::No);
    }
}
