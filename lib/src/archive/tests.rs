//! Stories on real directories.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::compression::Compression;
use crate::failure::{Failure, FailureKind};
use crate::lock::Holder;
use crate::name::TargetName;
use crate::progress::{Cancel, Silent};

mod damage;
mod trees;

pub(super) struct Bed {
    pub(super) dir: tempfile::TempDir,
    pub(super) store: Store,
    pub(super) target: TargetName,
    pub(super) cancel: Cancel,
}

impl Bed {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("store")).unwrap();
        Self { store, dir, target: "plex".parse().unwrap(), cancel: Cancel::new().unwrap() }
    }

    pub(super) fn begin(&self) -> Draft {
        self.store.begin(&self.target, &holder(), &self.cancel).unwrap()
    }

    /// A file of `len` bytes that compress badly enough to fill several blocks.
    pub(super) fn content(&self, name: &str, len: usize) -> PathBuf {
        let path = self.dir.path().join(name);
        let mut state = 88172645463325252u64;
        let bytes: Vec<u8> = (0..len)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 60) as u8
            })
            .collect();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(super) fn publish(&self, len: usize) -> Backup {
        let mut draft = self.begin();
        let content = self.content("library.db", len);
        draft.add_file(PayloadKind::Sqlite, "library.db", &content, &content, &Silent).unwrap();
        let verified = draft.verify(&mut sound, &Silent).unwrap();
        self.store.publish(verified).unwrap()
    }

    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.store.target_dir(&self.target))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

pub(super) fn holder() -> Holder {
    Holder::own("backup", "unit test.service").unwrap()
}

/// A check that finds everything sound, and records the size that it saw.
pub(super) fn sound(_: &Payload, content: Content<'_>) -> Result<Checked, Box<dyn Failure + Send + Sync>> {
    let size = match content {
        Content::File(copy) => std::fs::metadata(copy).unwrap().len(),
        Content::Stream(bytes) => std::io::copy(bytes, &mut std::io::sink()).unwrap_or(0),
    };
    Ok(Checked { rungs: vec!["looked at".to_owned()], facts: serde_json::json!({ "size": size }) })
}

/// Runs a stock tool in a directory; its standard output, where it succeeds.
pub(super) fn stock(dir: &Path, command: &str) -> Result<String, String> {
    let output = Command::new("sh").arg("-ec").arg(command).current_dir(dir).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn what_was_put_in_comes_out_and_stock_tools_agree() {
    let bed = Bed::new();
    let backup = bed.publish(3 << 20);
    assert_eq!(bed.names(), [".lock", backup.manifest().id.as_str()], "no scratch, no draft is left");
    assert_eq!(stock(backup.dir(), "sha256sum -c --strict --quiet SHA256SUMS"), Ok(String::new()));
    for file in std::fs::read_dir(backup.dir()).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().mode() & 0o7777, 0o600);
    }
    assert_eq!(std::fs::metadata(backup.dir()).unwrap().mode() & 0o7777, 0o700);
    let payload = &backup.manifest().payloads[0];
    assert_eq!(payload.content_bytes, 3 << 20);
    assert!(payload.stored_bytes < payload.content_bytes);
    assert_eq!(payload.rungs, ["stored sha256", "content sha256", "looked at"]);
    assert_eq!(payload.facts["size"], 3 << 20);

    let listed = bed.store.backups(&bed.target).unwrap();
    assert_eq!(listed.len(), 1);
    let listed = listed[0].backup.as_ref().unwrap();
    assert_eq!(listed, &backup);
    listed.verify_hashes(&bed.cancel).unwrap();
    listed.verify(bed.dir.path(), &mut sound, &bed.cancel, &Silent).unwrap();
    let into = bed.dir.path().join("restored");
    std::fs::create_dir(&into).unwrap();
    let path = listed.extract(payload, &into, &bed.cancel, &Silent).unwrap();
    let original = std::fs::read(bed.dir.path().join("library.db")).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), original);
    assert_eq!(
        stock(&bed.store.target_dir(&bed.target), "zstd -dcq */library.db.zst | cmp - ../../library.db"),
        Ok(String::new())
    );
    // A second extraction overwrites nothing.
    assert!(listed.extract(payload, &into, &bed.cancel, &Silent).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), original);
}

