//! Trees that are not what we left: what is lost, damaged or somebody else's is told, and never removed or served.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use super::tests::{COMMANDS, Place};
use super::*;
use crate::failure::{Failure, FailureKind};

fn manifest_of(place: &Place, number: u64) -> std::path::PathBuf {
    place.root().join(format!(".svc-publish/manifests/{number:06}.json"))
}

#[test]
fn what_has_our_names_and_no_mark_of_ours_is_somebody_elses() {
    let place = Place::new();
    let theirs = ["generations/000001/x", "generations/.000007.new/x"].map(|name| place.root().join(name));
    for path in &theirs {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "precious").unwrap();
    }
    let error = Tree::create(&place.root()).unwrap_err();
    assert_eq!(error.kind(), FailureKind::Unsafe, "{error}");
    assert!(theirs.iter().all(|path| path.exists()) && !place.root().join(".svc-publish").exists());
}

#[test]
fn what_is_refused_for_its_rights_gets_nothing_new() {
    let place = Place::new();
    fs::create_dir(place.root()).unwrap();
    fs::set_permissions(place.root(), Permissions::from_mode(0o777)).unwrap();
    assert_eq!(Tree::create(&place.root()).unwrap_err().kind(), FailureKind::Permission);
    assert_eq!(fs::read_dir(place.root()).unwrap().count(), 0);
}

#[test]
fn a_generation_without_its_manifest_is_kept_and_told() {
    let place = Place::new();
    for text in ["1", "2", "3"] {
        place.put("a", text);
        place.update();
    }
    fs::remove_file(manifest_of(&place, 1)).unwrap();
    fs::write(manifest_of(&place, 2), "{").unwrap();
    let problems = place.tree().status().unwrap().into_iter().map(|one| one.problem.is_some()).collect::<Vec<_>>();
    assert_eq!(problems, [true, true, false]);
    let keep = Keep { newest: 5, grace: Duration::ZERO };
    let told = place.tree().would_collect(keep).unwrap();
    assert_eq!(told, place.write(|writer| writer.collect(keep, place.watch())).unwrap());
    assert!(told.kept.contains(&(Generation(1), Kept::Unknown)) && told.removed.is_empty(), "{told:?}");
    assert_eq!(place.names(), ["000001", "000002", "000003"]);
}

#[test]
fn a_command_does_not_go_on_from_what_is_not_known() {
    let place = Place::new();
    place.put("a", "a");
    place.update();
    let refused = |kind| {
        let error = place.run(Seed::Auto, "echo n > new").unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(place.run(Seed::Copy, "true").unwrap_err().kind(), kind);
    };
    let manifest = fs::read(manifest_of(&place, 1)).unwrap();
    fs::write(manifest_of(&place, 1), &manifest[..100]).unwrap();
    refused(FailureKind::Unverified);
    fs::remove_file(manifest_of(&place, 1)).unwrap();
    refused(FailureKind::Unverified);
    let carry = Carry::new(&["**"], 2).unwrap();
    let error = place.update_with(Comparison::Metadata, &carry).unwrap_err();
    assert_eq!(error.kind(), FailureKind::Unverified, "{error}");
    fs::write(manifest_of(&place, 1), &manifest).unwrap();
    fs::remove_file(place.root().join("current")).unwrap();
    refused(FailureKind::Unsafe);
    place.run(Seed::None, "echo n > new").unwrap();
    assert!(place.current("new").exists() && !place.current("a").exists());
}

#[test]
fn a_command_that_fails_or_a_check_is_charged_with_the_damage_it_does() {
    let place = Place::new();
    place.put("a", "a");
    place.update();
    let error = place.run(Seed::Hardlink, "echo BAD >> a; exit 1").unwrap_err();
    let told = |error: &PublishError| {
        error.kind() == FailureKind::Unverified && error.to_string().contains("000001, which is served")
    };
    assert!(told(&error) && error.to_string().contains("status 1"), "{error}");

    for (script, failed) in [("echo BAD >> a", false), ("echo BAD >> a; exit 1", true)] {
        let place = Place::new();
        place.put("a", "a");
        place.update();
        place.put("c", "c");
        let error = place.write(|writer| {
            let mut staging = writer.begin("update").unwrap();
            let _built = staging.build_from(&place.source(), Comparison::Metadata, place.watch()).unwrap();
            let argv = ["sh", "-c", script].map(OsString::from).to_vec();
            let checked = staging.check(&[argv], &COMMANDS, place.watch());
            assert_eq!(checked.is_err(), failed);
            match checked {
                Ok(()) => staging.seal(Depth::Content, place.watch()).map(drop).unwrap_err(),
                Err(error) => {
                    staging.give_up(&error);
                    error
                }
            }
        });
        assert!(told(&error), "{error}");
    }
}

