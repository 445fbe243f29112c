//! Which backups of a target to keep: pure, so that a dry run prints exactly what would happen.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::name::BackupId;

/// How many to keep. A backup is kept when any one of the rules wants it. Days, weeks (ISO 8601), months and years are
/// those of UTC; of each, the newest backup counts, and only periods that have a backup are counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// The newest so many.
    pub keep_last: u32,
    /// The newest of each of so many days.
    pub daily: u32,
    /// The newest of each of so many weeks.
    pub weekly: u32,
    /// The newest of each of so many months.
    pub monthly: u32,
    /// The newest of each of so many years.
    pub yearly: u32,
}

impl Policy {
    /// Whether it has no rule at all. Such a policy removes nothing: nobody has said what to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What there is to know about a backup in order to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which one.
    pub id: BackupId,
    /// Its place in the order.
    pub sequence: u64,
    /// When it was made (RFC 3339).
    pub created: String,
    /// Whether it counts: its manifest is readable and says that its written bytes were verified.
    pub verified: bool,
}

/// Why a backup is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It is the newest that verifies: never removed, whatever the policy says.
    LastGood,
    /// One of the newest.
    Last,
    /// The newest of its day.
    Daily,
    /// The newest of its week.
    Weekly,
    /// The newest of its month.
    Monthly,
    /// The newest of its year.
    Yearly,
    /// It does not verify, or has no date: it counts for nothing, and what can't be judged is not removed.
    NotJudged,
    /// The policy is empty.
    NoPolicy,
    /// Somebody reads it: a restore, a verification. The next expiry removes it. A plan does not know.
    BeingRead,
}

/// One that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// Which one.
    pub backup: BackupId,
    /// Why; never empty.
    pub reasons: Vec<Reason>,
}

/// What a policy means for the backups there are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What stays, the newest last.
    pub keep: Vec<Kept>,
    /// What goes, the oldest first.
    pub remove: Vec<BackupId>,
}

/// A period's name; equal within one period.
type Period = fn(jiff::civil::Date) -> String;

/// Decides. The order is the sequence number's; the clock only tells which day a backup belongs to.
#[must_use]
pub fn select(entries: &[Entry], policy: &Policy) -> Plan {
    let mut sorted: Vec<(&Entry, Option<jiff::civil::Date>)> = entries.iter().map(|e| (e, day(e))).collect();
    sorted.sort_by(|(a, _), (b, _)| (a.sequence, &a.id).cmp(&(b.sequence, &b.id)));
    let mut reasons: Vec<BTreeSet<Reason>> = vec![BTreeSet::new(); sorted.len()];
    let judged: Vec<(usize, jiff::civil::Date)> =
        sorted.iter().enumerate().rev().filter_map(|(i, (_, day))| day.map(|day| (i, day))).collect();

    for (i, (_, day)) in sorted.iter().enumerate() {
        if day.is_none() {
            reasons[i].insert(Reason::NotJudged);
        }
        if policy.is_empty() {
            reasons[i].insert(Reason::NoPolicy);
        }
    }
    if let Some((newest, _)) = judged.first() {
        reasons[*newest].insert(Reason::LastGood);
    }
    for (i, _) in judged.iter().take(count(policy.keep_last)) {
        reasons[*i].insert(Reason::Last);
    }
    let rules: [(u32, Reason, Period); 4] = [
        (policy.daily, Reason::Daily, |d| d.to_string()),
        (policy.weekly, Reason::Weekly, |d| {
            let week = d.iso_week_date();
            format!("{}-{}", week.year(), week.week())
        }),
        (policy.monthly, Reason::Monthly, |d| format!("{}-{}", d.year(), d.month())),
        (policy.yearly, Reason::Yearly, |d| d.year().to_string()),
    ];
    for (wanted, reason, period) in rules {
        let mut seen = BTreeSet::new();
        for (i, day) in &judged {
            if seen.len() == count(wanted) {
                break;
            }
            if seen.insert(period(*day)) {
                reasons[*i].insert(reason);
            }
        }
    }

    let mut plan = Plan::default();
    for ((entry, _), reasons) in sorted.into_iter().zip(reasons) {
        if reasons.is_empty() {
            plan.remove.push(entry.id.clone());
        } else {
            plan.keep.push(Kept { backup: entry.id.clone(), reasons: reasons.into_iter().collect() });
        }
    }
    plan
}

fn count(wanted: u32) -> usize {
    usize::try_from(wanted).unwrap_or(usize::MAX)
}

