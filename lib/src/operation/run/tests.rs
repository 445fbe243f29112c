//! Tests of a run: bounds, order, retries, what a panic and a cancellation leave, and its records.

use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::*;
use crate::name::TargetName;

/// Nothing here takes as long, unless it hangs.
const LONG: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Trouble(&'static str, bool);

impl MayPass for Trouble {
    fn may_pass(&self) -> bool {
        self.1
    }
}

fn item(name: &str, after: &[&str]) -> RunItem {
    RunItem {
        name: name.to_owned(),
        priority: 0,
        after: after.iter().map(|name| (*name).to_owned()).collect(),
        service: None,
    }
}

fn quickly() -> Retries {
    Retries { attempts: 3, pause: Duration::from_millis(2), pause_max: Duration::from_millis(4) }
}

/// Name and end of each, in the order of the ends.
fn ends<W>(items: Vec<RunItem>, slots: &Slots, cancel: &Cancel, work: W) -> Vec<(String, String)>
where
    W: Fn(&RunItem, u32) -> Result<(), Trouble> + Sync,
{
    let mut ends = Vec::new();
    let told = |item: &RunItem, end: Ended<(), Trouble>| {
        let word = match end {
            Ended::Done((), attempt) => format!("done {attempt}"),
            Ended::Failed(error, attempt) => format!("{error} {attempt}"),
            Ended::Panicked(why) => format!("panicked: {why}"),
            Ended::Needs(name) => format!("needs {name}"),
            Ended::InACircle => "circle".to_owned(),
            Ended::Cancelled => "cancelled".to_owned(),
        };
        ends.push((item.name.clone(), word));
    };
    run_all(items, slots, &quickly(), cancel, work, told).unwrap();
    ends
}

fn of<'a>(ends: &'a [(String, String)], name: &str) -> &'a str {
    let mut found = ends.iter().filter(|(known, _)| known == name);
    let end = found.next().unwrap_or_else(|| panic!("{name} did not end: {ends:?}"));
    assert!(found.next().is_none(), "{name} ended twice: {ends:?}");
    &end.1
}

#[test]
fn as_many_run_at_once_as_there_are_slots_and_never_more() {
    let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let two = std::sync::Barrier::new(2);
    let items = (0..6).map(|n| item(&n.to_string(), &[])).collect();
    let ends = ends(items, &Slots::new(2).unwrap(), &Cancel::new().unwrap(), |_, _| {
        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        two.wait();
        running.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    });
    assert_eq!((ends.len(), most.load(Ordering::SeqCst)), (6, 2));
}

#[test]
fn slots_that_are_added_while_it_runs_are_used_at_once() {
    let slots = Slots::new(1).unwrap();
    let (second_began, wait_for_second) = channel();
    let (sender, receiver) = (Mutex::new(second_began), Mutex::new(wait_for_second));
    let ends = ends(vec![item("first", &[]), item("second", &[])], &slots, &Cancel::new().unwrap(), |item, _| {
        if item.name == "first" {
            assert_eq!(slots.change(1), 2);
            let began = receiver.lock().unwrap().recv_timeout(LONG);
            return began.map_err(|_| Trouble("the second never began", false));
        }
        sender.lock().unwrap().send(()).unwrap();
        Ok(())
    });
    assert_eq!((of(&ends, "first"), of(&ends, "second")), ("done 1", "done 1"));
    assert_eq!((slots.change(1000), slots.change(-1000)), (Slots::MAX, 1));
}

#[test]
fn only_what_may_pass_is_tried_again_and_not_for_ever() {
    let items = vec![item("away", &[]), item("back", &[]), item("wrong", &[]), item("after", &["back"])];
    let ends =
        ends(items, &Slots::new(1).unwrap(), &Cancel::new().unwrap(), |item, attempt| match item.name.as_str() {
            "away" => Err(Trouble("away", true)),
            "wrong" => Err(Trouble("wrong", false)),
            "back" if attempt == 1 => Err(Trouble("away", true)),
            _ => Ok(()),
        });
    assert_eq!((of(&ends, "away"), of(&ends, "wrong")), ("away 3", "wrong 1"));
    assert_eq!((of(&ends, "back"), of(&ends, "after")), ("done 2", "done 1"));
}

