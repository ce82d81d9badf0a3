//! The product's ledger as the checkers see it: what it did, said in their words.

use std::collections::BTreeSet;

use bytes::Bytes;
use checkers::oracle::digest::Hash;
use checkers::oracle::entry::{Key, Nonce};
use checkers::oracle::model;
use checkers::subject::{Applied, Subject, Told};
use ledger::certificate::{self, Proof};
use ledger::{EnvelopeRef, Event, Ledger, Outcome, PublicKey, Refusal, Statement};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The ledger that every node runs.
pub(crate) struct Product(pub(crate) Ledger);

impl Subject for Product {
    fn new() -> Self {
        Product(Ledger::new())
    }

    fn restore(snapshot: &[u8]) -> Result<Self, String> {
        Ledger::restore(snapshot)
            .map(Product)
            .map_err(|error| error.to_string())
    }

    /// Thaws whatever lies in files, so that nothing is out of sight.
    fn restore_with(snapshot: &[u8], file: &dyn Fn(&str) -> Option<Bytes>) -> Result<Self, String> {
        let Product(mut ledger) = Product::restore(snapshot)?;
        let frozen: Vec<_> = ledger
            .frozen()
            .map(|(epoch, files)| (epoch, files.to_vec()))
            .collect();
        for (epoch, files) in frozen {
            let mut contents = Vec::new();
            for of in &files {
                let content = file(&of.name).ok_or_else(|| format!("archive/{} is not durable", of.name))?;
                if Sha256::digest(&content)[..] != of.digest.0 {
                    return Err(format!("archive/{} is not what the snapshot refers to", of.name));
                }
                contents.push(content);
            }
            let frozen = gridseal::archive::decode(epoch, ledger.bounds(), &contents);
            ledger.thaw(&frozen.map_err(|error| format!("epoch {epoch}: {error}"))?);
        }
        Ok(Product(ledger))
    }

    fn apply_blank(&mut self, index: u64) {
        self.0.apply_blank(index);
    }

    fn apply_membership(&mut self, index: u64, configs: &[BTreeSet<u64>]) {
        self.0.apply_membership(index, configs.to_vec());
    }

    fn apply(&mut self, index: u64, bytes: &[u8]) -> Applied {
        let applied = self.0.apply_raw(index, bytes);
        told(&self.0, &applied)
    }

    fn state(&self) -> Hash {
        self.0.state().0
    }

    fn snapshot(&self) -> Vec<u8> {
        self.0.snapshot()
    }

    fn remembers_like(&self, other: &Self, signer: &Key, nonce: &Nonce) -> Result<(), String> {
        let id = EnvelopeRef {
            signer: PublicKey(*signer),
            nonce: *nonce,
        };
        let (own, others) = (self.0.remembered(&id), other.0.remembered(&id));
        if own.is_some() && own == others {
            return Ok(());
        }
        Err(format!("{own:?}, the other {others:?}"))
    }

    fn difference(&self, other: &Self) -> Option<String> {
        let (own, other) = (&self.0, &other.0);
        if (own.applied(), own.now(), own.state()) != (other.applied(), other.now(), other.state()) {
            return Some(format!(
                "its state is {} at {:?}, the other's {} at {:?}",
                own.state(),
                own.applied(),
                other.state(),
                other.applied()
            ));
        }
        if !own.assets().eq(other.assets()) {
            return Some("it has other assets".to_owned());
        }
        if own.voters() != other.voters() || !own.blocks(0, usize::MAX).eq(other.blocks(0, usize::MAX)) {
            return Some("it has other blocks or voters".to_owned());
        }
        if own.node_keys() != other.node_keys() || own.revoked_keys() != other.revoked_keys() {
            return Some("it knows other keys of nodes".to_owned());
        }
        if own.members() != other.members() {
            return Some(format!(
                "its members are {:?}, the other's {:?}",
                own.members(),
                other.members()
            ));
        }
        if (own.certified(), own.genesis()) != (other.certified(), other.genesis()) {
            return Some("another block is its newest certified one, or it began otherwise".to_owned());
        }
        for asset in other.assets() {
            for contract in other.merit_order(&asset.id) {
                if own.contract(&contract.terms.id) != Some(contract) {
                    return Some(format!("contract {} differs", contract.terms.id));
                }
                let booked = |ledger: &Ledger, epoch| ledger.contract_booked(&contract.terms.id, epoch);
                if let Some(epoch) = other
                    .epochs()
                    .find(|epoch| booked(own, *epoch) != booked(other, *epoch))
                {
                    return Some(format!(
                        "what contract {} booked in {epoch} differs",
                        contract.terms.id
                    ));
                }
            }
            if own.downstream(&asset.id) != other.downstream(&asset.id) {
                return Some(format!("what {} has downstream differs", asset.id));
            }
            for epoch in other.epochs() {
                if own.journal(&asset.id, epoch) != other.journal(&asset.id, epoch) {
                    return Some(format!("the journal of {} in {epoch} differs", asset.id));
                }
            }
        }
        None
    }