#[test]
fn what_is_not_compressed_is_the_file_itself_and_every_bit_of_it_counts() {
    let bed = Bed::new();
    let content = bed.content("library.db", 3 << 20);
    let mut draft = bed.begin();
    draft.pack(Compression::None, None);
    draft.add_file(PayloadKind::Sqlite, "library.db", &content, &content, &Silent).unwrap();
    draft.pack(Compression::Zstd { level: 1, threads: 1 }, None);
    draft.add_file(PayloadKind::Sqlite, "other.db", &content, &content, &Silent).unwrap();
    let backup = bed.store.publish(draft.verify(&mut sound, &Silent).unwrap()).unwrap();
    assert_eq!((backup.manifest().version, backup.manifest().payloads[1].codec), (3, Codec::Zstd));
    let payload = backup.payload("library.db").unwrap();
    assert_eq!((payload.file.as_str(), payload.codec, payload.stored_bytes), ("library.db.raw", Codec::None, 3 << 20));
    assert_eq!(stock(backup.dir(), "cmp library.db.raw ../../../library.db"), Ok(String::new()));
    let into = bed.dir.path().join("restored");
    std::fs::create_dir(&into).unwrap();
    assert_eq!(backup.extract(payload, &into, &bed.cancel, &Silent).unwrap(), into.join("library.db"));
    let file = backup.dir().join("library.db.raw");
    let bytes = std::fs::read(&file).unwrap();
    for at in [0, 1 << 20, (3 << 20) - 1] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        std::fs::write(&file, damaged).unwrap();
        assert_eq!(backup.verify_hashes(&bed.cancel).unwrap_err().kind(), FailureKind::Unverified);
        let whole = backup.verify(bed.dir.path(), &mut sound, &bed.cancel, &Silent);
        assert_eq!(whole.unwrap_err().kind(), FailureKind::Unverified);
    }
    for longer_or_shorter in [[&bytes[..], b"x"].concat(), bytes[1..].to_vec()] {
        std::fs::write(&file, longer_or_shorter).unwrap();
        assert_eq!(backup.verify_hashes(&bed.cancel).unwrap_err().kind(), FailureKind::Unverified);
    }
}

#[test]
fn what_a_group_has_of_a_member_is_a_backup_of_that_alone() {
    let bed = Bed::new();
    let content = bed.content("c", 1000);
    let (web, jobs): (TargetName, TargetName) = ("web".parse().unwrap(), "jobs".parse().unwrap());
    let mut draft = bed.begin();
    for member in [&web, &jobs] {
        draft.pack(Compression::default(), Some(member));
        draft.add_file(PayloadKind::Sqlite, &format!("{member}/app.db"), &content, &content, &Silent).unwrap();
    }
    let backup = bed.store.publish(draft.verify(&mut sound, &Silent).unwrap()).unwrap();
    assert_eq!((backup.manifest().version, backup.members()), (3, vec![web.clone(), jobs]));
    let of_web = backup.of_member(&web).unwrap();
    assert_eq!((of_web.manifest().payloads.len(), of_web.payload("app.db").unwrap().member.clone()), (1, Some(web)));
    of_web.verify_hashes(&bed.cancel).unwrap();
    assert!(backup.of_member(&"nobody".parse().unwrap()).is_err());
    let mut manifest = backup.manifest().clone();
    manifest.payloads[0].name = "jobs/app.db".to_owned();
    let bytes = serde_json::to_vec(&manifest).unwrap();
    assert!(Manifest::parse(&bytes, Path::new("m")).is_err(), "a name that says another member");
}

#[test]
fn names_that_are_no_file_names_are_kept_in_the_manifest_only() {
    let bed = Bed::new();
    let odd = PathBuf::from(std::ffi::OsStr::from_bytes(b"/srv/new\nline\xff/x.db"));
    let content = bed.content("c", 10);
    let mut draft = bed.begin();
    for name in ["../x\n.db", "..\u{e4}x_.db", "a b", "a_b", ".hidden", "-flag", ""] {
        draft.add_file(PayloadKind::Sqlite, name, &odd, &content, &Silent).unwrap();
    }
    let backup = bed.store.publish(draft.verify(&mut sound, &Silent).unwrap()).unwrap();
    assert!(backup.manifest().payloads.iter().all(|p| p.source == odd));
    assert_eq!(backup.payload("../x\n.db").unwrap().file, "_.._x_.db.zst");
    assert_eq!(backup.payload("a_b").unwrap().file, "a_b-2.zst");
    assert_eq!(stock(backup.dir(), "sha256sum -c --strict --quiet SHA256SUMS"), Ok(String::new()));
}

