//! Membership: what the ledger says the group should be, and the leader's steps towards it.
//!
//! Admins say in the log who the members and the voters are; whoever leads takes Raft there, one step at a time,
//! and a new leader goes on where the old one stopped. So a change needs no second door, survives any crash,
//! and stands in the log with the key that asked for it.

use std::collections::BTreeSet;
use std::time::Duration;

use ledger::NodeId;
use ledger::voters::Members;
use raft::{PeerAddr, Role, Status};

use crate::gateway::{Backend as _, Gateway};

/// How often a leader compares.
const EVERY: Duration = Duration::from_millis(250);
/// Entries that a node may lack when it is given its vote.
const LAG: u64 = 1_000;

/// One step of Raft's membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Begin to replicate to a node without a vote.
    AddLearner(NodeId, PeerAddr),
    /// Make exactly these the voters.
    ChangeVoters(BTreeSet<NodeId>),
    /// Stop replicating to a node.
    Remove(NodeId),
}

/// The next step from where Raft stands to what is wanted; `None` if it stands there.
pub(crate) fn next(wanted: &Members, status: &Status) -> Option<Step> {
    // A leader that is no member any more only waits until its removal is committed. openraft 0.10.0-alpha.37 would take
    // another change from it, and fails an assertion of its own over that.
    if !status.addrs.contains_key(&status.id) {
        return None;
    }
    let learner = wanted
        .joined
        .iter()
        .find(|(node, _)| !status.addrs.contains_key(node))
        .map(|(node, peer)| Step::AddLearner(*node, PeerAddr(peer.clone())));
    if learner.is_some() {
        return learner;
    }
    // A node that votes before it has the log would make the others wait for it.
    let fit: BTreeSet<NodeId> = wanted
        .voters
        .iter()
        .copied()
        .filter(|node| fit(*node, status))
        .collect();
    if !fit.is_empty() && status.voters != [fit.clone()] {
        return Some(Step::ChangeVoters(fit));
    }
    // Itself last: behind its own removal it changes nothing.
    wanted
        .removed
        .iter()
        .filter(|node| status.addrs.contains_key(node))
        .min_by_key(|node| **node == status.id)
        .map(|node| Step::Remove(*node))
}

/// Whether a member votes already, or has nearly all of the log.
fn fit(node: NodeId, status: &Status) -> bool {
    let has = |index: Option<u64>| index.map_or(0, |index| index + 1);
    let votes = status.voters.iter().any(|config| config.contains(&node));
    let matched = status.matched.get(&node).copied().flatten();
    status.addrs.contains_key(&node) && (votes || has(matched) + LAG >= has(status.committed))
}

/// Takes the group where the ledger wants it, whenever this node leads. Ends with the node.
pub(crate) async fn run(gateway: Gateway) {
    let replica = gateway.replica().clone();
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let status = replica.status();
        match status.role {
            Role::Stopped => return,
            Role::Leader => {}
            _ => continue,
        }
        // Before the genesis is applied nothing is wanted.
        let Some(step) = next(gateway.ledger().read().members(), &status) else {
            continue;
        };
        tracing::info!(?step, "changing the membership");
        let done = match step.clone() {
            Step::AddLearner(node, peer) => replica.add_learner(node, peer).await,
            Step::ChangeVoters(voters) => replica.change_voters(voters).await,
            Step::Remove(node) => replica.remove(node).await,
        };
        if let Err(error) = done {
            // Looked at again at the next tick, by whoever leads then.
            tracing::warn!(?step, %error, "the membership is not changed yet");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(nodes: &[NodeId]) -> BTreeSet<NodeId> {
        nodes.iter().copied().collect()
    }

    fn status(members: &[NodeId], voters: &[&[NodeId]]) -> Status {
        Status {
            id: members[0],
            addrs: members
                .iter()
                .map(|node| (*node, PeerAddr(format!("n{node}"))))
                .collect(),
            voters: voters.iter().map(|config| set(config)).collect(),
            ..Status::default()
        }
    }

    #[test]
    fn a_node_joins_is_promoted_and_removed_step_by_step() {
        let mut wanted = Members {
            voters: set(&[1, 2, 3]),
            ..Members::default()
        };
        let began = status(&[1, 2, 3], &[&[1, 2, 3]]);
        assert_eq!(next(&wanted, &began), None);

        wanted.joined.insert(4, "n4".to_owned());
        assert_eq!(
            next(&wanted, &began),
            Some(Step::AddLearner(4, PeerAddr("n4".to_owned())))
        );
        let mut learns = status(&[1, 2, 3, 4], &[&[1, 2, 3]]);
        assert_eq!(next(&wanted, &learns), None);

        wanted.voters = set(&[1, 2, 3, 4]);
        learns.committed = Some(5_000);
        assert_eq!(next(&wanted, &learns), None, "it has nothing of the log yet");
        learns.matched.insert(4, Some(4_500));
        assert_eq!(
            next(&wanted, &learns),
            Some(Step::ChangeVoters(set(&[1, 2, 3, 4])))
        );
        // A leader that finds a joint configuration finishes the change.
        let joint = status(&[1, 2, 3, 4], &[&[1, 2, 3], &[1, 2, 3, 4]]);
        assert_eq!(
            next(&wanted, &joint),
            Some(Step::ChangeVoters(set(&[1, 2, 3, 4])))
        );

        wanted.voters = set(&[2, 3, 4]);
        wanted.removed.insert(1);
        let votes = status(&[1, 2, 3, 4], &[&[1, 2, 3, 4]]);
        assert_eq!(next(&wanted, &votes), Some(Step::ChangeVoters(set(&[2, 3, 4]))));
        let retired = status(&[1, 2, 3, 4], &[&[2, 3, 4]]);
        assert_eq!(next(&wanted, &retired), Some(Step::Remove(1)));
        assert_eq!(next(&wanted, &status(&[2, 3, 4], &[&[2, 3, 4]])), None);
    }

    #[test]
    fn a_leader_removes_itself_last_and_does_nothing_behind_that() {
        let wanted = Members {
            voters: set(&[2, 3]),
            removed: set(&[1, 4]),
            ..Members::default()
        };
        let leads = status(&[1, 2, 3, 4], &[&[2, 3]]);
        assert_eq!(next(&wanted, &leads), Some(Step::Remove(4)));
        assert_eq!(
            next(&wanted, &status(&[1, 2, 3], &[&[2, 3]])),
            Some(Step::Remove(1))
        );
        let gone = Status {
            id: 1,
            ..status(&[2, 3, 4], &[&[2, 3]])
        };
        assert_eq!(next(&wanted, &gone), None);
    }
}
