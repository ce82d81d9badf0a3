//! Mends attachments: what was found damaged or gone here is fetched from another member.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Context, attachment};
use crate::types::PeerAddr;

/// How long nobody is asked again for what no member gave.
const AGAIN: Duration = Duration::from_secs(2);

/// Runs until it is dropped. `members` says who may be asked, this node itself excepted.
pub(crate) async fn run(context: Arc<Context>, members: impl Fn() -> BTreeMap<u64, PeerAddr>) {
    let attachments = &context.attachments;
    loop {
        for damaged in attachments.wait_damaged(AGAIN).await {
            let mut refusals = Vec::new();
            for (peer, addr) in members() {
                if peer == context.identity.node || planted!("archive-not-mended") {
                    continue;
                }
                match attachment::fetch(&context, peer, &addr.0, &damaged).await {
                    Ok(hold) => {
                        attachments.mended(&damaged, peer);
                        drop(hold);
                        break;
                    }
                    Err(error) => refusals.push(format!("node {peer}: {error}")),
                }
            }
            if refusals.is_empty() {
                refusals.push("there is none".to_owned());
            }
            attachments.tried(&damaged, &refusals.join("; "));
        }
    }
}
