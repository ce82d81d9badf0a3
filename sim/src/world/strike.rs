//! The rarer faults: partial cuts, bad ways, slow machines, damaged and exchanged disks.

use std::net::IpAddr;

use bytes::Bytes;
use checkers::upkeep;
use checkers::wal::Platter;

use super::{Marred, World};
use crate::disk::{DiskFaults, Harm, Loss};
use crate::faults::{BLINK_MS, Fault, Way};
use crate::host::{Host, ip};
use crate::network::Quality;
use crate::rng::PerMillion;

/// On how many other disks, of those that nothing else is wrong with, a file must be whole to be damaged on one. One of these
/// nodes may leave the cluster, and then gives nobody anything any more.
const WHOLE_ELSEWHERE: usize = 2;

/// How often it is one that the node's newest snapshot names, if there are any.
const LASTING: PerMillion = PerMillion::percent(75);

/// How often a write of a misdirecting disk goes astray.
const MISDIRECTED: PerMillion = PerMillion(2_000);

impl World {
    /// Whether the disk has not what this fault would take away.
    pub(super) fn is_well(&mut self, id: u64, fault: &Fault) -> bool {
        self.node(id).is_none_or(|host| {
            let faults = host.disk().faults();
            match fault {
                Fault::FullDisk(..) => faults.capacity.is_none(),
                _ => faults.slow_sync == PerMillion::NEVER,
            }
        })
    }

    /// Does what the fault says.
    pub(super) fn strike_more(&mut self, fault: &Fault) {
        match fault {
            Fault::Cut(a, b) => self.cut_both(ip(*a), ip(*b)),
            Fault::Ring => {
                let ips = self.ips(|_| true);
                self.cut_unless(|a, b| (b + 1) % ips.len() == a || (a + 1) % ips.len() == b);
            }
            Fault::Bridge(node) => {
                let Some(bridge) = self.nodes.iter().position(|host| host.id() == *node) else {
                    return;
                };
                let rest = self.nodes.len().saturating_sub(1);
                let half = |i: usize| {
                    if i > bridge {
                        i - 1 < rest / 2
                    } else {
                        i < rest / 2
                    }
                };
                self.cut_unless(|a, b| a == bridge || b == bridge || half(a) == half(b));
            }
            Fault::Link(from, to, way) => self.net.set_quality(ip(*from), ip(*to), quality(*way)),
            Fault::SlowNode(node, true) => {
                self.slow.insert(*node);
            }
            Fault::SlowNode(node, false) => {
                self.slow.remove(node);
            }
            Fault::FullDisk(node, full) => self.with_disk(*node, |host| {
                let disk = host.disk();
                let used = disk.files().iter().map(|(_, len)| len).sum();
                disk.set_faults(DiskFaults {
                    capacity: full.then_some(used),
                    ..disk.faults()
                });
            }),
            Fault::Misdirect(node) => self.with_disk(*node, |host| {
                let disk = host.disk();
                disk.set_faults(DiskFaults {
                    misdirected: MISDIRECTED,
                    ..disk.faults()
                });
            }),
            Fault::Rot(node) => self.damage(*node, |host, path, offset| {
                host.disk()
                    .rot(path, offset, u8::try_from(offset % 8).unwrap_or(0));
            }),
            Fault::Latent(node) => self.damage(*node, |host, path, offset| {
                host.disk().spoil(path, offset);
            }),
            Fault::DamageArchive(node) => self.damage_archive(*node),
            Fault::EmptyDisk(node) => {
                if let Some(host) = self.node(*node) {
                    host.crash(false, None);
                    host.disk().wipe();
                }
            }
            Fault::WrongDisk(node, other) => {
                let Some(other) = self.node(*other).map(|host| host.disk().clone()) else {
                    return;
                };
                if let Some(host) = self.node(*node) {
                    host.crash(false, None);
                    host.disk().copy_of(&other);
                }
            }
            Fault::Restart(node) => {
                let until = self.time.now_ms() + super::ENDS_WITHIN_MS;
                self.with_disk(*node, Host::ask_to_end);
                self.ending.entry(*node).or_insert(until);
            }
            Fault::RotateKey(node) => (self.new_key)(*node),
            // The common ones are struck where they are told; the other orders of admins are for a client to carry out.
            _ => {}
        }
    }

    /// See [`Fault::StallFollowers`].
    pub(super) fn stall_followers(&mut self, ms: u64) {
        let Some(leader) = (self.leader)() else { return };
        self.tell(format!("n{leader} leads"));
        let followers = self.nodes.iter_mut().filter(|host| host.id() != leader);
        followers.for_each(|host| host.pause(ms));
    }

