//! How a seal looks: EAF's figures, SPEC's fields, and this node's token.
//!
//! `in`, `out` and their CO2 are over the whole watermark; `energy` is `upstreamenergy`, what came from the upstream less
//! what went to it, after the contracts; `balancesum` is EAF's, before step 3. `upstream` is the side on which that energy
//! flowed. `block` is the log index of the seal's block, which is also the `index` of the entry that made it.
//!
//! `seal` is a compact JWT ([`crate::jwt`]) which this node issues only for a block that it signed. It is null when the
//! node's own calculation wasn't done within about a second of sealing; `balancing.balance` has it later.

use ledger::Ledger;
use ledger::digest::digest;
use ledger::journal::SealRecord;
use ledger::jws::base64url;
use ledger::{AssetId, Epoch};
use serde_json::{Value, json};

use super::peers;
use crate::api::backend::Backend;
use crate::api::wire;
use crate::jwt::{self, Claims};

/// A seal that still lacks its token.
pub(crate) struct Sealed {
    body: Value,
    claims: Claims,
}

impl Sealed {
    /// The body, with the token if this node signed the block.
    pub(crate) fn finish(self, backend: &dyn Backend, signed: bool) -> Value {
        let mut body = self.body;
        let token =
            signed.then(|| jwt::issue(&self.claims, &backend.node_key(), |message| backend.sign(message)));
        body["seal"] = json!(token);
        body
    }
}

/// Everything about a seal but its token.
pub(crate) fn render(ledger: &Ledger, record: &SealRecord) -> Sealed {
    let (seal, figures) = (&record.seal, ledger.eaf_figures(record));
    let watermark = usize::try_from(seal.watermark).unwrap_or(usize::MAX);
    let mut statements = ledger
        .journal(&seal.asset, seal.epoch)
        .unwrap_or_default()
        .statements;
    statements.truncate(watermark);
    let upstream = if figures.upstream_energy > 0 {
        &seal.upstream_from
    } else {
        &seal.upstream_to
    };
    let audit = audit_id(&seal.asset, seal.epoch, seal.version);
    // What step 3 booked, with EAF's sign: towards the asset is positive.
    let closing = record
        .booked
        .checked_sub(
            2 * u32::try_from(
                seal.contracts
                    .iter()
                    .filter(|served| served.energy.get() > 0)
                    .count(),
            )
            .unwrap_or(0),
        )
        .filter(|closing| *closing > 0)
        .and_then(|_| statements.get(watermark.checked_sub(record.booked as usize)?));
    let (from, to, co2) = match closing {
        Some(closing) if closing.to == seal.asset => (&closing.from, &closing.to, closing.co2eq.get()),
        Some(closing) => (&closing.from, &closing.to, -closing.co2eq.get()),
        None => (&seal.asset, &seal.upstream_to, 0),
    };
    let body = json!({
        "assetId": seal.asset,
        "epoch": seal.epoch,
        "in": wire::sum(figures.energy_in),
        "out": wire::sum(figures.energy_out),
        "energy": wire::sum(figures.upstream_energy),
        "upstream": upstream,
        "upstream_from": seal.upstream_from,
        "upstream_to": seal.upstream_to,
        "upstreamenergy": wire::sum(figures.upstream_energy),
        "balancesum": wire::sum(figures.balance_sum),
        "co2eq": wire::sum(figures.upstream_co2),
        "in_co2eq": wire::sum(figures.co2_in),
        "out_co2eq": wire::sum(figures.co2_out),
        "upstreamco2eq": wire::sum(figures.upstream_co2),
        "clearing": { "from": from, "to": to, "epoch": seal.epoch, "energy": -seal.residual.get(), "co2eq": co2 },
        "transactions": statements.iter().map(wire::statement).collect::<Vec<_>>(),
        "peers": peers::of(&seal.asset, &statements),
        "auditId": audit,
        "version": seal.version,
        "watermark": seal.watermark,
        "residual": seal.residual,
        "position": seal.position,
        "contracts": seal.contracts.iter().map(wire::served).collect::<Vec<_>>(),
        "digest": record.digest,
        "previous": seal.previous,
        "block": record.index,
        "index": record.index,
    });
    let claims = Claims {
        asset_id: seal.asset.to_string(),
        epoch: seal.epoch.get(),
        upstream: upstream.to_string(),
        balancesum: wire::sum(figures.balance_sum),
        energy: wire::sum(if planted!("token-of-another-figure") {
            figures.energy_in
        } else {
            figures.upstream_energy
        }),
        co2eq: wire::sum(figures.upstream_co2),
        audit_id: audit,
        version: seal.version,
        digest: record.digest.to_string(),
        block: record.index,
        cluster: seal.cluster.to_string(),
        // The token is issued now, by the ledger's time; whole seconds, as RFC 7519 has them.
        iat: ledger.now().get() / 1000,
    };
    Sealed { body, claims }
}

/// The name under which an audit of a seal is known: of which asset, epoch and version.
pub(crate) fn audit_id(asset: &AssetId, epoch: Epoch, version: u32) -> String {
    let name = format!("{asset}/{epoch}/{version}");
    base64url(&digest("audit-id", name.as_bytes()).0[..12])
}
