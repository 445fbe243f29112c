//! Whose turn it is: pure, so that every order can be tried.

use std::time::Instant;

/// One target of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunItem {
    /// Its name.
    pub name: String,
    /// A larger one is taken earlier.
    pub priority: i32,
    /// Those of the run that must have succeeded before. Others are not waited for: nobody asked for them.
    pub after: Vec<String>,
    /// Of those that share it only one is worked on at a time: targets of one service would find it locked by each other.
    pub service: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    /// Until when it rests after a failure that may pass.
    Resting(Instant),
    Running,
    Succeeded,
    Failed,
}

/// The targets of a run and where each of them is.
pub(super) struct Queue {
    items: Vec<(RunItem, State)>,
}

impl Queue {
    pub(super) fn new(items: Vec<RunItem>) -> Self {
        Self { items: items.into_iter().map(|item| (item, State::Waiting)).collect() }
    }

    pub(super) fn item(&self, index: usize) -> &RunItem {
        &self.items[index].0
    }

    /// The one whose turn it is, which runs from now on; of equals the one that was named first.
    pub(super) fn next(&mut self, now: Instant) -> Option<usize> {
        let is_ready = |(item, state): &(RunItem, State)| match state {
            State::Waiting => self.is_free(item) && !self.is_taken(item),
            State::Resting(until) => *until <= now && !self.is_taken(item),
            _ => false,
        };
        let ready = self.items.iter().enumerate().filter(|(_, entry)| is_ready(entry));
        let (index, _) = ready.max_by_key(|(index, (item, _))| (item.priority, std::cmp::Reverse(*index)))?;
        self.items[index].1 = State::Running;
        Some(index)
    }

    fn is_free(&self, item: &RunItem) -> bool {
        item.after.iter().all(|name| self.of(name).all(|(_, state)| *state == State::Succeeded))
    }

    /// Whether another of its service runs.
    fn is_taken(&self, item: &RunItem) -> bool {
        let runs = |(other, state): &(RunItem, State)| *state == State::Running && other.service == item.service;
        item.service.is_some() && self.items.iter().any(runs)
    }

    fn of(&self, name: &str) -> impl Iterator<Item = &(RunItem, State)> {
        self.items.iter().filter(move |(item, _)| item.name == name)
    }

    /// It failed in a way that may pass, and is tried again at `until`.
    pub(super) fn rest(&mut self, index: usize, until: Instant) {
        self.items[index].1 = State::Resting(until);
    }

    pub(super) fn end(&mut self, index: usize, succeeded: bool) {
        self.items[index].1 = if succeeded { State::Succeeded } else { State::Failed };
    }

