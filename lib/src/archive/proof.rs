//! The record of a restore that was tried: `.restored-ID.json` beside the backup, which itself never changes.
//!
//! It counts only for the manifest whose hash it names. It is a note for people and for schedules, no part of the
//! backup: one that is lost or damaged costs a new trial.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::codec::sha256_hex;
use super::manifest::{MANIFEST, read_text};
use super::{ArchiveError, Backup};
use crate::name::BackupId;
use crate::world::disk::{AtPath, parent_of, write_durably};

pub(super) const PROOF: &str = ".restored-";

/// That a backup was restored, and what was found then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RestoreProof {
    /// The SHA-256 of the manifest that it speaks of.
    pub manifest_sha256: String,
    /// When (RFC 3339, UTC).
    pub at: String,
    /// Where: `a scratch container of mariadb:11`.
    pub place: String,
    /// The rungs that were climbed.
    pub rungs: Vec<String>,
}

pub(super) fn file_name(id: &BackupId) -> String {
    format!("{PROOF}{id}.json")
}

impl Backup {
    /// The last restore that was tried and was right, if one was recorded.
    #[must_use]
    pub fn restore_proof(&self) -> Option<RestoreProof> {
        let proof: RestoreProof = serde_json::from_slice(&read_text(&self.proof_path()).ok()?).ok()?;
        (proof.manifest_sha256 == self.manifest_sha256().ok()?).then_some(proof)
    }

    /// Records that this backup was restored `at` (RFC 3339) in `place`, and was right as far as `rungs` say.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn record_restore(&self, at: String, place: String, rungs: Vec<String>) -> Result<(), ArchiveError> {
        let proof = RestoreProof { manifest_sha256: self.manifest_sha256()?, at, place, rungs };
        let path = self.proof_path();
        let mut bytes = serde_json::to_vec_pretty(&proof).map_err(std::io::Error::other).at("describe", &path)?;
        bytes.push(b'\n');
        Ok(write_durably(&path, &bytes, 0o600)?)
    }

    fn manifest_sha256(&self) -> Result<String, ArchiveError> {
        Ok(sha256_hex(&read_text(&self.dir().join(MANIFEST))?))
    }

    fn proof_path(&self) -> PathBuf {
        parent_of(self.dir()).join(file_name(&self.manifest().id))
    }
}

#[cfg(test)]
mod tests {
    use super::super::retention::Policy;
    use super::super::tests::{Bed, holder};

    #[test]
    fn a_proof_speaks_of_one_manifest_and_goes_with_its_backup() {
        let bed = Bed::new();
        let (old, new) = (bed.publish(100), bed.publish(100));
        assert_eq!(old.restore_proof(), None);
        let rungs = vec!["loaded".to_owned()];
        for backup in [&old, &new] {
            backup.record_restore("2026-11-21T18:00:00Z".to_owned(), "here".to_owned(), rungs.clone()).unwrap();
            assert_eq!(backup.restore_proof().unwrap().rungs, rungs);
            backup.verify_hashes(&bed.cancel).unwrap();
        }
        let name = super::file_name(&old.manifest().id);
        std::fs::copy(super::parent_of(old.dir()).join(name), new.proof_path()).unwrap();
        assert_eq!(new.restore_proof(), None, "it is that of another backup");
        assert_eq!(bed.store.backups(&bed.target).unwrap().len(), 2);
        let policy = Policy { keep_last: 1, ..Policy::default() };
        bed.store.expire(&bed.target, &policy, &holder(), &bed.cancel).unwrap();
        let left = bed.names().into_iter().filter(|name| name.starts_with(super::PROOF)).count();
        assert_eq!(left, 1, "{:?}", bed.names());
    }
}
