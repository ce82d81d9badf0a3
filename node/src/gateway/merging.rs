//! Small requests that wait at the same time travel as one envelope, under one signature.
//!
//! A signature costs 22–56 µs to check on every node, more than all else that a settlement costs: single
//! settlements are only fast if many share one. Whoever signs for himself is not touched by this. But for an
//! unsigned request the gateway signs, and it may sign several at once.
//!
//! ```text
//! request ─ queue ─┐
//! request ─ queue ─┼─ one Settle, one nonce ─ deliver ─ one outcome ─ each one's part of it
//! request ─ queue ─┘
//! ```
//!
//! What always holds: nobody's answer differs from what it would have been alone. What is merged books settlements
//! and nothing else, and none of them can be refused for what it says ([`merges`]), so no request's fate hangs on
//! another's; what remains (an alarm, an unknown outcome) would have met each. While there is no leader, only those
//! give up whose own patience has ended. A client's key stays the
//! name of one request: such are never merged. No timer holds a request up: while fewer than [`IN_FLIGHT`] envelopes are
//! under way a lone one leaves at once, else it gathers company.

use std::collections::VecDeque;

use ledger::{Action, Outcome, ROOT, Settlement};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Gateway, Receipt, Unanswered};

/// Merged envelopes under way at once: one is being synced while the next is being sent.
const IN_FLIGHT: usize = 2;
/// A request with more settlements is worth a signature of its own.
const SMALL: usize = 256;
/// Bytes of one merged envelope, about.
const ENVELOPE_BYTES: usize = 512 << 10;

/// Whether settlements may travel with others': none can be refused, and none asks for a seal.
pub(super) fn merges(settlements: &[Settlement]) -> bool {
    let harmless = |settlement: &Settlement| {
        settlement.autoseal.is_none() && settlement.meter != *ROOT && settlement.out_of_range().is_none()
    };
    (1..=SMALL).contains(&settlements.len()) && settlements.iter().all(harmless)
}

/// A request that waits for company.
struct Waiting {
    settlements: Vec<Settlement>,
    deadline: Instant,
    answer: oneshot::Sender<Result<Receipt, Unanswered>>,
}

/// What waits, and how many envelopes are under way.
#[derive(Default)]
pub(crate) struct Merging(Mutex<State>);

#[derive(Default)]
struct State {
    queue: VecDeque<Waiting>,
    in_flight: usize,
}

impl Merging {
    /// Queues a request; whether someone must be sent to carry the queue away.
    fn push(&self, waiting: Waiting) -> bool {
        let mut state = self.0.lock();
        state.queue.push_back(waiting);
        let more = state.in_flight < IN_FLIGHT;
        state.in_flight += usize::from(more);
        more
    }

    /// Puts requests back, in front: nothing has happened to them, and not all of them have waited long.
    fn put_back(&self, taken: Vec<Waiting>, settlements: Vec<Settlement>, counts: &[u32]) {
        let mut settlements = settlements.into_iter();
        let whole = taken.into_iter().zip(counts).map(|(waiting, count)| Waiting {
            settlements: settlements.by_ref().take(*count as usize).collect(),
            ..waiting
        });
        let whole: Vec<Waiting> = whole.collect();
        let mut state = self.0.lock();
        for waiting in whole.into_iter().rev() {
            state.queue.push_front(waiting);
        }
    }

    /// What fits into one envelope; with nothing left, who carried is done.
    fn take(&self) -> Option<Vec<Waiting>> {
        let mut state = self.0.lock();
        let mut taken = Vec::new();
        let mut bytes = 0;
        while bytes < ENVELOPE_BYTES
            && let Some(next) = state.queue.pop_front()
        {
            // Whoever has gone needs no answer, and without an effect none is missed.
            if !next.answer.is_closed() {
                bytes += next.settlements.iter().map(bytes_of).sum::<usize>();
                taken.push(next);
            }
        }
        if taken.is_empty() {
            state.in_flight -= 1;
            return None;
        }
        Some(taken)
    }
}