#[test]
fn a_panic_ends_its_own_target_and_those_that_need_it() {
    let items = vec![item("a", &[]), item("b", &["a"]), item("c", &[]), item("d", &["e"]), item("e", &["d"])];
    let ends = ends(items, &Slots::new(2).unwrap(), &Cancel::new().unwrap(), |item, _| {
        assert!(item.name != "a", "a mistake");
        Ok(())
    });
    assert_eq!((of(&ends, "a"), of(&ends, "b"), of(&ends, "c")), ("panicked: a mistake", "needs a", "done 1"));
    assert_eq!((of(&ends, "d"), of(&ends, "e")), ("circle", "circle"));
}

#[test]
fn a_cancellation_waits_for_what_runs_and_begins_nothing_more() {
    let cancel = Cancel::new().unwrap();
    let items = vec![item("runs", &[]), item("waits", &[])];
    let ends = ends(items, &Slots::new(1).unwrap(), &cancel, |_, _| {
        cancel.request();
        wait::readable(&[cancel.as_fd()], Instant::now() + LONG).unwrap();
        Err(Trouble("cancelled in order", true))
    });
    assert_eq!((of(&ends, "runs"), of(&ends, "waits")), ("cancelled in order 1", "cancelled"));
}

#[test]
fn pauses_grow_and_have_a_bound() {
    let retries = Retries::default();
    for (failures, full) in [(1, 5.0), (2, 10.0), (3, 20.0), (40, 300.0)] {
        let pause = retries.pause_after(failures).as_secs_f64();
        assert!((full / 2.0..=full).contains(&pause), "{failures}: {pause}");
    }
}

fn failed() -> Failed {
    Failed { at: "2026-11-21T04:00:00Z".to_owned(), kind: "failed".to_owned(), error: "away".to_owned(), attempts: 4 }
}

fn succeeded() -> Succeeded {
    Succeeded { at: "2026-11-21T05:00:00Z".to_owned(), backup: None, stored_bytes: 7, took_ms: 1.5 }
}

#[test]
fn the_past_of_a_target_is_kept_until_it_is_forgotten() {
    let state = tempfile::tempdir().unwrap();
    let records = Records::below(state.path());
    let name: TargetName = "notes".parse().unwrap();
    assert!(records.targets().unwrap().is_empty() && records.target(&name).unwrap().is_none());
    records.succeeded(&name, Some("notes-1"), succeeded()).unwrap();
    for failures in 1..=3 {
        records.failed(&name, None, failed()).unwrap();
        let record = records.target(&name).unwrap().unwrap();
        assert_eq!((record.failures, record.is_good(), record.succeeded.is_some()), (failures, false, true));
    }
    records.succeeded(&name, None, succeeded()).unwrap();
    let record = records.target(&name).unwrap().unwrap();
    assert!(record.is_good() && record.failed.is_some(), "{record:?}");
    assert_eq!(records.targets().unwrap().len(), 1);
    assert!(records.forget(&name).unwrap() && !records.forget(&name).unwrap());
    assert!(records.targets().unwrap().is_empty());
}

#[test]
fn a_record_that_can_t_be_read_is_told_and_written_anew_by_the_next_backup() {
    let state = tempfile::tempdir().unwrap();
    let records = Records::below(state.path());
    let name: TargetName = "notes".parse().unwrap();
    records.succeeded(&name, None, succeeded()).unwrap();
    let path = state.path().join("targets/notes.json");
    for bad in [&b""[..], b"{", b"[]", b"{\"target\":\"../x\"}", b"\xff\xfe", &[b'['; 100_000]] {
        std::fs::write(&path, bad).unwrap();
        assert!(matches!(records.target(&name), Err(RecordError::Malformed { .. })), "{bad:?}");
        assert!(records.targets().unwrap()[0].is_err());
        records.failed(&name, None, failed()).unwrap();
        assert_eq!(records.target(&name).unwrap().unwrap().failures, 1);
    }
}

#[test]
fn a_run_is_written_at_each_of_its_steps_and_old_ones_go() {
    let state = tempfile::tempdir().unwrap();
    let records = Records::below(state.path());
    assert!(records.last_run().unwrap().is_none());
    let mut run = RunRecord::begin();
    for second in 0..130 {
        run.began = format!("2026-11-21T04:{:02}:{:02}Z", second / 60, second % 60);
        records.write_run(&run).unwrap();
    }
    run.targets.push(TargetOfRun { target: "a".to_owned(), kind: "done".to_owned(), error: None });
    run.ended = Some("2026-11-21T05:00:00Z".to_owned());
    records.write_run(&run).unwrap();
    assert_eq!(records.last_run().unwrap(), Some(run));
    assert_eq!(std::fs::read_dir(state.path().join("runs")).unwrap().count(), 100);
}
