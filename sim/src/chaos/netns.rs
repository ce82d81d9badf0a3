//! Each node in a network namespace of its own, all on one bridge, with cuts and loss by nftables.
//!
//! A cut drops frames that pass the bridge from one node's port to another's, so it is one-way and takes effect between
//! two packets. The clients, who are outside, always reach everyone.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use parking_lot::Mutex;

use super::command::{need_root, run};
use super::undo::Undo;

/// The namespaces of one run. Their names carry the process's id, so that runs don't meet.
#[derive(Clone, Debug)]
pub(super) struct Namespaces {
    run: u32,
    cuts: Arc<Mutex<BTreeMap<(u64, u64), u32>>>,
}

impl Namespaces {
    /// Makes them.
    ///
    /// # Errors
    /// Not root, or the system lacks what it takes.
    pub(super) async fn make(ids: &[u64], undo: &mut Undo) -> io::Result<Self> {
        need_root()?;
        let made = Namespaces {
            run: std::process::id(),
            cuts: Arc::default(),
        };
        let (bridge, table) = (made.bridge(), made.table());
        run(&["ip", "link", "add", &bridge, "type", "bridge"]).await?;
        undo.run(&["ip", "link", "del", &bridge]);
        run(&[
            "ip",
            "addr",
            "add",
            &format!("{}/24", made.outside()),
            "dev",
            &bridge,
        ])
        .await?;
        run(&["ip", "link", "set", &bridge, "up"]).await?;
        run(&["nft", "add", "table", "bridge", &table]).await?;
        undo.run(&["nft", "delete", "table", "bridge", &table]);
        for rule in [
            format!("add set bridge {table} cuts {{ type ifname . ifname ; }}"),
            format!("add chain bridge {table} forward {{ type filter hook forward priority 0 ; }}"),
            format!("add rule bridge {table} forward meta iifname . meta oifname @cuts drop"),
        ] {
            run(&["nft", &rule]).await?;
        }
        for &id in ids {
            let (name, port) = (made.name(id), made.port(id));
            run(&["ip", "netns", "add", &name]).await?;
            undo.run(&["ip", "netns", "del", &name]);
            run(&[
                "ip", "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &name,
            ])
            .await?;
            // A namespace that is deleted lets go of its end a little later.
            undo.run(&["ip", "link", "del", &port]);
            run(&["ip", "link", "set", &port, "master", &bridge, "up"]).await?;
            run(&[
                "ip",
                "-n",
                &name,
                "addr",
                "add",
                &format!("{}/24", made.ip(id)),
                "dev",
                "eth0",
            ])
            .await?;
            run(&["ip", "-n", &name, "link", "set", "eth0", "up"]).await?;
            run(&["ip", "-n", &name, "link", "set", "lo", "up"]).await?;
            made.inside(id, "add table inet loss").await?;
            made.inside(
                id,
                "add chain inet loss arriving { type filter hook input priority 0 ; }",
            )
            .await?;
        }
        Ok(made)
    }

    /// What makes `nsenter` enter a node's namespace, and no other.
    pub(super) fn option(&self, id: u64) -> String {
        format!("--net=/run/netns/{}", self.name(id))
    }

    /// A node's namespace.
    fn name(&self, id: u64) -> String {
        format!("gsc{}n{id}", self.run)
    }

    /// A node's address.
    pub(super) fn ip(&self, id: u64) -> IpAddr {
        self.address(u8::try_from(id).unwrap_or(u8::MAX))
    }

    /// The address of whoever is outside.
    pub(super) fn outside(&self) -> IpAddr {
        self.address(254)
    }

    fn address(&self, last: u8) -> IpAddr {
        let third = u8::try_from(self.run % 250).unwrap_or(0);
        IpAddr::V4(Ipv4Addr::new(10, 213, third, last))
    }

    fn bridge(&self) -> String {
        format!("gsb{}", self.run)
    }

    fn table(&self) -> String {
        format!("gsc{}", self.run)
    }

    fn port(&self, id: u64) -> String {
        format!("gs{}v{id}", self.run)
    }

    async fn inside(&self, id: u64, rule: &str) -> io::Result<()> {
        run(&["nsenter", &self.option(id), "nft", rule]).await.map(drop)
    }

    /// From here on, until as many [`Namespaces::mend`]s, nothing gets from one to the other.
    ///
    /// # Errors
    /// nftables fails.
    pub(super) async fn cut(&self, links: &[(u64, u64)]) -> io::Result<()> {
        let new: Vec<_> = {
            let mut cuts = self.cuts.lock();
            let mut cut = |link: &&(u64, u64)| {
                let times = cuts.entry(**link).or_default();
                *times += 1;
                *times == 1
            };
            links.iter().filter(|link| cut(link)).copied().collect()
        };
        self.change("add", &new).await
    }

    /// Takes one cut of each back.
    ///
    /// # Errors
    /// nftables fails.
    pub(super) async fn mend(&self, links: &[(u64, u64)]) -> io::Result<()> {
        let whole: Vec<_> = {
            let mut cuts = self.cuts.lock();
            let mut mend = |link: &&(u64, u64)| {
                let times = cuts.entry(**link).or_default();
                let last = *times == 1;
                *times = times.saturating_sub(1);
                last
            };
            links.iter().filter(|link| mend(link)).copied().collect()
        };
        self.change("delete", &whole).await
    }

    /// All links at once, or none: one transaction.
    async fn change(&self, how: &str, links: &[(u64, u64)]) -> io::Result<()> {
        if links.is_empty() {
            return Ok(());
        }
        let pair = |(from, to): &(u64, u64)| format!("\"{}\" . \"{}\"", self.port(*from), self.port(*to));
        let pairs: Vec<String> = links.iter().map(pair).collect();
        let rule = format!(
            "{how} element bridge {} cuts {{ {} }}",
            self.table(),
            pairs.join(", ")
        );
        run(&["nft", &rule]).await.map(drop)
    }

    /// A node loses so many of a hundred packets that arrive; 0 for none.
    ///
    /// # Errors
    /// nftables fails.
    pub(super) async fn lose(&self, id: u64, percent: u64) -> io::Result<()> {
        self.inside(id, "flush chain inet loss arriving").await?;
        if percent == 0 {
            return Ok(());
        }
        self.inside(
            id,
            &format!("add rule inet loss arriving numgen random mod 100 < {percent} drop"),
        )
        .await
    }
}