    /// See [`Fault::BlinkLeader`]. Nothing of it is left when the faults are over.
    pub(super) fn blink_leader(&mut self, down_ms: u64) {
        let Some(leader) = (self.leader)() else { return };
        self.tell(format!("that is n{leader}"));
        self.with_disk(leader, |host| {
            let disk = host.disk();
            disk.set_faults(DiskFaults {
                slow_sync: PerMillion::percent(100),
                slow_sync_ms: 2 * BLINK_MS..=2 * BLINK_MS,
                ..disk.faults()
            });
        });
        let down = (self.time.now_ms() + BLINK_MS).min(self.quiet_from_ms.saturating_sub(1));
        let up = (down + down_ms).min(self.quiet_from_ms);
        // All of it, or what a torn batch leaves.
        let loss = match self.restart.below(2) {
            0 => Loss::Everything,
            _ => Loss::Some,
        };
        let crash = Fault::Crash {
            node: leader,
            // A process that ends takes its port with it, which refuses from then on: that is noticed at once.
            silent: true,
            loss: Some(loss),
        };
        self.later.extend([
            (down, crash),
            (up, Fault::SlowDisk(leader, false)),
            (up, Fault::Start(leader)),
        ]);
    }

    /// The finished files of a node's archive that others can give it again, with what is in them. One that is damaged already
    /// is not among them.
    pub(super) fn damageable(&self, node: u64) -> Vec<(String, Bytes)> {
        const DIR: &str = "archive";
        let Some(host) = self.nodes.iter().find(|host| host.id() == node) else {
            return Vec::new();
        };
        let others = || {
            let sound = |host: &&Host| host.id() != node && !self.unsound.contains(&host.id());
            self.nodes.iter().filter(sound)
        };
        let is_elsewhere = |path: &str, content: &Bytes| {
            let have = others().filter(|other| other.disk().settled(path).as_ref() == Some(content));
            have.count() >= WHOLE_ELSEWHERE
        };
        let finished = |name: &String| !name.ends_with(".draft");
        let names = Platter::list(host.disk(), DIR).into_iter().filter(finished);
        names
            .filter_map(|name| {
                let path = format!("{DIR}/{name}");
                let content = host.disk().settled(&path).filter(|content| !content.is_empty())?;
                is_elsewhere(&path, &content).then_some((name, content))
            })
            .collect()
    }

    /// Damages one of them.
    fn damage_archive(&mut self, node: u64) {
        let files = self.damageable(node);
        let named = match self.nodes.iter().find(|host| host.id() == node) {
            Some(host) => upkeep::of_newest_snapshot(host.disk()),
            None => return,
        };
        // Others are written anew by a process that is started anew: these it needs.
        let lasting: Vec<_> = files
            .iter()
            .filter(|(name, _)| named.contains(name))
            .cloned()
            .collect();
        let rng = &mut self.archives;
        let lasts = rng.chance(LASTING) && !lasting.is_empty();
        let (name, content) = rng.pick(if lasts { &lasting } else { &files }).clone();
        let at = rng.below(content.len() as u64);
        let bit = u8::try_from(rng.below(8)).unwrap_or(0);
        let harm = *rng.pick(&[Harm::Flip { at, bit }, Harm::Cut { at }, Harm::Lose]);
        let path = format!("archive/{name}");
        self.tell(format!("that is {path}: {harm}"));
        self.with_disk(node, |host| {
            host.disk().harm(&path, harm);
        });
        self.marred.push(Marred { node, name, content });
    }

    fn cut_both(&self, a: IpAddr, b: IpAddr) {
        self.net.cut(a, b);
        self.net.cut(b, a);
    }

    /// Cuts all pairs of nodes, by their places, but these.
    fn cut_unless(&self, stays: impl Fn(usize, usize) -> bool) {
        for a in 0..self.nodes.len() {
            for b in 0..a {
                if !stays(a, b) {
                    self.cut_both(self.nodes[a].ip(), self.nodes[b].ip());
                }
            }
        }
    }

    fn with_disk(&mut self, node: u64, op: impl FnOnce(&Host)) {
        if let Some(host) = self.node(node) {
            op(host);
        }
    }

    /// Damages a byte of a file that matters.
    fn damage(&mut self, node: u64, how: impl FnOnce(&Host, &str, u64)) {
        let draw = self.restart.next();
        self.with_disk(node, |host| {
            let files = host.disk().files();
            let of_note: Vec<_> = files
                .iter()
                .filter(|(path, len)| path.contains('/') && *len > 0)
                .collect();
            if of_note.is_empty() {
                return;
            }
            let mut segments = of_note.iter().filter(|(path, _)| path.ends_with(".wal"));
            // What a node writes most is what is damaged most: half of the time it is the log's newest segment.
            let pick = usize::try_from(draw >> 32).unwrap_or(0);
            let (path, len) = match segments.next_back().filter(|_| pick % 2 == 0) {
                Some(newest) => *newest,
                None => of_note[pick / 2 % of_note.len()],
            };
            // Damage to what was never written would say nothing.
            let bytes = Platter::read(host.disk(), path, 0, usize::try_from(*len).unwrap_or(usize::MAX));
            let written = bytes
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(*len, |last| last as u64 + 1);
            how(host, path, draw % written);
        });
    }
}

fn quality(way: Way) -> Quality {
    let good = Quality::default();
    match way {
        Way::Good => good,
        Way::Slow => Quality {
            latency_ms: 50..=300,
            ..good
        },
        Way::Lossy => Quality {
            loss: PerMillion::percent(20),
            ..good
        },
        Way::Breaking => Quality {
            reset: PerMillion::percent(1),
            split: PerMillion::percent(30),
            ..good
        },
    }
}