    fn verify(proof: &Value, keys: &[(u64, Key)]) -> Result<Hash, String> {
        let proof: Proof = serde_json::from_value(proof.clone()).map_err(|error| error.to_string())?;
        let keys: Vec<_> = keys.iter().map(|(node, key)| (*node, PublicKey(*key))).collect();
        certificate::verify(&proof, &keys)
            .map(|verdict| verdict.digest.0)
            .map_err(|broken| broken.to_string())
    }
}

fn told(ledger: &Ledger, applied: &ledger::Applied) -> Applied {
    let mut told = Applied {
        answers: applied
            .answers
            .iter()
            .map(|answer| Told {
                answer: answer_of(&answer.outcome),
                duplicate: answer.duplicate,
            })
            .collect(),
        block: applied.block.as_ref().map(ledger::block::Header::to_json),
        attested: applied
            .attestations
            .iter()
            .map(|answer| {
                answer
                    .result
                    .as_ref()
                    .err()
                    .map(|refusal| refusal.code().to_owned())
            })
            .collect(),
        certified: applied.certified.clone(),
        ..Applied::default()
    };
    let mut book = |s: &Statement| told.booked.push((s.id.position.into(), plain(s)));
    for event in &applied.events {
        match event {
            Event::Booked { statement } => book(statement),
            Event::RosterBooked {
                epoch,
                index,
                first,
                count,
                ..
            } => ledger
                .booked(*epoch, *index, *first, *count)
                .for_each(|statement| book(&statement)),
            Event::Sealed(sealed) => {
                sealed.statements().for_each(&mut book);
                told.seals.push(sealed.digest.0);
            }
            _ => {}
        }
    }
    told
}

fn code(refusal: &Refusal) -> String {
    match refusal {
        Refusal::DownstreamOpen { assets, .. } => {
            let names: Vec<&str> = assets.iter().map(ledger::AssetId::as_str).collect();
            format!("downstream_open {}", names.join(" "))
        }
        other => other.code().to_owned(),
    }
}

fn answer_of(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Refused { refusal } => format!("refused: {}", code(refusal)),
        Outcome::Settled { autoseals, .. } => {
            let codes = autoseals.iter().map(|autoseal| match &autoseal.result {
                Ok(seal) => seal.to_string(),
                Err(refusal) => code(refusal),
            });
            format!("settled: {:?}", codes.collect::<Vec<_>>())
        }
        Outcome::Sealed { seal, .. } => format!("sealed: {seal}"),
        Outcome::EpochSealed { seals, held, .. } => {
            let seals: Vec<String> = seals.iter().map(ToString::to_string).collect();
            let held: Vec<(String, String)> = held
                .iter()
                .map(|held| (held.asset.to_string(), code(&held.refusal)))
                .collect();
            format!("sealed: {seals:?}, held: {held:?}")
        }
        Outcome::Approved { approvals, .. } => format!("approved: {approvals}"),
        _ => "done".to_owned(),
    }
}

fn plain(s: &Statement) -> model::Statement {
    model::Statement {
        from: s.from.to_string(),
        to: s.to.to_string(),
        epoch: s.epoch.get(),
        energy: s.energy.wide(),
        co2: s.co2eq.wide(),
        kind: s.kind_name().as_str(),
        label: s.label().to_owned(),
        meter: s.meter().map(ToString::to_string),
        contract: s.contract().map(ToString::to_string),
        value: s.value().map(|value| value.wide()),
    }
}
