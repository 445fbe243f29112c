//! What others did to a store: each damage is a clear error, none a panic.

use super::*;

fn unverified(error: &ArchiveError, says: &str) {
    assert_eq!(error.kind(), FailureKind::Unverified, "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

fn load(bed: &Bed, backup: &Backup) -> Result<Backup, ArchiveError> {
    bed.store.backup(&bed.target, &backup.manifest().id)
}

/// A small generator, so that a failing case can be run again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[test]
fn every_flipped_byte_of_a_payload_is_found() {
    let bed = Bed::new();
    let backup = bed.publish(20_000);
    let path = backup.dir().join("library.db.zst");
    let good = std::fs::read(&path).unwrap();
    let into = bed.dir.path().join("into");
    std::fs::create_dir(&into).unwrap();
    let mut random = Random(7);
    for _ in 0..40 {
        let mut bytes = good.clone();
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
        std::fs::write(&path, &bytes).unwrap();
        unverified(
            &backup.verify_hashes(&bed.cancel).unwrap_err(),
            "library.db.zst does not verify: the file has the SHA-256",
        );
        unverified(&backup.verify(bed.dir.path(), &mut sound, &bed.cancel, &Silent).unwrap_err(), "library.db.zst");
        unverified(&backup.extract(&backup.manifest().payloads[0], &into, &bed.cancel, &Silent).unwrap_err(), "");
        assert_eq!(std::fs::read_dir(&into).unwrap().count(), 0, "nothing unverified is left");
    }
    for len in [0, 1, good.len() / 2, good.len() - 1] {
        std::fs::write(&path, &good[..len]).unwrap();
        unverified(&backup.verify_hashes(&bed.cancel).unwrap_err(), "bytes, not");
        unverified(&backup.verify(bed.dir.path(), &mut sound, &bed.cancel, &Silent).unwrap_err(), "library.db.zst");
    }
    std::fs::write(&path, [good.clone(), good.clone()].concat()).unwrap();
    unverified(&backup.verify(bed.dir.path(), &mut sound, &bed.cancel, &Silent).unwrap_err(), "bytes, not");
    std::fs::remove_file(&path).unwrap();
    unverified(&backup.verify_hashes(&bed.cancel).unwrap_err(), "the file is missing");
    std::fs::write(&path, good).unwrap();
    backup.verify(bed.dir.path(), &mut sound, &bed.cancel, &Silent).unwrap();
}

#[test]
fn a_draft_whose_written_bytes_changed_is_not_verified() {
    let bed = Bed::new();
    let old = bed.publish(10);
    let content = bed.content("c", 5000);
    let mut draft = bed.begin();
    draft.add_file(PayloadKind::Sqlite, "c", &content, &content, &Silent).unwrap();
    let path = draft.dir().join("c.zst");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    unverified(&draft.verify(&mut sound, &Silent).unwrap_err(), "c.zst does not verify");
    assert_eq!(bed.names(), [".lock", old.manifest().id.as_str()]);
}

#[test]
fn a_check_that_refuses_its_copy_ends_the_draft_with_its_own_kind() {
    #[derive(Debug, thiserror::Error)]
    #[error("row 7 is missing from index a")]
    struct Broken;
    impl Failure for Broken {
        fn kind(&self) -> FailureKind {
            FailureKind::Corrupt
        }
    }
    let bed = Bed::new();
    let content = bed.content("c", 5000);
    let mut draft = bed.begin();
    draft.add_file(PayloadKind::Sqlite, "c", &content, &content, &Silent).unwrap();
    let error = draft.verify(&mut |_, _| Err(Box::new(Broken)), &Silent).unwrap_err();
    assert_eq!(error.kind(), FailureKind::Corrupt);
    assert!(error.to_string().ends_with("is not sound: row 7 is missing from index a"), "{error}");
    assert_eq!(bed.names(), [".lock"]);
}

#[test]
fn every_edit_of_the_manifest_or_the_sums_is_refused() {
    let bed = Bed::new();
    let backup = bed.publish(1000);
    for name in [MANIFEST, "SHA256SUMS"] {
        let path = backup.dir().join(name);
        let good = std::fs::read(&path).unwrap();
        let mut random = Random(0x5eed);
        for round in 0..1500 {
            let mut bytes = good.clone();
            match round % 4 {
                0 => bytes.truncate(random.below(good.len())),
                1 => bytes[random.below(good.len())] = random.below(256) as u8,
                2 => bytes.insert(random.below(good.len() + 1), random.below(256) as u8),
                _ => drop(bytes.remove(random.below(good.len()))),
            }
            std::fs::write(&path, &bytes).unwrap();
            let loaded = load(&bed, &backup);
            if bytes == good {
                assert_eq!(loaded.unwrap(), backup);
            } else {
                assert_eq!(loaded.unwrap_err().kind(), FailureKind::Unverified, "seed 0x5eed, round {round}");
            }
            // The manifest alone, without the sums that vouch for it, must not panic either.
            let _either = Manifest::parse(&bytes, &path);
        }
        std::fs::write(&path, good).unwrap();
    }
    assert_eq!(load(&bed, &backup).unwrap(), backup);
}

#[test]
fn damaged_backups_are_listed_in_their_place_with_the_reason() {
    let bed = Bed::new();
    let backups: Vec<Backup> = (0..6).map(|_| bed.publish(10)).collect();
    let edit = |i: usize, name: &str, from: &str, to: &str| {
        let path = backups[i].dir().join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from));
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    };
    edit(0, MANIFEST, "\"version\": 1", "\"version\": 4");
    edit(1, MANIFEST, "\"plex\"", "\"evil\"");
    edit(2, "SHA256SUMS", "library.db.zst", "library.xx.zst");
    std::fs::remove_file(backups[3].dir().join("SHA256SUMS")).unwrap();
    std::fs::remove_file(backups[4].dir().join(MANIFEST)).unwrap();
    let found = bed.store.backups(&bed.target).unwrap();
    assert_eq!(found.len(), 6);
    let error = |i: usize| {
        let found = found.iter().find(|f| f.id == backups[i].manifest().id).unwrap();
        found.backup.as_ref().unwrap_err()
    };
    unverified(error(0), "format version 4; this program reads up to 3");
    assert!(error(0).hint().unwrap().contains("newer version"));
    unverified(error(1), "manifest.json was changed after it was written");
    unverified(error(2), "it was edited");
    unverified(error(3), "has no SHA256SUMS");
    unverified(error(4), "has no manifest.json");
    assert!(found.iter().any(|f| f.backup.is_ok()));
    // The next one's number is above those of the damaged ones.
    assert_eq!(bed.publish(10).manifest().sequence, 7);
}

#[test]
fn a_manifest_can_not_lead_out_of_its_directory() {
    let bed = Bed::new();
    let backup = bed.publish(10);
    for file in ["../library.db.zst", "/etc/x.zst", "..", ".zst", "a/b.zst", MANIFEST, "a\n.zst"] {
        let mut manifest = backup.manifest().clone();
        manifest.payloads[0].file = file.to_owned();
        let bytes = serde_json::to_vec(&manifest).unwrap();
        unverified(&Manifest::parse(&bytes, Path::new("m")).unwrap_err(), "unusable file name");
    }
    // A link in the place of a payload is not followed.
    let path = backup.dir().join("library.db.zst");
    std::fs::rename(&path, bed.dir.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(bed.dir.path().join("elsewhere"), &path).unwrap();
    assert!(backup.verify_hashes(&bed.cancel).is_err());
}