/// The UTC day of one that counts.
fn day(entry: &Entry) -> Option<jiff::civil::Date> {
    let instant: jiff::Timestamp = entry.created.parse().ok().filter(|_| entry.verified)?;
    Some(instant.to_zoned(jiff::tz::TimeZone::UTC).date())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(sequence: u64, seconds: i64, verified: bool) -> Entry {
        let created = jiff::Timestamp::from_second(seconds).unwrap().to_string();
        Entry { id: format!("b{sequence}").parse().unwrap(), sequence, created, verified }
    }

    const DAY: i64 = 86_400;

    fn removed(plan: &Plan) -> Vec<&str> {
        plan.remove.iter().map(BackupId::as_str).collect()
    }

    #[test]
    fn each_rule_keeps_the_newest_of_its_periods() {
        // Two a day for ten days, from Thursday 1970-01-01 on.
        let entries: Vec<_> = (0..20).map(|n| entry(n, n as i64 * DAY / 2, true)).collect();
        let plan = select(&entries, &Policy { daily: 3, ..Policy::default() });
        let kept: Vec<_> = plan.keep.iter().map(|k| k.backup.as_str()).collect();
        assert_eq!(kept, ["b15", "b17", "b19"]);
        assert_eq!(plan.keep[2].reasons, [Reason::LastGood, Reason::Daily]);
        let plan = select(&entries, &Policy { weekly: 9, keep_last: 1, ..Policy::default() });
        let kept: Vec<_> = plan.keep.iter().map(|k| k.backup.as_str()).collect();
        assert_eq!(kept, ["b7", "b19"], "the first ISO week ends with Sunday, 1970-01-04");
    }

    #[test]
    fn what_does_not_verify_counts_for_nothing_and_stays() {
        let entries = [entry(1, 0, true), entry(2, DAY, true), entry(3, 2 * DAY, false), entry(4, 3 * DAY, false)];
        let plan = select(&entries, &Policy { keep_last: 1, ..Policy::default() });
        assert_eq!(removed(&plan), ["b1"]);
        assert_eq!(plan.keep[0].reasons, [Reason::LastGood, Reason::Last]);
        assert_eq!(plan.keep[1].reasons, [Reason::NotJudged]);
    }

    #[test]
    fn a_clock_that_went_back_does_not_make_the_newest_old() {
        let entries = [entry(1, 50 * DAY, true), entry(2, 40 * DAY, true)];
        assert_eq!(removed(&select(&entries, &Policy { keep_last: 1, ..Policy::default() })), ["b1"]);
    }

    #[test]
    fn an_empty_policy_removes_nothing() {
        let entries = [entry(1, 0, true), entry(2, DAY, true)];
        assert_eq!(removed(&select(&entries, &Policy::default())), Vec::<&str>::new());
        assert_eq!(select(&[], &Policy { keep_last: 3, ..Policy::default() }), Plan::default());
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let one = (0i64..800 * DAY, prop::bool::weighted(0.8));
        prop::collection::vec(one, 0..40)
            .prop_map(|v| v.into_iter().enumerate().map(|(n, (at, ok))| entry(n as u64, at, ok)).collect())
    }

    fn policy() -> impl Strategy<Value = Policy> {
        let rule = 0u32..6;
        (rule.clone(), rule.clone(), rule.clone(), rule.clone(), rule).prop_map(
            |(keep_last, daily, weekly, monthly, yearly)| Policy { keep_last, daily, weekly, monthly, yearly },
        )
    }

    proptest! {
        #[test]
        fn the_newest_good_one_and_the_unjudged_always_stay(entries in entries(), policy in policy()) {
            let plan = select(&entries, &policy);
            prop_assert_eq!(plan.keep.len() + plan.remove.len(), entries.len());
            for entry in entries.iter().filter(|e| !e.verified) {
                prop_assert!(!plan.remove.contains(&entry.id));
            }
            if let Some(newest) = entries.iter().filter(|e| e.verified).max_by_key(|e| e.sequence) {
                prop_assert!(!plan.remove.contains(&newest.id));
            }
            let good = entries.iter().filter(|e| e.verified).count();
            let kept_good = good - plan.remove.len();
            prop_assert!(kept_good >= good.min((policy.keep_last as usize).max(1)));
            prop_assert!(plan.keep.iter().all(|k| !k.reasons.is_empty()));
        }

        #[test]
        fn a_second_run_removes_nothing_more(entries in entries(), policy in policy()) {
            let plan = select(&entries, &policy);
            let left: Vec<Entry> = entries.into_iter().filter(|e| !plan.remove.contains(&e.id)).collect();
            let again = select(&left, &policy);
            prop_assert_eq!(again.remove, Vec::<BackupId>::new());
            prop_assert_eq!(again.keep, plan.keep);
        }

        #[test]
        fn a_wider_policy_never_removes_more(entries in entries(), policy in policy(), wider in policy()) {
            prop_assume!(!policy.is_empty());
            let wider = Policy {
                keep_last: policy.keep_last.max(wider.keep_last),
                daily: policy.daily.max(wider.daily),
                weekly: policy.weekly.max(wider.weekly),
                monthly: policy.monthly.max(wider.monthly),
                yearly: policy.yearly.max(wider.yearly),
            };
            let narrow = select(&entries, &policy);
            for id in select(&entries, &wider).remove {
                prop_assert!(narrow.remove.contains(&id));
            }
        }

        #[test]
        fn the_order_of_the_list_does_not_matter(entries in entries(), policy in policy()) {
            let mut reversed = entries.clone();
            reversed.reverse();
            prop_assert_eq!(select(&entries, &policy), select(&reversed, &policy));
        }
    }
}