#[test]
fn by_content_a_rotten_file_is_not_linked() {
    let place = Place::new();
    place.put("a", "a");
    place.update();
    let old = place.current("a");
    let then = fs::metadata(&old).unwrap().modified().unwrap();
    fs::write(&old, "X").unwrap();
    fs::File::open(&old).unwrap().set_modified(then).unwrap();
    let built = place.update_with(Comparison::Content, &Carry::default()).unwrap();
    assert_eq!((built.linked, built.copied), (0, 1));
    assert_eq!(fs::read(place.current("a")).unwrap(), b"a");
}

#[test]
fn a_tree_within_a_tree_is_refused_and_not_made() {
    let place = Place::new();
    place.put("a", "a");
    place.update();
    for name in ["current", "generations", "generations/000001", "current/new"] {
        let error = Tree::make_root(&place.root().join(name)).unwrap_err();
        assert_eq!(error.kind(), FailureKind::Usage, "{name}: {error}");
    }
    assert!(!place.current("new").exists());
    assert_eq!(Tree::open(&place.root().join("missing")).unwrap_err().kind(), FailureKind::Usage);
}

#[test]
fn a_first_generation_of_a_command_has_the_mode_of_any_new_directory() {
    let place = Place::new();
    fs::create_dir(place.dir.path().join("like")).unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().mode() & 0o7777;
    place.run(Seed::Auto, "echo a > a").unwrap();
    assert_eq!(mode(&place.current("")), mode(&place.dir.path().join("like")));
}

#[test]
fn what_a_command_removes_is_carried_as_long_as_it_was_asked() {
    let place = Place::new();
    place.put("pool/a", "a");
    place.put("pool/b", "b");
    place.update();
    let carry = Carry::new(&["pool/**"], 2).unwrap();
    let run = |script: &str| {
        place.write(|writer| {
            let mut staging = writer.begin("update").unwrap();
            let seeded = staging.seed(Seed::Copy, place.watch()).unwrap();
            let argv = ["sh", "-c", script].map(OsString::from);
            staging.run(&argv, seeded, &COMMANDS, place.watch()).unwrap();
            staging.measure(place.watch()).unwrap();
            let carried = staging.carry(&carry, place.watch()).unwrap();
            let sealed = staging.seal(Depth::Content, place.watch()).unwrap();
            sealed.name().unwrap().switch(writer).unwrap();
            carried
        })
    };
    assert_eq!([run("rm pool/a"), run("true"), run("true")], [1, 1, 0]);
    assert!(!place.current("pool/a").exists() && place.current("pool/b").exists());
}

#[test]
fn a_command_s_words_are_not_told_beyond_its_name() {
    let place = Place::new();
    let error = place.run(Seed::None, "exit 3 # https://user:s3cret@host/").unwrap_err();
    let journal = fs::read_to_string(place.root().join(".svc-publish/journal.json")).unwrap();
    assert!(error.to_string().contains("failed: sh: it ended with status 3"), "{error}");
    assert!(!error.to_string().contains("s3cret") && !journal.contains("s3cret"), "{journal}");
}

#[test]
fn no_number_is_given_twice_even_the_highest() {
    let place = Place::new();
    place.put("a", "a");
    place.update();
    fs::write(place.root().join(".svc-publish/last"), format!("{}\n", u64::MAX)).unwrap();
    let error = place.update_with(Comparison::Metadata, &Carry::default()).unwrap_err();
    assert!(error.to_string().contains("no number is above it"), "{error}");
    assert_eq!(place.names(), ["000001"]);
}
