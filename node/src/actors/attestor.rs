//! The attestor: the shell round [`Attestation`]. Verified headers go to the signer, contradictions to the alarm.

use actix::{Actor, Context, Handler, Message};
use ledger::block::Header;
use ledger::{ClusterId, Digest};
use tokio::sync::mpsc;

use super::attestation::{Attestation, Findings, Verdict};
use super::routing::Expected;
use crate::alarm::Alarms;

/// A group's results for one entry.
pub(crate) type Report = Findings;

impl Message for Findings {
    type Result = ();
}

impl Message for Expected {
    type Result = ();
}

/// The ledger is contradicted by something that no group had to compute.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Contradiction {
    pub(crate) index: u64,
    pub(crate) message: String,
}

/// The memories begin anew behind this header.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Restart {
    pub(crate) head: Digest,
}

/// The actor.
pub(crate) struct Attestor {
    core: Attestation,
    /// To the signer. Not bounded: a header is small, and there is one for each block that the ledger keeps anyway.
    verified: mpsc::UnboundedSender<Header>,
    alarms: Alarms,
}

impl Attestor {
    pub(crate) fn new(cluster: ClusterId, verified: mpsc::UnboundedSender<Header>, alarms: Alarms) -> Self {
        Attestor {
            core: Attestation::new(cluster),
            verified,
            alarms,
        }
    }

    fn perform(&mut self, verdicts: impl IntoIterator<Item = Verdict>) {
        for verdict in verdicts {
            match verdict {
                // The signer ends only with the node.
                Verdict::Verified(header) => drop(self.verified.send(header)),
                Verdict::Contradicted { index, message } => self.alarms.raise(index, message),
            }
        }
    }
}

impl Actor for Attestor {
    type Context = Context<Self>;
}

impl Handler<Expected> for Attestor {
    type Result = ();

    fn handle(&mut self, expected: Expected, _ctx: &mut Self::Context) {
        let verdicts = self.core.expect(expected);
        self.perform(verdicts);
    }
}

impl Handler<Findings> for Attestor {
    type Result = ();

    fn handle(&mut self, findings: Findings, _ctx: &mut Self::Context) {
        let verdicts = self.core.report(findings);
        self.perform(verdicts);
    }
}

impl Handler<Contradiction> for Attestor {
    type Result = ();

    fn handle(&mut self, contradiction: Contradiction, _ctx: &mut Self::Context) {
        let verdict = self.core.contradict(contradiction.index, contradiction.message);
        self.perform(verdict);
    }
}

impl Handler<Restart> for Attestor {
    type Result = ();

    fn handle(&mut self, restart: Restart, _ctx: &mut Self::Context) {
        self.core.restart(restart.head);
    }
}
