//! Seeded random damage: never a panic or a hang, never a result that SQLite does not call whole, and nothing called
//! complete that differs from what was.

use std::time::{Duration, Instant};

use super::*;
use crate::database::sqlite::tests::random;

/// Of its image, in one place.
pub(super) fn damage(patient: &mut Patient) -> String {
    random::damage(&mut patient.bytes, patient.page_size, &mut patient.random, random::KINDS - 1)
}

#[test]
fn random_damage_never_gives_a_repair_that_is_called_complete_and_is_not() {
    campaign(40);
}

/// So many damages on each of three databases.
fn campaign(rounds: usize) {
    let (mut complete, mut partial, mut refused) = (0, 0, Vec::new());
    let mut wrong = Vec::new();
    for (seed, (form, size)) in
        [("", 1024), ("PRAGMA auto_vacuum=1;", 512), ("PRAGMA encoding='UTF-16le';", 4096)].into_iter().enumerate()
    {
        let mut patient = Patient::new(form, size);
        let original = patient.bytes.clone();
        patient.random = Random(seed as u64 + 1);
        for _ in 0..rounds {
            patient.bytes.clone_from(&original);
            let what = damage(&mut patient);
            std::fs::write(&patient.db, &patient.bytes).unwrap();
            let cancel = Cancel::new().unwrap();
            // What nobody can see is not repaired.
            match crate::database::sqlite::repair::check(&patient.db, &cancel, &Silent) {
                Ok(report) if report.is_damaged() => {}
                _ => continue,
            }
            let began = Instant::now();
            match patient.repair_as_it_lies(None) {
                Ok(repaired) => {
                    let account = &repaired.accounting;
                    let back = rows(&repaired.file);
                    if account.complete && back != patient.truth {
                        let tables: Vec<_> = patient
                            .truth
                            .iter()
                            .filter(|(t, rows)| back.get(*t) != Some(rows))
                            .map(|(t, _)| t)
                            .collect();
                        wrong.push(format!("{size} {what}: {tables:?} by {:?}", account.step));
                    }
                    let verdict = integrity(&repaired.file);
                    let told = account.losses();
                    // A full-text index that can't be built any more is told, and its rows are there.
                    let words = verdict.contains("words") && !account.full_text.is_empty();
                    assert!(verdict == "ok" || words, "{size} {what}: {verdict} {told:?}");
                    complete += usize::from(account.complete);
                    partial += usize::from(!account.complete);
                }
                Err(error) => refused.push(format!("{size} {what}: {error}")),
            }
            assert!(began.elapsed() < Duration::from_secs(30), "{what}: it took {:?}", began.elapsed());
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    // A file that was cut before its definitions has none.
    let without_reason: Vec<_> = refused.iter().filter(|why| !why.contains("no definition of any table")).collect();
    assert!(without_reason.len() * 50 <= complete + partial, "{complete} {partial} {without_reason:#?}");
    assert!(complete > rounds / 3 && partial > rounds / 3, "{complete} {partial}");
}
