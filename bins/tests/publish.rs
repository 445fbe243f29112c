//! `svc-publish` as a person runs it: what it refuses, and what it hands on.

mod support;

use support::Place;

#[test]
fn a_command_gets_no_second_copy_of_standard_error() {
    let place = Place::new();
    let script = r#"for fd in /proc/$$/fd/*; do
        case ${fd##*/} in
            0|1|2) ;;
            *) test "$(readlink "$fd")" != "$(readlink /proc/$$/fd/2)" || exit 5 ;;
        esac
    done"#;
    let tree = place.path("tree");
    place
        .publish(&[
            "update".as_ref(),
            tree.as_path(),
            "--run".as_ref(),
            "--".as_ref(),
            "sh".as_ref(),
            "-c".as_ref(),
            script.as_ref(),
        ])
        .succeeds();
}

#[test]
fn what_is_no_tree_is_said_and_a_refusal_makes_nothing() {
    let place = Place::new();
    let (source, inside) = (place.path("source"), place.path("source/inside"));
    std::fs::create_dir(&source).unwrap();
    let (source, inside) = (source.to_str().unwrap(), inside.to_str().unwrap());
    for words in [&["gc", inside][..], &["read", inside, "--", "true"], &["status", inside]] {
        place.publish(words).fails(2, &["is no tree to publish in: it is not there"]);
    }
    place.publish(&["update", inside, "--from", source]).fails(2, &["the tree lies in it"]);
    place.publish(&["update", inside, "--from", source, "--dry-run"]).fails(2, &["the tree lies in it"]);
    assert!(!std::path::Path::new(inside).exists());
    place.publish(&["update", inside, "--from", source, "--check", ""]).fails(2, &["it has no word"]);
}