/// Of its canonical form.
fn bytes_of(settlement: &Settlement) -> usize {
    2 + settlement.meter.as_str().len() + 8 + 8 + 2 + settlement.label.as_str().len() + 8 + 1
}

impl Gateway {
    /// Orders settlements together with whatever else waits.
    pub(super) async fn merge(&self, settlements: Vec<Settlement>) -> Result<Receipt, Unanswered> {
        if self.inner.gateway_key.is_none() {
            return Err(Unanswered::UnsignedRefused);
        }
        let (_place, deadline) = self.begin()?;
        let (answer, outcome) = oneshot::channel();
        let waiting = Waiting {
            settlements,
            deadline,
            answer,
        };
        if self.inner.merging.push(waiting) {
            // A task of its own: whoever asked may go away, the others must not suffer from it. It looks into the
            // queue only when it runs, after all that arrived with this request.
            let gateway = self.clone();
            tokio::spawn(async move { gateway.carry().await });
        }
        outcome.await.unwrap_or(Err(Unanswered::Unknown))
    }

    /// Carries away what waits, envelope by envelope, until nothing does.
    async fn carry(&self) {
        while let Some(mut taken) = self.inner.merging.take() {
            let now = Instant::now();
            // Those who waited in vain learn that nothing happened.
            taken = taken
                .into_iter()
                .filter_map(|waiting| {
                    if waiting.deadline > now {
                        return Some(waiting);
                    }
                    let _ = waiting.answer.send(Err(Unanswered::NoLeader));
                    None
                })
                .collect();
            // The oldest has waited longest; without an effect by then, the others wait on.
            let Some(deadline) = taken.iter().map(|waiting| waiting.deadline).min() else {
                continue;
            };
            let counts: Vec<u32> = taken
                .iter()
                .map(|waiting| u32::try_from(waiting.settlements.len()).unwrap_or(u32::MAX))
                .collect();
            let kept = taken.len() - usize::from(planted!("merged-request-dropped") && taken.len() > 1);
            let settlements = taken
                .iter_mut()
                .take(kept)
                .flat_map(|waiting| std::mem::take(&mut waiting.settlements))
                .collect();
            let (action, outcome) = self
                .deliver_own(Action::Settle { settlements }, None, deadline)
                .await;
            if let (Err(Unanswered::NoLeader), Action::Settle { settlements }) = (&outcome, action) {
                self.inner.merging.put_back(taken, settlements, &counts);
                continue;
            }
            let mut offset = 0;
            for (waiting, count) in taken.into_iter().zip(counts) {
                let part = outcome.clone().map(|receipt| part(receipt, offset, count));
                // Whoever has gone needs no answer.
                let _ = waiting.answer.send(part);
                offset += if planted!("merged-answers-shifted") {
                    0
                } else {
                    count
                };
            }
        }
    }
}

/// One request's part of a merged envelope's outcome.
fn part(mut receipt: Receipt, offset: u32, settled: u32) -> Receipt {
    if let Outcome::Settled { first, count, .. } = &mut receipt.outcome {
        *first += offset;
        *count = settled;
    }
    receipt
}

#[cfg(test)]
mod tests {
    use ledger::{AssetId, Epoch, GramsCo2, Label, Timestamp, Wh};

    use super::*;

    fn settlement(meter: &str) -> Settlement {
        Settlement {
            meter: AssetId::try_from(meter).expect("a name"),
            epoch: Epoch::new(7).expect("an epoch"),
            consumption: Wh::new(5).expect("small"),
            label: Label::try_from("l").expect("a label"),
            co2eq: GramsCo2::ZERO,
            autoseal: None,
        }
    }

