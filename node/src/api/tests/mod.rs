//! The API in one process: the real router, a ledger of one node, no sockets.

mod errors;
mod lesson;
mod node;
mod packed;
mod retries;
mod shapes;
mod stream;
mod vectors;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use ed25519_dalek::{Signer, SigningKey};
use futures::future::BoxFuture;
use ledger::block::Attestation;
use ledger::{
    Action, Body as EntryBody, Entry, Envelope, Epoch, Genesis, Ledger, NodeId, Nonce, PublicKey, Signature,
    Timestamp,
};
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tower::ServiceExt;

use super::backend::{Backend, NodeStatus, Receipt, Unanswered};
use crate::archive::ArchiveStatus;
use crate::config::Cluster;
use crate::order::{self, Done, NotDone, Order, Task};

const NODE: NodeId = 1;
const EPOCH_MS: u64 = 900_000;
/// When the test's ledger begins.
const BEGUN: u64 = 1_700_000_000_000;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

/// A node that is alone: what is submitted is applied at once, and signed if the node signs.
struct Solo {
    ledger: Arc<RwLock<Ledger>>,
    state: Mutex<State>,
}

struct State {
    index: u64,
    nonces: u64,
    /// Whether it signs blocks.
    signs: bool,
    /// What the next requests get instead of an answer.
    faults: VecDeque<Unanswered>,
    status: NodeStatus,
    barriers: usize,
    /// Orders that were given.
    obeyed: BTreeSet<ledger::Digest>,
}

impl Solo {
    fn new() -> Arc<Self> {
        let genesis = Genesis {
            salt: [1; 32],
            created: Timestamp::new(BEGUN).expect("in range"),
            epoch_ms: EPOCH_MS,
            nodes: vec![(NODE, public(&key(1)))],
            admins: vec![public(&key(2))],
            gateways: vec![public(&key(3))],
            development: true,
        };
        let status = NodeStatus {
            node: NODE,
            leader: Some(NODE),
            term: 1,
            ready_at: Some(1),
            voters: vec![NODE],
            ..NodeStatus::default()
        };
        let state = State {
            index: 0,
            nonces: 0,
            signs: true,
            faults: VecDeque::new(),
            status,
            barriers: 0,
            obeyed: BTreeSet::new(),
        };
        let solo = Solo {
            ledger: Arc::new(RwLock::new(Ledger::new())),
            state: Mutex::new(state),
        };
        solo.apply(EntryBody::Genesis { genesis });
        Arc::new(solo)
    }

    fn apply(&self, body: EntryBody) -> ledger::Applied {
        let mut state = self.state.lock();
        state.index += 1;
        let at = Timestamp::new(BEGUN + state.index * 1000).expect("in range");
        let applied = self.ledger.write().apply(state.index, &Entry { at, body });
        state.status.applied = state.index;
        state.status.committed = state.index;
        if let Some(header) = applied.block.as_ref().filter(|_| state.signs) {
            let signature = Signature(
                key(1)
                    .sign(header.signing_input(&public(&key(1))).as_bytes())
                    .to_bytes(),
            );
            let attestation = Attestation {
                node: NODE,
                index: header.index,
                header: header.digest(),
                signature,
            };
            drop(state);
            self.apply(EntryBody::Attestations {
                attestations: vec![attestation],
            });
        }
        applied
    }

    /// An envelope as a client signs it.
    fn envelope(&self, signer: &SigningKey, nonce: Nonce, action: Action) -> Envelope {
        let ledger = self.ledger.read();
        crate::gateway::sign_envelope(signer, ledger.cluster(), nonce, ledger.now().plus(60_000), action)
    }

    /// An order to this node as an admin signs it.
    fn signed_order(&self, task: Task, by: &SigningKey) -> String {
        let ledger = self.ledger.read();
        let order = Order {
            cluster: ledger.cluster(),
            node: NODE,
            order: task,
            not_after: ledger.now().plus(order::LIFETIME_MS),
            nonce: "once".into(),
        };
        order::issue(&order, &public(by), |message| {
            Signature(by.sign(message).to_bytes())
        })
    }