#[test]
fn one_writer_per_target_and_the_refused_one_learns_who() {
    let bed = Bed::new();
    let draft = bed.begin();
    let error = bed.store.begin(&bed.target, &holder(), &bed.cancel).unwrap_err();
    assert_eq!(error.kind(), FailureKind::LockHeld);
    assert!(error.to_string().contains("backup of unit test.service by process"), "{error}");
    let other: TargetName = "sonarr".parse().unwrap();
    drop(bed.store.begin(&other, &holder(), &bed.cancel).unwrap());
    drop(draft);
    drop(bed.begin());
    assert_eq!(bed.names(), [".lock"]);
}

#[test]
fn dead_attempts_are_invisible_and_swept_by_the_next_one() {
    let bed = Bed::new();
    let kept = bed.publish(1000);
    let dir = bed.store.target_dir(&bed.target);
    for dead in
        [".partial-20261121T040719Z-aaaaaa", ".scratch-20261121T040719Z-cccccc", ".expired-20261121T040719Z-bbbbbb"]
    {
        std::fs::create_dir(dir.join(dead)).unwrap();
        std::fs::write(dir.join(dead).join("library.db.zst"), b"half").unwrap();
    }
    std::fs::create_dir(dir.join("notes of the admin")).unwrap();
    assert_eq!(bed.store.backups(&bed.target).unwrap().len(), 1);
    drop(bed.begin());
    assert_eq!(bed.names(), [".lock", kept.manifest().id.as_str(), "notes of the admin"]);
    kept.verify_hashes(&bed.cancel).unwrap();
}

#[test]
fn who_could_plant_a_backup_is_told_before_one_is_read_or_written() {
    let bed = Bed::new();
    let backup = bed.publish(10);
    let (id, policy) = (&backup.manifest().id, retention::Policy { keep_last: 1, ..Default::default() });
    let all = || -> Vec<Result<(), ArchiveError>> {
        vec![
            bed.store.backups(&bed.target).and_then(|found| found.into_iter().try_for_each(|f| f.backup.map(drop))),
            bed.store.backup(&bed.target, id).map(drop),
            bed.store.begin(&bed.target, &holder(), &bed.cancel).map(drop),
            bed.store.expire(&bed.target, &policy, &holder(), &bed.cancel).map(drop),
        ]
    };
    let own = |path: &Path, uid: u32| std::os::unix::fs::lchown(path, Some(uid), None).unwrap();
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let target = bed.store.target_dir(&bed.target);
    let refused = |what: &str| {
        for (call, answer) in all().into_iter().enumerate() {
            assert_eq!(answer.unwrap_err().kind(), FailureKind::Permission, "{what}, call {call}");
        }
    };
    mode(&target, 0o777);
    refused("a target that everybody can write to");
    mode(&target, 0o1777);
    refused("the same, sticky");
    mode(&target, 0o700);
    if rustix::process::geteuid().is_root() {
        own(&target, 1234);
        refused("a target of somebody else");
        own(&target, 0);
    }
    mode(backup.dir(), 0o777);
    for answer in &all()[..2] {
        assert_eq!(answer.as_ref().unwrap_err().kind(), FailureKind::Permission, "a backup that can be changed");
    }
    mode(backup.dir(), 0o700);
    // A target on another disk is one for every command, and its rights count where it really is.
    let elsewhere = bed.dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::rename(&target, elsewhere.join("plex")).unwrap();
    std::os::unix::fs::symlink(elsewhere.join("plex"), &target).unwrap();
    std::os::unix::fs::symlink("plex", bed.store.root().join("second-name")).unwrap();
    assert_eq!(bed.store.targets().unwrap(), std::slice::from_ref(&bed.target));
    all().into_iter().collect::<Result<(), _>>().unwrap();
    mode(&elsewhere, 0o777);
    refused("a directory above the real one");
}

#[test]
fn the_order_is_the_sequence_and_not_the_clock() {
    let bed = Bed::new();
    let ids: Vec<_> = (0..4).map(|_| bed.publish(10).manifest().id.clone()).collect();
    let found: Vec<_> = bed.store.backups(&bed.target).unwrap().into_iter().map(|f| f.id).collect();
    assert_eq!(found, ids, "all four are of about the same second");
    assert_eq!(bed.store.targets().unwrap(), std::slice::from_ref(&bed.target));
}

#[test]
fn of_several_targets_the_newest_is_last_also_where_all_are_of_one_second() {
    let mut bed = Bed::new();
    let mut ids = Vec::new();
    for target in ["plex", "audio", "plex", "audio", "audio", "plex"] {
        bed.target = target.parse().unwrap();
        ids.push(bed.publish(10).manifest().id.clone());
    }
    let targets = bed.store.targets().unwrap();
    let all = bed.store.backups_of(&targets).unwrap();
    let found: Vec<_> = all.iter().map(|backup| backup.manifest().id.clone()).collect();
    assert_eq!(found, ids);
}

