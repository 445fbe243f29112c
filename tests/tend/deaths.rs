//! A pass that is killed anywhere: items are whole or gone, and each is summed up once.

use std::time::Duration;

use svckit_testbed::command::{ended, start};

use crate::bed::{Bed, QUICK};

pub(crate) fn killed_anywhere() {
    let bed = Bed::new();
    let rounds = if std::env::var_os("SVCKIT_THOROUGH").is_some() { 400 } else { 30 };
    let mut all = 0;
    let (mut killed, mut seed) = (0, 0x2545_F491_u64);
    // How long a pass takes that nobody kills, on this machine and now: they are killed within that.
    bed.notes(all, 200);
    all += 200;
    let whole = bed.run(&["once"]).expect(0).took;
    let whole = u64::try_from(whole.as_micros()).unwrap().max(1);
    for round in 0..rounds {
        bed.notes(all, 200);
        all += 200;
        let mut pass = start(bed.tend(&["once"]));
        // xorshift: another moment each time, from the start of the program to about its end.
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        if !ended(pass.pid(), Duration::from_micros(seed % whole)) {
            pass.kill();
            killed += 1;
        }
        pass.finish(QUICK);
        let halves = "words WHERE note NOT IN (SELECT id FROM notes)";
        assert_eq!(bed.count(halves), 0, "round {round}");
        let bare = "notes WHERE (SELECT count(*) FROM words WHERE note = id) <> 3";
        assert_eq!(bed.count(bare), 0, "round {round}");
    }
    bed.run(&["once"]).expect(0);
    assert_eq!((bed.count("notes"), bed.count("words")), (0, 0));
    assert_eq!(bed.usage("SELECT count(DISTINCT note) FROM gone"), all);
    assert_eq!(bed.usage("SELECT count(*) FROM gone"), all, "none was summed up twice");
    assert!(killed * 3 > rounds, "only {killed} of {rounds} were killed before their end");
}