    fn order(&self, envelope: Envelope) -> Result<Receipt, Unanswered> {
        if let Some(fault) = self.state.lock().faults.pop_front() {
            return Err(fault);
        }
        let applied = self.apply(EntryBody::Envelopes {
            envelopes: vec![envelope],
        });
        let answer = applied
            .answers
            .into_iter()
            .next()
            .expect("one envelope, one answer");
        Ok(Receipt {
            index: applied.index,
            position: 0,
            outcome: answer.outcome,
            duplicate: answer.duplicate,
            now: applied.now,
        })
    }
}

impl Backend for Solo {
    fn readable(&self, _epoch: Epoch) -> BoxFuture<'_, Result<(), Unanswered>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn archive(&self) -> ArchiveStatus {
        ArchiveStatus::default()
    }

    fn submit(&self, action: Action, nonce: Option<Nonce>) -> BoxFuture<'_, Result<Receipt, Unanswered>> {
        let nonce = nonce.unwrap_or_else(|| self.nonce());
        let envelope = self.envelope(&key(3), nonce, action);
        Box::pin(async move { self.order(envelope) })
    }

    fn submit_envelope(&self, envelope: Envelope) -> BoxFuture<'_, Result<Receipt, Unanswered>> {
        Box::pin(async move { self.order(envelope) })
    }

    fn barrier(&self) -> BoxFuture<'_, Result<(), Unanswered>> {
        let mut state = self.state.lock();
        state.barriers += 1;
        let fault = state.faults.pop_front();
        Box::pin(async move { fault.map_or(Ok(()), Err) })
    }

    fn ledger(&self) -> &Arc<RwLock<Ledger>> {
        &self.ledger
    }

    fn status(&self) -> NodeStatus {
        self.state.lock().status.clone()
    }

    fn signed(&self, _: u64) -> BoxFuture<'_, bool> {
        let signs = self.state.lock().signs;
        Box::pin(async move { signs })
    }

    fn obey(&self, order: Order) -> BoxFuture<'_, Result<Done, NotDone>> {
        let mut state = self.state.lock();
        let new = state.obeyed.insert(order.digest());
        let leads = state.status.leader == Some(state.status.node);
        Box::pin(async move {
            match order.order {
                _ if !new => Err(NotDone::Repeated),
                Task::Transfer { .. } if !leads => Err(NotDone::NotLeader { leader: None }),
                Task::Transfer { to } => Ok(Done::Leads(to)),
                Task::Snapshot {} => Ok(Done::Snapshot(Some(7))),
            }
        })
    }

    fn node_key(&self) -> PublicKey {
        public(&key(1))
    }

    fn sign(&self, message: &[u8]) -> Signature {
        Signature(key(1).sign(message).to_bytes())
    }

    fn nonce(&self) -> Nonce {
        let mut state = self.state.lock();
        state.nonces += 1;
        u128::from(state.nonces).to_be_bytes()
    }
}

/// A client of one node.
struct Client {
    solo: Arc<Solo>,
    router: Router,
}

struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Client {
    fn new() -> Self {
        let mut cluster = Cluster::shipped();
        cluster.limits.body_bytes = 64 << 10;
        cluster.limits.batch = 100;
        let solo = Solo::new();
        Client {
            router: super::router(Arc::clone(&solo), &cluster),
            solo,
        }
    }

    fn send(&self, request: Request<Body>) -> Got {
        let answer = self.router.clone().oneshot(request);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        runtime.expect("a runtime").block_on(async {
            let response = tokio::time::timeout(Duration::from_secs(60), answer)
                .await
                .expect("an answer")
                .expect("infallible");
            let (parts, body) = response.into_parts();
            let bytes = to_bytes(body, usize::MAX).await.expect("a body");
            let body = serde_json::from_slice(&bytes)
                .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
            Got {
                status: parts.status,
                headers: parts.headers,
                body,
            }
        })
    }

    fn raw(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Got {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).expect("a request"))
    }

    fn get(&self, path: &str) -> Got {
        self.raw("GET", path, &[], "")
    }

    /// `POST`, as a client posts JSON.
    fn post(&self, action: &str, body: &Value) -> Got {
        let path = format!("/api/{}", action.replacen('.', "/", 1));
        self.raw(
            "POST",
            &path,
            &[("content-type", "application/json")],
            body.to_string(),
        )
    }

    /// `POST` that must succeed.
    fn done(&self, action: &str, body: Value) -> Value {
        let got = self.post(action, &body);
        assert_eq!(got.status, StatusCode::OK, "{action} {body}: {}", got.body);
        got.body
    }
}
