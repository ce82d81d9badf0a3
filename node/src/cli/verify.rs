//! `gridseal verify`: check a seal's proof with nothing but the keys one trusts.

use std::path::{Path, PathBuf};

use clap::Args;
use ledger::PublicKey;
use ledger::certificate::{self, Proof, Verdict};
use serde_json::json;

use super::{Failure, call, keys};
use crate::identity;
use crate::say;

/// Check offline what `gridseal call balancing.proof assetId=… epoch=…` answered.
///
/// Trust comes from your own list of node keys only: a JWK set (--keys, as `gridseal keys show --jwks` prints it) or
/// a genesis.json that you hold (--genesis). It must be the very list of those who voted when the block was made: after a
/// change of members or keys, edit the list. Nothing is asked of any node. Exit codes: 0 the proof holds, 1 it does
/// not (and which part fails), 2 a file is missing or unreadable.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The proof, as balancing.proof answered it; - is standard input.
    file: PathBuf,
    /// The node keys you trust, as a JWK set.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "genesis",
        conflicts_with = "genesis"
    )]
    keys: Option<PathBuf>,
    /// The genesis whose node keys you trust.
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// Print {"valid": …, "verdict" or "error": …}.
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(self) -> Result<(), Failure> {
        let trusted = match (&self.keys, &self.genesis) {
            (Some(file), _) => keys::parse_jwks(&read(file)?)
                .map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?,
            (None, Some(file)) => genesis_keys(file)?,
            (None, None) => return Err(Failure::Usage("expected --keys or --genesis".to_owned())),
        };
        let verdict = check(&read(&self.file)?, &trusted);
        if self.json {
            let report = match &verdict {
                Ok(words) => json!({"valid": true, "verdict": words}),
                Err(failure) => json!({"valid": false, "error": failure.to_string()}),
            };
            call::print(&report, false)?;
        } else if let Ok(words) = &verdict {
            say!("{words}");
        }
        verdict.map(drop)
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    let text = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    text.map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))
}

/// The node keys of a genesis.
pub(super) fn genesis_keys(file: &Path) -> Result<Vec<(u64, PublicKey)>, Failure> {
    Ok(identity::read_genesis(file)?.nodes)
}

/// What the proof proves, in words.
///
/// # Errors
/// `Refused`, saying which part fails.
pub(super) fn check(proof: &str, trusted: &[(u64, PublicKey)]) -> Result<String, Failure> {
    let proof: Proof = serde_json::from_str(proof)
        .map_err(|error| Failure::Refused(format!("not a proof, as balancing.proof answers it: {error}")))?;
    match certificate::verify(&proof, trusted) {
        Ok(verdict) => Ok(words(&proof, &verdict)),
        Err(broken) => Err(Failure::Refused(format!("the proof does not hold: {broken}"))),
    }
}

/// The verdict in words: what is proved, by whom, and what is not.
fn words(proof: &Proof, verdict: &Verdict) -> String {
    let seal = &proof.seal;
    let served = seal
        .contracts
        .iter()
        .filter(|contract| contract.energy.get() > 0)
        .count();
    let signers: Vec<String> = verdict.signers.iter().map(ToString::to_string).collect();
    let quorums: Vec<String> = verdict
        .quorums
        .iter()
        .map(|(voters, needed)| format!("{needed} of {voters} are needed"))
        .collect();
    let held = match verdict.distance {
        0 => format!("the header of block {}", proof.header.index),
        1 => format!(
            "a header whose chain of 1 step leads back to block {}",
            proof.header.index
        ),
        steps => format!(
            "a header whose chain of {steps} steps leads back to block {}",
            proof.header.index
        ),
    };
    format!(
        "VALID: version {} of the seal of {} for epoch {} is final.\n\
         It covers {} statements: {} Wh in, {} Wh out, residual {} Wh, position {} Wh; {served} of {} contracts served.\n\
         Its digest {} is leaf {} of {} in block {} of cluster {}.\n\
         Node {} signed {held} with keys on your list; {}.\n\
         Proved: these nodes computed this very seal from the same log. Not proved: that the meters told the truth.",
        seal.version,
        seal.asset,
        seal.epoch,
        seal.watermark,
        seal.energy_in,
        seal.energy_out,
        seal.residual,
        seal.position,
        seal.contracts.len(),
        verdict.digest,
        proof.path.leaf_index,
        proof.header.count,
        proof.header.index,
        proof.header.cluster,
        signers.join(", "),
        quorums.join("; "),
    )
}
