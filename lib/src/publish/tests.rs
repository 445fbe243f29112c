//! Trees, generations, switches and leases, on real directories.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::*;
use crate::failure::{Failure, FailureKind};
use crate::lock::{Holder, LockKey, LockRules, OperationLock, Wait};
use crate::progress::{Cancel, Silent};

pub(super) struct Place {
    pub(super) dir: tempfile::TempDir,
    pub(super) cancel: Cancel,
}

pub(super) const COMMANDS: Commands<'static> = Commands { wait_max: Duration::from_secs(20), prepare: &|_| {} };

/// Another test's thread may just be starting a program.
const WAIT: Wait = Wait::AtMost(Duration::from_secs(20));

impl Place {
    pub(super) fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap(), cancel: Cancel::new().unwrap() };
        fs::create_dir(place.source()).unwrap();
        place
    }

    pub(super) fn source(&self) -> PathBuf {
        self.dir.path().join("source")
    }

    pub(super) fn root(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    pub(super) fn tree(&self) -> Tree {
        Tree::open(&self.root()).unwrap()
    }

    /// Old enough that nobody can have written to it in the same tick.
    pub(super) fn put(&self, name: impl AsRef<Path>, text: &str) {
        let path = self.source().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let then = SystemTime::now() - Duration::from_secs(3600);
        fs::File::open(&path).unwrap().set_modified(then).unwrap();
    }

    pub(super) fn watch(&self) -> Watch<'_> {
        Watch { cancel: &self.cancel, observer: &Silent }
    }

    pub(super) fn write<T>(&self, story: impl FnOnce(&Writer<'_>) -> T) -> T {
        let holder = Holder::own("publish", "a test").unwrap();
        let key = [LockKey::tree(&Tree::make_root(&self.root()).unwrap()).unwrap()];
        let lock = OperationLock::acquire(
            &self.dir.path().join("lock"),
            &LockRules::default(),
            &key,
            &holder,
            WAIT,
            &self.cancel,
        )
        .unwrap();
        let writer = Writer::create(&self.root(), &lock, &holder).unwrap();
        story(&writer)
    }

    pub(super) fn update_with(&self, comparison: Comparison, carry: &Carry) -> Result<Built, PublishError> {
        self.write(|writer| {
            let mut staging = writer.begin("update")?;
            let made = staging.build_from(&self.source(), comparison, self.watch());
            let made = made.and_then(|built| Ok(Built { carried: staging.carry(carry, self.watch())?, ..built }));
            match made {
                Ok(built) => {
                    staging.seal(Depth::Names, self.watch())?.name()?.switch(writer)?;
                    Ok(built)
                }
                Err(error) => {
                    staging.give_up(&error);
                    Err(error)
                }
            }
        })
    }

    pub(super) fn update(&self) -> Built {
        self.update_with(Comparison::Metadata, &Carry::default()).unwrap()
    }

    pub(super) fn run(&self, seed: Seed, script: &str) -> Result<(), PublishError> {
        self.write(|writer| {
            let mut staging = writer.begin("update")?;
            let argv = ["sh", "-c", script].map(OsString::from);
            let made = (|| {
                let seeded = staging.seed(seed, self.watch())?;
                staging.run(&argv, seeded, &COMMANDS, self.watch())?;
                staging.measure(self.watch())
            })();
            if let Err(error) = made {
                staging.give_up(&error);
                return Err(error);
            }
            staging.seal(Depth::Content, self.watch())?.name()?.switch(writer)?;
            Ok(())
        })
    }

    pub(super) fn current(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root().join("current").join(name)
    }

    /// The names in `generations`, hidden ones included.
    pub(super) fn names(&self) -> Vec<String> {
        let all = fs::read_dir(self.root().join("generations")).unwrap();
        let mut names: Vec<String> = all.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

#[test]
fn a_generation_has_exactly_what_the_source_has() {
    let place = Place::new();
    let odd = OsStr::from_bytes(b"new\nline\xff");
    place.put("a", "a");
    place.put("sub/b", "b");
    place.put(odd, "odd");
    symlink("../nowhere", place.source().join("link")).unwrap();
    fs::set_permissions(place.source().join("a"), Permissions::from_mode(0o751)).unwrap();
    fs::create_dir(place.source().join("empty")).unwrap();
    let built = place.update();
    assert_eq!((built.linked, built.copied, built.bytes_copied), (0, 3, 5));
    assert_eq!(fs::read(place.current(odd)).unwrap(), b"odd");
    assert_eq!(fs::metadata(place.current("a")).unwrap().mode() & 0o7777, 0o751);
    assert_eq!(fs::read_link(place.current("link")).unwrap(), Path::new("../nowhere"));
    assert!(place.current("empty").is_dir());

    fs::remove_file(place.source().join("sub/b")).unwrap();
    place.put("c", "c");
    let built = place.update();
    assert_eq!((built.linked, built.copied, built.vanished), (2, 1, 1));
    assert!(!place.current("sub/b").exists() && place.current("sub").is_dir());
    let first = place.root().join("generations/000001");
    assert_eq!(fs::metadata(first.join("a")).unwrap().ino(), fs::metadata(place.current("a")).unwrap().ino());
    assert_eq!(fs::read(first.join("sub/b")).unwrap(), b"b");
    assert_eq!(place.names(), ["000001", "000002"]);
    assert_eq!(place.tree().current().unwrap(), Some(Generation(2)));
    assert!(place.tree().interrupted().is_none());
}

#[test]
fn a_change_within_the_tick_of_the_clock_is_seen() {
    let place = Place::new();
    let file = place.source().join("f");
    let tick = SystemTime::now();
    let write = |text: &str| {
        fs::write(&file, text).unwrap();
        fs::File::open(&file).unwrap().set_modified(tick).unwrap();
    };
    write("one");
    place.update();
    write("two");
    assert_eq!(place.update().copied, 1);
    assert_eq!(fs::read(place.current("f")).unwrap(), b"two");
    // The same a while later can only be seen by the content.
    place.put("g", "one");
    place.update();
    place.put("g", "two");
    let then = fs::metadata(place.current("g")).unwrap().modified().unwrap();
    fs::File::open(place.source().join("g")).unwrap().set_modified(then).unwrap();
    let built = place.update_with(Comparison::Content, &Carry::default()).unwrap();
    assert_eq!((built.linked, built.copied), (1, 1));
    assert_eq!(fs::read(place.current("g")).unwrap(), b"two");
}

#[test]
fn what_is_no_file_is_refused_and_a_number_is_given_once() {
    let place = Place::new();
    place.put("a", "a");
    place.update();
    let pipe = place.source().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = place.update_with(Comparison::Metadata, &Carry::default()).unwrap_err();
    assert!(error.to_string().contains("source/pipe: it is no file"), "{error}");
    assert_eq!((place.tree().current().unwrap(), place.names()), (Some(Generation(1)), vec!["000001".to_owned()]));
    let interrupted = place.tree().interrupted().unwrap();
    assert_eq!((interrupted.generation, interrupted.steps[0].state), (Generation(2), StepState::Failed));
    fs::remove_file(pipe).unwrap();
    // Neither the note nor a name of it is left: what is left still tells.
    place.update();
    assert_eq!(place.tree().current().unwrap(), Some(Generation(3)));
    fs::write(place.root().join(".svc-publish/last"), "garbage").unwrap();
    place.update();
    assert_eq!(place.tree().current().unwrap(), Some(Generation(4)));
}

#[test]
fn what_interruptions_left_is_swept_and_what_is_served_is_not() {
    let place = Place::new();
    place.put("a", "a");
    place.update();
    let generations = place.root().join("generations");
    for name in [".000007.new", ".000002.gone", "000008"] {
        fs::create_dir_all(generations.join(name).join("sub")).unwrap();
        fs::set_permissions(generations.join(name).join("sub"), Permissions::from_mode(0o555)).unwrap();
    }
    fs::write(place.root().join(".svc-publish/manifests/000009.json"), "{}").unwrap();
    symlink("generations/000007", place.root().join(".current.new")).unwrap();
    fs::remove_file(place.root().join(".svc-publish/manifests/000001.json")).unwrap();
    place.update();
    // No interruption leaves a number without a manifest: it may be somebody's.
    assert_eq!(place.names(), ["000001", "000008", "000010"]);
    assert_eq!(fs::read_dir(place.root().join(".svc-publish/manifests")).unwrap().count(), 1);
    assert!(fs::symlink_metadata(place.root().join(".current.new")).is_err());
}

#[test]
fn only_what_its_manifest_says_is_switched_to() {
    let place = Place::new();
    place.put("a", "aa");
    place.put("sub/b", "b");
    place.update();
    place.put("c", "c");
    place.update();
    let first = place.root().join("generations/000001");
    let verify = || place.tree().verify(Generation(1), Depth::Content, place.watch());
    let whole = verify().unwrap();
    place.write(|writer| writer.switch(&whole)).unwrap();
    assert!(!place.current("c").exists());
    let broken = |by: &dyn Fn(), what: &str| {
        by();
        let error = verify().unwrap_err();
        assert!(error.kind() == FailureKind::Unverified && error.to_string().contains(what), "{error}");
    };
    broken(&|| fs::write(first.join("x"), "").unwrap(), "x does not verify: the manifest does not have it");
    fs::remove_file(first.join("x")).unwrap();
    broken(&|| fs::write(first.join("a"), "ab").unwrap(), "a does not verify: its content");
    broken(&|| fs::write(first.join("a"), "aaa").unwrap(), "it has 3 bytes, and 2");
    broken(&|| fs::set_permissions(first.join("a"), Permissions::from_mode(0o600)).unwrap(), "its mode is 0600");
    broken(&|| fs::remove_file(first.join("a")).unwrap(), "a does not verify: it is not there");
    broken(&|| symlink("sub/b", first.join("a")).unwrap(), "another kind");
    assert_eq!(place.tree().verify(Generation(9), Depth::Names, place.watch()).unwrap_err().kind(), FailureKind::No);
}

#[test]
fn a_reader_keeps_its_generation_and_nobody_elses() {
    let place = Place::new();
    let keep = Keep { newest: 1, grace: Duration::ZERO };
    place.put("a", "1");
    place.update();
    let lease = Lease::take(&place.tree()).unwrap();
    for text in ["2", "3"] {
        place.put("a", text);
        place.update();
    }
    assert_eq!(place.tree().status().unwrap().iter().map(|g| g.leases).collect::<Vec<_>>(), [1, 0, 0]);
    assert_eq!(place.tree().would_collect(keep).unwrap().removed, [Generation(2)]);
    let collected = place.write(|writer| writer.collect(keep, place.watch())).unwrap();
    assert_eq!(collected.removed, [Generation(2)]);
    assert_eq!(collected.kept, [(Generation(1), Kept::Leased), (Generation(3), Kept::Current)]);
    assert_eq!(fs::read(lease.path().join("a")).unwrap(), b"1");
    drop(lease);
    let hour = Keep { grace: Duration::from_secs(3600), ..keep };
    assert!(place.write(|writer| writer.collect(hour, place.watch())).unwrap().removed.is_empty());
    assert_eq!(place.write(|writer| writer.collect(keep, place.watch())).unwrap().removed, [Generation(1)]);
    assert_eq!(place.names(), ["000003"]);
}

#[test]
fn a_name_that_vanished_is_carried_for_as_long_as_it_was_asked() {
    let place = Place::new();
    let carry = Carry::new(&["**/by-hash/**"], 2).unwrap();
    let update = || place.update_with(Comparison::Metadata, &carry).unwrap();
    place.put("dists/by-hash/one", "one");
    place.put("dists/Release", "1");
    update();
    fs::remove_dir_all(place.source().join("dists/by-hash")).unwrap();
    fs::remove_file(place.source().join("dists/Release")).unwrap();
    for _ in 0..2 {
        let built = update();
        assert_eq!(built.carried, 1);
        assert_eq!(fs::read(place.current("dists/by-hash/one")).unwrap(), b"one");
        assert!(!place.current("dists/Release").exists());
        let current = place.tree().current().unwrap().unwrap();
        let manifest = place.tree().manifest(current).unwrap();
        let carried = manifest.entry(Path::new("dists/by-hash/one")).unwrap().carried.unwrap();
        assert_eq!(carried.from, Generation(1));
        let _whole = place.tree().verify(current, Depth::Content, place.watch()).unwrap();
    }
    update();
    assert!(!place.current("dists/by-hash").exists());
}

#[test]
fn a_command_works_on_a_copy_and_its_failure_changes_nothing() {
    let place = Place::new();
    place.put("a", "a");
    place.update();
    place.run(Seed::Auto, "echo more >> a; echo new > b; test \"$SVC_PUBLISH_GENERATION\" = 000002").unwrap();
    assert_eq!(fs::read(place.current("a")).unwrap(), b"amore\n");
    assert_eq!(fs::read(place.root().join("generations/000001/a")).unwrap(), b"a");
    let error = place.run(Seed::Copy, "rm a; exit 7").unwrap_err();
    assert!(error.to_string().contains("it ended with status 7; nothing was published"), "{error}");
    assert!(place.current("a").exists() && place.names().contains(&".000003.new".to_owned()));
    place.run(Seed::None, "echo only > only").unwrap();
    assert_eq!(fs::read_dir(place.current("")).unwrap().count(), 1);
    assert_eq!(place.names(), ["000001", "000002", "000004"]);
}

#[test]
fn a_command_that_writes_through_a_hard_link_is_found_out() {
    let place = Place::new();
    place.put("a", "a");
    place.update();
    place.run(Seed::Hardlink, "echo new > b; cp a c; mv c a").unwrap();
    let error = place.run(Seed::Hardlink, "echo more >> a").unwrap_err();
    assert_eq!(error.kind(), FailureKind::Unverified);
    assert!(error.to_string().contains("generation 000002, which is served, is damaged"), "{error}");
    assert_eq!(place.tree().current().unwrap(), Some(Generation(2)));
}

#[test]
fn one_writer_at_a_time_and_no_tree_that_others_could_replace() {
    let place = Place::new();
    place.put("a", "a");
    place.update();
    place.write(|_writer| {
        // Another user's lock directory: only the tree's own lock is common.
        let holder = Holder::own("publish", "another").unwrap();
        let key = [LockKey::tree(&place.root()).unwrap()];
        let elsewhere = place.dir.path().join("lock-of-another");
        let lock =
            OperationLock::acquire(&elsewhere, &LockRules::default(), &key, &holder, Wait::No, &place.cancel).unwrap();
        let error = Writer::open(&place.root(), &lock, &holder).unwrap_err();
        assert!(error.kind() == FailureKind::LockHeld && error.to_string().contains("publish of a test"), "{error}");
    });
    fs::set_permissions(place.root(), Permissions::from_mode(0o777)).unwrap();
    assert_eq!(Tree::open(&place.root()).unwrap_err().kind(), FailureKind::Permission);
    fs::set_permissions(place.root(), Permissions::from_mode(0o755)).unwrap();
    assert_eq!(Tree::open(&place.source()).unwrap_err().kind(), FailureKind::Usage);
    fs::remove_file(place.root().join("current")).unwrap();
    fs::create_dir(place.root().join("current")).unwrap();
    assert!(Tree::create(&place.root()).unwrap_err().to_string().contains("and is no link to a generation"));
}