    #[test]
    fn only_what_cannot_be_refused_travels_with_others() {
        assert!(merges(&[settlement("a"), settlement("b")]));

        assert!(!merges(&[]));
        assert!(!merges(&vec![settlement("a"); SMALL + 1]));
        let beyond = (1i64 << 40) + 1;
        for spoilt in [
            Settlement {
                autoseal: Some(1),
                ..settlement("b")
            },
            Settlement {
                meter: ROOT.clone(),
                ..settlement("b")
            },
            Settlement {
                consumption: Wh::new(beyond).expect("a Wh, if no settlement"),
                ..settlement("b")
            },
            Settlement {
                co2eq: GramsCo2::new(-beyond).expect("grams, if no settlement"),
                ..settlement("b")
            },
        ] {
            assert!(!merges(&[settlement("a"), spoilt.clone()]), "{spoilt:?}");
        }
    }

    #[test]
    fn each_gets_its_own_part() {
        let receipt = Receipt {
            index: 9,
            position: 2,
            outcome: Outcome::Settled {
                index: 9,
                first: 40,
                count: 12,
                autoseals: Vec::new(),
            },
            duplicate: false,
            now: Timestamp::ZERO,
        };
        let Outcome::Settled { first, count, .. } = part(receipt, 5, 3).outcome else {
            panic!("an outcome changed its kind");
        };
        assert_eq!((first, count), (45, 3));
    }

    fn waiting(settlements: usize) -> (Waiting, oneshot::Receiver<Result<Receipt, Unanswered>>) {
        let (answer, outcome) = oneshot::channel();
        let waiting = Waiting {
            settlements: vec![settlement("a"); settlements],
            deadline: Instant::now(),
            answer,
        };
        (waiting, outcome)
    }

    #[test]
    fn a_queue_is_carried_in_envelopes_of_bounded_size_by_a_bounded_number() {
        let merging = Merging::default();
        let bearers = (0..100)
            .filter(|_| {
                let (waiting, outcome) = waiting(SMALL);
                std::mem::forget(outcome);
                merging.push(waiting)
            })
            .count();
        assert_eq!(bearers, IN_FLIGHT);
        let mut carried = 0;
        let limit = ENVELOPE_BYTES + SMALL * bytes_of(&settlement("a"));
        while let Some(taken) = merging.take() {
            let settlements: usize = taken.iter().map(|waiting| waiting.settlements.len()).sum();
            assert!(settlements * bytes_of(&settlement("a")) <= limit);
            carried += taken.len();
        }
        assert_eq!(carried, 100);
        assert!(merging.take().is_none(), "the second finds nothing to carry");
        assert!(
            merging.push(waiting(1).0),
            "all have gone home: the next sends for one"
        );
    }

    #[test]
    fn what_is_put_back_is_taken_again_as_it_was() {
        let merging = Merging::default();
        let mut answers = Vec::new();
        for (n, meter) in [(2, "a"), (1, "b"), (3, "c")] {
            let (mut waiting, answer) = waiting(n);
            waiting.settlements = vec![settlement(meter); n];
            merging.push(waiting);
            answers.push(answer);
        }
        let mut taken = merging.take().expect("three wait");
        let (late, answer) = waiting(1);
        merging.push(late);
        answers.push(answer);
        let settlements = taken
            .iter_mut()
            .flat_map(|w| std::mem::take(&mut w.settlements))
            .collect();
        merging.put_back(taken, settlements, &[2, 1, 3]);
        let again = merging.take().expect("all four wait");
        let meters: Vec<Vec<&str>> = again
            .iter()
            .map(|w| w.settlements.iter().map(|s| s.meter.as_str()).collect())
            .collect();
        assert_eq!(
            meters,
            [vec!["a", "a"], vec!["b"], vec!["c", "c", "c"], vec!["a"]]
        );
    }

    #[test]
    fn whoever_has_gone_is_not_carried() {
        let merging = Merging::default();
        let (gone, outcome) = waiting(1);
        drop(outcome);
        merging.push(gone);
        let (stays, outcome) = waiting(2);
        merging.push(stays);
        let taken = merging.take().expect("one stays");
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].settlements.len(), 2);
        drop(outcome);
    }
}