    /// When the next rest is over.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        let rests = self.items.iter().filter_map(|(_, state)| match state {
            State::Resting(until) => Some(*until),
            _ => None,
        });
        rests.min()
    }

    /// Takes out those that wait for one that failed, with its name.
    pub(super) fn give_up(&mut self) -> Vec<(usize, String)> {
        let mut given_up = Vec::new();
        loop {
            let failed = |name: &&String| self.of(name).any(|(_, state)| *state == State::Failed);
            let waits_in_vain = |(index, (item, state)): (usize, &(RunItem, State))| match state {
                State::Waiting => item.after.iter().find(failed).map(|name| (index, name.clone())),
                _ => None,
            };
            let Some((index, name)) = self.items.iter().enumerate().find_map(waits_in_vain) else { return given_up };
            // Whoever waits for this one waits in vain too: the next round finds it.
            self.items[index].1 = State::Failed;
            given_up.push((index, name));
        }
    }

    /// Takes out everything that has not begun, or rests: after a cancellation, or where nothing runs and nothing can,
    /// because they wait for each other in a circle.
    pub(super) fn take_out_the_rest(&mut self) -> Vec<usize> {
        let left = self.items.iter_mut().enumerate();
        let left = left.filter(|(_, (_, state))| matches!(state, State::Waiting | State::Resting(_)));
        left.map(|(index, (_, state))| {
            *state = State::Failed;
            index
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn item(name: &str, priority: i32, after: &[&str]) -> RunItem {
        RunItem {
            name: name.to_owned(),
            priority,
            after: after.iter().map(|name| (*name).to_owned()).collect(),
            service: None,
        }
    }

    /// The order in which all run, one after another, where those named fail.
    fn order(queue: &mut Queue, failing: &[&str]) -> Vec<String> {
        let mut order = Vec::new();
        let now = Instant::now();
        loop {
            for (index, because) in queue.give_up() {
                order.push(format!("{}-{because}", queue.item(index).name));
            }
            let Some(index) = queue.next(now) else { return order };
            let name = queue.item(index).name.clone();
            queue.end(index, !failing.contains(&name.as_str()));
            order.push(name);
        }
    }

    #[test]
    fn the_larger_priority_first_then_the_one_that_was_named_first_and_nobody_before_those_it_waits_for() {
        let items = || vec![item("a", 0, &["d"]), item("b", 5, &["absent"]), item("c", 0, &[]), item("d", -9, &[])];
        assert_eq!(order(&mut Queue::new(items()), &[]), ["b", "c", "d", "a"]);
        assert_eq!(order(&mut Queue::new(items()), &["d"]), ["b", "c", "d", "a-d"]);
    }

    #[test]
    fn whoever_waits_for_one_that_was_given_up_is_given_up_too_and_a_circle_is_found() {
        let items = vec![
            item("a", 0, &[]),
            item("b", 0, &["a"]),
            item("c", 0, &["b"]),
            item("x", 0, &["y"]),
            item("y", 0, &["x"]),
        ];
        let mut queue = Queue::new(items);
        assert_eq!(order(&mut queue, &["a"]), ["a", "b-a", "c-b"]);
        assert_eq!(queue.take_out_the_rest(), [3, 4]);
        assert_eq!(queue.take_out_the_rest(), [0usize; 0]);
    }

    #[test]
    fn two_of_one_service_are_never_worked_on_at_once() {
        let of = |name: &str, service: &str| RunItem { service: Some(service.to_owned()), ..item(name, 0, &[]) };
        let mut queue = Queue::new(vec![of("a", "one"), of("b", "one"), of("c", "two"), item("d", -1, &[])]);
        let now = Instant::now();
        assert_eq!(
            (queue.next(now), queue.next(now), queue.next(now), queue.next(now)),
            (Some(0), Some(2), Some(3), None)
        );
        queue.rest(0, now);
        assert_eq!((queue.next(now), queue.next(now)), (Some(0), None));
        queue.end(0, false);
        assert_eq!(queue.next(now), Some(1));
    }

    #[test]
    fn one_that_rests_lets_others_pass() {
        let mut queue = Queue::new(vec![item("a", 9, &[]), item("b", 0, &[])]);
        let now = Instant::now();
        let later = now + Duration::from_secs(5);
        assert_eq!(queue.next(now), Some(0));
        queue.rest(0, later);
        assert_eq!((queue.wakes_at(), queue.next(now)), (Some(later), Some(1)));
        queue.end(1, true);
        assert_eq!((queue.next(now), queue.next(later)), (None, Some(0)));
    }

    proptest! {
        #[test]
        fn everybody_ends_exactly_once_whoever_fails(
            waits in proptest::collection::vec((0..5i32, proptest::collection::vec(0..12usize, 0..4)), 1..12),
            failing in proptest::collection::btree_set(0..12usize, 0..4),
        ) {
            let name = |index: usize| format!("t{index}");
            let items = waits.iter().enumerate().map(|(index, (priority, after))| RunItem {
                name: name(index),
                priority: *priority,
                after: after.iter().map(|index| name(*index)).collect(),
                service: Some(format!("s{}", index % 3)),
            });
            let failing: Vec<String> = failing.into_iter().map(name).collect();
            let failing: Vec<&str> = failing.iter().map(String::as_str).collect();
            let mut queue = Queue::new(items.collect());
            let mut ended = order(&mut queue, &failing);
            ended.extend(queue.take_out_the_rest().into_iter().map(name));
            let different: BTreeSet<&str> = ended.iter().map(|name| name.split('-').next().unwrap()).collect();
            prop_assert_eq!((ended.len(), different.len()), (waits.len(), waits.len()));
        }
    }
}
