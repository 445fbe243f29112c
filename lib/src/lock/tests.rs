use std::path::Path;
use std::time::Duration;

use super::*;
use crate::failure::{Failure, FailureKind};
use crate::progress::Cancel;
use crate::world::disk::FileId;

fn acquire(dir: &Path, keys: &[LockKey], wait: Wait) -> Result<OperationLock, LockError> {
    acquire_under(dir, &LockRules::default(), keys, wait)
}

fn acquire_under(dir: &Path, rules: &LockRules, keys: &[LockKey], wait: Wait) -> Result<OperationLock, LockError> {
    let holder = Holder::own("backup", "unit test.service").unwrap();
    OperationLock::acquire(dir, rules, keys, &holder, wait, &Cancel::new().unwrap())
}

fn rules(handed: &HandedOn) -> LockRules {
    LockRules { handed: handed.tokens().to_vec(), ..LockRules::default() }
}

fn is_free(dir: &Path, key: &LockKey) -> bool {
    acquire(dir, std::slice::from_ref(key), Wait::No).is_ok()
}

#[test]
fn the_refused_one_learns_who_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let both = [LockKey::named("b"), LockKey::named("a"), LockKey::named("a")];
    let lock = acquire(dir.path(), &both, Wait::No).unwrap();
    assert_eq!(lock.keys().count(), 2);
    let error = acquire(dir.path(), &[LockKey::named("a")], Wait::No).unwrap_err();
    assert_eq!(error.kind(), FailureKind::LockHeld);
    let text = error.to_string();
    assert!(text.contains("backup of unit test.service by process"), "{text}");
    drop(lock);
    drop(acquire(dir.path(), &[LockKey::named("a")], Wait::No).unwrap());
}

#[test]
fn the_refused_one_waits_for_the_name_of_who_has_only_just_taken_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(LockKey::named("a").file_name());
    let mut file = file::open(&path).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let refused = std::thread::scope(|scope| {
        let refused = scope.spawn(|| acquire(dir.path(), &[LockKey::named("a")], Wait::No).unwrap_err());
        // Once it has been opened again, by who is refused: the name comes after that.
        let opened = || std::fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
        let of_it = || opened().filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == path)).count();
        while of_it() < 2 && !refused.is_finished() {
            std::thread::yield_now();
        }
        Holder::own("restore", "unit other.service").unwrap().write_to(&mut file).unwrap();
        refused.join().unwrap()
    });
    assert!(refused.to_string().contains("restore of unit other.service by process"), "{refused}");
}

#[test]
fn one_that_never_says_who_it_is_is_named_by_its_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(LockKey::named("a").file_name());
    let file = file::open(&path).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let refused = acquire(dir.path(), &[LockKey::named("a")], Wait::No).unwrap_err();
    let expected = format!("process {} holds it", std::process::id());
    assert!(refused.to_string().contains(&expected), "{refused}");
}

#[test]
fn a_wait_ends_with_the_lock_or_with_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let key = [LockKey::named("a")];
    let lock = acquire(dir.path(), &key, Wait::No).unwrap();
    let error = acquire(dir.path(), &key, Wait::AtMost(Duration::from_millis(30))).unwrap_err();
    assert!(matches!(error, LockError::Held { .. }));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| acquire(dir.path(), &key, Wait::AtMost(Duration::from_secs(20))));
        drop(lock);
        drop(waiter.join().unwrap().unwrap());
    });
}

#[test]
fn a_lingering_file_blocks_nobody() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(LockKey::named("a").file_name()), b"garbage").unwrap();
    drop(acquire(dir.path(), &[LockKey::named("a")], Wait::No).unwrap());
}

#[test]
fn what_was_handed_on_is_proved_and_claimed_and_not_taken_again() {
    let dir = tempfile::tempdir().unwrap();
    let key = LockKey::named("a");
    let lock = acquire(dir.path(), std::slice::from_ref(&key), Wait::No).unwrap();
    let handed = lock.hand_on().unwrap();
    let tokens = Token::list(&handed.variable());
    assert_eq!(tokens, handed.tokens());
    prove(dir.path(), &key, &tokens).unwrap();
    assert!(matches!(prove(dir.path(), &LockKey::named("b"), &tokens), Err(NotHeld::Another { .. })));
    assert_eq!(prove(dir.path(), &key, &[]), Err(NotHeld::NoToken));

    let both = [key.clone(), LockKey::named("b")];
    let nested = acquire_under(dir.path(), &rules(&handed), &both, Wait::No).unwrap();
    assert_eq!(nested.keys().count(), 2);
    // One more below, by what the nested one hands on.
    let deeper = acquire_under(dir.path(), &rules(&nested.hand_on().unwrap()), &both, Wait::No).unwrap();
    deeper.end();
    nested.end();
    assert!(!is_free(dir.path(), &key), "the end of a nested operation frees nothing");
    assert!(is_free(dir.path(), &LockKey::named("b")));
    prove(dir.path(), &key, &tokens).unwrap();
}

