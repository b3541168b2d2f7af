//! Sends canaries: the first letters of each class, before all others of it.

use std::collections::{BTreeSet, HashSet};

use tokio::time::Instant;

use crate::{
    Stopped,
    canary::{Canaries, Verdict},
    dead_letters::MAX_MESSAGES,
    fate::{Fate, Settled, Tally},
    receive::{End, Pass, Receiver},
    run::Run,
    settle::Planned,
};

/// Letters that are kept in hand while canaries are watched: enough to find the classes that there
/// are, few enough to hold them all.
const HAND_LETTERS: usize = 100;
const HAND_BYTES: usize = 8 * 1_048_576;

impl Run<'_> {
    /// Receives some letters, redrives a few of each class that has no verdict yet, watches what
    /// becomes of them, and then settles the others by what was seen. Returns why the run has to
    /// end, if it has to.
    ///
    /// A letter that the work queue refuses is no canary, and the next of its class is tried in its
    /// place. If it takes none of all that were received, the run ends.
    pub(crate) async fn scout(&self, canaries: &mut Canaries) -> (Tally, Option<End>) {
        let mut receiver = Receiver::new(self, Pass::Scout);
        let (hand, end) = receiver.fill_hand().await;
        let planned = receiver.plan(hand).await;
        let (to_archive, mut hand): (Vec<Planned>, Vec<Planned>) =
            planned.into_iter().partition(|(_, plan)| plan.messages.is_empty());
        receiver.carry_out(to_archive).await;

        let classes: BTreeSet<String> = hand
            .iter()
            .map(|(letter, _)| letter.class().to_owned())
            .filter(|class| canaries.verdicts.of(class) == Verdict::Open)
            .collect();
        let (mut any_taken, mut any_refused) = (false, false);
        loop {
            let (chosen, rest) = self.choose(hand, canaries);
            hand = rest;
            if chosen.is_empty() {
                break;
            }
            for fate in receiver.try_out(chosen, canaries).await {
                any_taken |= fate.0;
                any_refused |= fate.1;
            }
        }
        if canaries.any_under_way() {
            canaries.watch(&self.redriver.executions, self.now, self.stop_by).await;
        }
        let end = if any_refused && !any_taken {
            Some(End::Stopped(Stopped::Canary))
        } else if Instant::now() >= self.stop_by {
            Some(End::Stopped(Stopped::Deadline))
        } else {
            // The main pass finds out itself: more may be visible by then, and letters that are held
            // back do not count against the cap.
            end.filter(|end| !matches!(end, End::Stopped(Stopped::Empty | Stopped::MaxMessages)))
        };
        if matches!(end, Some(End::Stopped(Stopped::Canary | Stopped::Deadline))) {
            receiver.leave_untried(hand.into_iter().map(|(letter, _)| letter).collect()).await;
            return (receiver.tally, end);
        }
        for class in &classes {
            canaries.follow_without(class);
        }
        let sorted = self.hold_back(hand, &canaries.verdicts);
        self.allowance.give_back(sorted.held_back.len() as u64);
        receiver.record(sorted.held_back).await;
        receiver.carry_out(sorted.to_do).await;
        // There are none: each class in hand has its verdict.
        receiver.leave_untried(sorted.open).await;
        (receiver.tally, end)
    }

    /// Takes the letters out of the hand that are to be canaries now, at most ten. On a FIFO queue
    /// no letter is taken before one that is ahead of it in its group.
    fn choose(&self, hand: Vec<Planned>, canaries: &Canaries) -> (Vec<Planned>, Vec<Planned>) {
        let fifo = self.redriver.dead_letter_queue.is_fifo();
        let (mut chosen, mut rest): (Vec<Planned>, Vec<Planned>) = (Vec::new(), Vec::new());
        let mut waiting: HashSet<String> = HashSet::new();
        for (letter, plan) in hand {
            let class = canaries.verdicts.key(letter.class()).to_owned();
            let of_class =
                chosen.iter().filter(|(letter, _)| canaries.verdicts.key(letter.class()) == class);
            let is_wanted = canaries.verdicts.of(&class) == Verdict::Open
                && canaries.taken(&class) + of_class.count() < canaries.of_each_class
                && chosen.len() < usize::from(MAX_MESSAGES)
                && !letter.group_id.as_ref().is_some_and(|group| waiting.contains(group));
            if is_wanted {
                chosen.push((letter, plan));
            } else {
                if let (true, Some(group)) = (fifo, &letter.group_id) {
                    waiting.insert(group.clone());
                }
                rest.push((letter, plan));
            }
        }
        (chosen, rest)
    }
}

impl Receiver<'_> {
    async fn fill_hand(&mut self) -> (Vec<crate::DeadLetter>, Option<End>) {
        let mut hand = Vec::new();
        let mut bytes = 0;
        while hand.len() < HAND_LETTERS && bytes < HAND_BYTES {
            match self.next().await {
                Ok(letters) => {
                    bytes += letters.iter().map(|letter| letter.body.len()).sum::<usize>();
                    hand.extend(letters);
                }
                Err(end) => return (hand, Some(end)),
            }
        }
        (hand, None)
    }

    /// Redrives letters as canaries. For each, whether it was taken and whether it was refused.
    async fn try_out(
        &mut self,
        chosen: Vec<Planned>,
        canaries: &mut Canaries,
    ) -> Vec<(bool, bool)> {
        let settled = self.run.carry_out(chosen, &self.blocked).await;
        for settled in &settled {
            canaries.read(settled);
        }
        let fates = settled.iter().map(|Settled { fate, .. }| (fate.is_sent(), is_refusal(fate)));
        let fates = fates.collect();
        self.record(settled).await;
        fates
    }
}

fn is_refusal(fate: &Fate) -> bool {
    fate.refusal().is_some()
}