#[test]
fn who_lists_meanwhile_never_sees_half_a_backup() {
    let bed = Bed::new();
    drop(bed.publish(100));
    let done = std::sync::atomic::AtomicBool::new(false);
    /// Also when an assertion fails: the reader must not go on for ever.
    struct DoneAtEnd<'a>(&'a std::sync::atomic::AtomicBool);
    impl Drop for DoneAtEnd<'_> {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }
    std::thread::scope(|scope| {
        let end = DoneAtEnd(&done);
        let reader = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(std::sync::atomic::Ordering::SeqCst) || looks == 0 {
                let found = bed.store.backups(&bed.target).unwrap();
                assert!(!found.is_empty());
                for found in found {
                    found.backup.unwrap();
                }
                looks += 1;
            }
        });
        let policy = retention::Policy { keep_last: 1, ..Default::default() };
        for _ in 0..30 {
            drop(bed.publish(100));
            bed.store.expire(&bed.target, &policy, &holder(), &bed.cancel).unwrap();
        }
        drop(end);
        reader.join().unwrap();
    });
}

#[test]
fn a_failed_step_gives_the_draft_up_at_once() {
    let bed = Bed::new();
    let content = bed.content("c", 10);
    let mut draft = bed.begin();
    draft.add_file(PayloadKind::Sqlite, "one", &content, &content, &Silent).unwrap();
    let gone = bed.dir.path().join("gone");
    let error = draft.add_file(PayloadKind::Sqlite, "two", &gone, &gone, &Silent).unwrap_err();
    assert!(error.to_string().contains(&*gone.to_string_lossy()), "{error}");
    assert_eq!(bed.names(), [".lock"], "nothing is left even while the draft lives");
    assert!(matches!(draft.verify(&mut sound, &Silent), Err(ArchiveError::GivenUp { .. })));
    drop(bed.begin());

    let draft = bed.begin();
    assert!(draft.verify(&mut sound, &Silent).is_err(), "an empty backup is none");
    let mut draft = bed.begin();
    bed.cancel.request();
    let error = draft.add_file(PayloadKind::Sqlite, "one", &content, &content, &Silent).unwrap_err();
    assert!(matches!(error, ArchiveError::Cancelled { .. }));
    drop(draft);
    assert_eq!(bed.names(), [".lock"]);
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_with_its_path_and_a_remedy() {
    // The limit holds for a whole process, so the story runs in a process of its own.
    if std::env::var_os("SVCKIT_TEST_SMALL_FILES").is_none() {
        let own = std::env::current_exe().unwrap();
        let story = "archive::tests::a_limit_on_the_size_of_files_is_an_error_with_its_path_and_a_remedy";
        let script = format!("trap '' XFSZ; ulimit -f 64; exec \"$0\" --exact {story} --nocapture");
        let output = Command::new("sh").args(["-c", &script]).arg(own).env("SVCKIT_TEST_SMALL_FILES", "1").output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let bed = Bed::new();
    let old = bed.publish(10_000);
    let mut draft = bed.begin();
    let source = Path::new("/proc/self/exe");
    let error = draft.add_file(PayloadKind::Sqlite, "big", source, source, &Silent).unwrap_err();
    assert!(error.to_string().contains("can't write to") && error.to_string().contains("big.zst"), "{error}");
    assert!(error.hint().unwrap().contains("ulimit -f"), "{error:?}");
    drop(draft);
    assert_eq!(bed.names(), [".lock", old.manifest().id.as_str()]);
    old.verify_hashes(&bed.cancel).unwrap();
}

#[test]
fn a_store_that_can_not_be_written_is_an_error_of_permission() {
    let bed = Bed::new();
    if rustix::process::geteuid().is_root() {
        // Modes do not bind the super-user; a file in the place of the directory binds everybody.
        std::fs::write(bed.store.target_dir(&bed.target), b"").unwrap();
        let error = bed.store.begin(&bed.target, &holder(), &bed.cancel).unwrap_err();
        assert!(error.to_string().contains("store/plex"), "{error}");
        return;
    }
    std::fs::set_permissions(bed.store.root(), std::fs::Permissions::from_mode(0o500)).unwrap();
    let error = bed.store.begin(&bed.target, &holder(), &bed.cancel).unwrap_err();
    assert_eq!(error.kind(), FailureKind::Permission);
    assert!(error.to_string().contains("store/plex"), "{error}");
}