#[test]
fn an_end_takes_the_lock_from_those_who_did_not_claim_it() {
    let dir = tempfile::tempdir().unwrap();
    let key = LockKey::named("a");
    let lock = acquire(dir.path(), std::slice::from_ref(&key), Wait::No).unwrap();
    // A daemon that was started below keeps the descriptor for ever.
    let daemon = lock.hand_on().unwrap();
    lock.end();
    assert!(is_free(dir.path(), &key));
    let unlocked = prove(dir.path(), &key, daemon.tokens());
    assert!(matches!(unlocked, Err(NotHeld::Unlocked { .. })), "{unlocked:?}");
    let _next = acquire(dir.path(), std::slice::from_ref(&key), Wait::No).unwrap();
    let taken = prove(dir.path(), &key, daemon.tokens());
    assert!(matches!(taken, Err(NotHeld::HeldByAnother { .. })), "{taken:?}");
    assert!(
        acquire_under(dir.path(), &rules(&daemon), &[key], Wait::No).is_err(),
        "it is not claimed by a token alone"
    );
}

#[test]
fn a_claim_outlives_the_end_of_the_operation_that_it_came_from() {
    let dir = tempfile::tempdir().unwrap();
    let key = LockKey::named("a");
    let lock = acquire(dir.path(), std::slice::from_ref(&key), Wait::No).unwrap();
    let daemon = lock.hand_on().unwrap();
    let first = acquire_under(dir.path(), &rules(&daemon), std::slice::from_ref(&key), Wait::No).unwrap();
    let second = acquire_under(dir.path(), &rules(&daemon), std::slice::from_ref(&key), Wait::No).unwrap();
    lock.end();
    assert!(!is_free(dir.path(), &key));
    drop(first);
    assert!(!is_free(dir.path(), &key));
    drop(second);
    assert!(is_free(dir.path(), &key), "the last claim ends it, whoever else has the descriptor");
}

#[test]
fn a_token_for_another_file_or_descriptor_proves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let key = LockKey::named("a");
    let lock = acquire(dir.path(), std::slice::from_ref(&key), Wait::No).unwrap();
    let handed = lock.hand_on().unwrap();
    let token = handed.tokens()[0].clone();
    let other = std::fs::File::create(dir.path().join("other")).unwrap();
    let elsewhere = Token { fd: std::os::fd::AsRawFd::as_raw_fd(&other), ..token.clone() };
    assert!(matches!(prove(dir.path(), &key, &[elsewhere]), Err(NotHeld::OtherFile { .. })));
    let closed = Token { fd: 1_000_000, ..token.clone() };
    assert!(matches!(prove(dir.path(), &key, &[closed]), Err(NotHeld::Closed { .. })));
    // The right file, opened anew: another open file description, that holds nothing.
    let path = dir.path().join(key.file_name());
    let anew = std::fs::File::open(&path).unwrap();
    let anew = Token { fd: std::os::fd::AsRawFd::as_raw_fd(&anew), file: FileId::of(&path).unwrap() };
    assert!(prove(dir.path(), &key, &[anew]).is_err());
    for bad in ["", "1:2:3:4", "x:flock:1:1", "-1:flock:1:1", "3:flock:1"] {
        assert!(bad.parse::<Token>().is_err(), "{bad}");
    }
}

#[test]
fn a_lock_file_that_is_removed_or_replaced_lets_nobody_in_beside_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let key = LockKey::named("a");
    let path = dir.path().join(key.file_name());
    let lock = acquire(dir.path(), std::slice::from_ref(&key), Wait::No).unwrap();
    let handed = lock.hand_on().unwrap();
    std::fs::remove_file(&path).unwrap();
    let refused = acquire(dir.path(), std::slice::from_ref(&key), Wait::No).unwrap_err();
    assert!(matches!(refused, LockError::Replaced { .. }), "{refused}");
    assert!(matches!(prove(dir.path(), &key, handed.tokens()), Err(NotHeld::Replaced { .. })));
    // Again, now that a file is there, and with a record copied from another lock.
    assert!(acquire(dir.path(), std::slice::from_ref(&key), Wait::No).is_err());
    drop(acquire(dir.path(), &[LockKey::named("b")], Wait::No).unwrap());
    std::fs::copy(dir.path().join(LockKey::named("b").file_name()), &path).unwrap();
    assert!(acquire(dir.path(), std::slice::from_ref(&key), Wait::No).is_err());
    lock.end();
    drop(handed);
    assert!(is_free(dir.path(), &key));
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let refused = acquire(dir.path(), &[LockKey::named("a")], Wait::No).unwrap_err();
    assert_eq!(refused.kind(), FailureKind::Permission);
}

#[test]
fn the_status_names_holders_and_those_who_wait_and_not_the_record_alone() {
    let dir = tempfile::tempdir().unwrap();
    let key = LockKey::named("a");
    let of_key = |with_free| status(dir.path(), Some(&key), with_free).unwrap();
    assert!(of_key(true).is_empty());
    let mut lock = acquire(dir.path(), std::slice::from_ref(&key), Wait::No).unwrap();
    lock.note_step(Some("merge")).unwrap();
    std::thread::scope(|scope| {
        let waiter =
            scope.spawn(|| acquire(dir.path(), std::slice::from_ref(&key), Wait::AtMost(Duration::from_secs(20))));
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while of_key(false)[0].waiting.is_empty() {
            assert!(std::time::Instant::now() < deadline, "the waiter never showed");
            std::thread::yield_now();
        }
        let held = of_key(false).remove(0);
        assert_eq!(held.lock, "name a");
        assert_eq!(held.record.unwrap().step.as_deref(), Some("merge"));
        assert_eq!(held.holders.len(), 1);
        assert_eq!(held.holders[0].process.pid, own_pid());
        lock.end();
        drop(waiter.join().unwrap().unwrap());
    });
    assert!(of_key(false).is_empty());
    assert!(of_key(true)[0].holders.is_empty());
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}
