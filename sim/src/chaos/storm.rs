//! Carries out the plan: strikes when it is time, takes each fault back when its time is over, and heals everything at
//! the end.
//!
//! A node that suffers one fault of process or disk is not struck by another until that is over: so it is always known
//! why a node is down, and one that is down for no reason broke a promise.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use checkers::Violation;
use parking_lot::Mutex;
use rustix::process::Signal;

use super::layout::Layout;
use super::netns::Namespaces;
use super::nodes::Nodes;
use super::plan::{Fault, Plan, Weather, Whom};
use super::power;
use super::proxy::Proxy;
use super::tracer::Tracer;
use super::verdict::Log;
use super::watch::Seen;

/// How finely time is looked at.
const TICK: Duration = Duration::from_millis(20);
/// How long a node may take to sync anything, so that a failing sync can strike.
const SYNCS_WITHIN_MS: u64 = 5_000;
/// How long a node whose sync failed may take to stop.
const STOPS_WITHIN_MS: u64 = 15_000;
/// Before a node that ended for no reason is started again.
const AGAIN_MS: u64 = 500;
/// How long a node may take to stop when it is asked to.
const GRACE: Duration = Duration::from_secs(30);
/// So many nodes that ended for no reason say it all.
const ENOUGH: usize = 10;

/// The end of a fault.
#[derive(Clone, Debug)]
enum Ending {
    /// The node starts.
    Start(u64),
    /// The power of its machine is on again, and it starts.
    PowerOn(u64),
    /// SIGCONT.
    Continue(u64),
    /// Its syncs are as before.
    Release(u64),
    /// Its sync has failed by now, or it did not sync.
    SyncFailed(u64, u64),
    /// It has stopped because of that.
    MustHaveStopped(u64),
    /// These links carry again.
    Mend(Vec<(u64, u64)>),
    /// The weather is good again, in these other ways.
    Clear(Weather),
}

/// Carries out a plan.
pub(super) struct Storm {
    // Dropped in this order: what traces a node lets go before the node is killed.
    tracers: BTreeMap<u64, Tracer>,
    nodes: Nodes,
    steps: VecDeque<(u64, Fault)>,
    quiet_from_ms: u64,
    agenda: Vec<(u64, Ending)>,
    /// Who suffers something, and from what.
    suffering: BTreeMap<u64, &'static str>,
    proxy: Option<Proxy>,
    namespaces: Option<Namespaces>,
    layout: Layout,
    seen: Arc<Mutex<Seen>>,
    log: Log,
    healed: bool,
    counts: BTreeMap<&'static str, u64>,
    /// Nodes that ended for no reason, or did not although they had one.
    pub(super) violations: Vec<Violation>,
}

impl Storm {
    pub(super) fn new(
        plan: Plan,
        nodes: Nodes,
        proxy: Option<Proxy>,
        namespaces: Option<Namespaces>,
        layout: Layout,
        seen: Arc<Mutex<Seen>>,
        log: Log,
    ) -> Self {
        Storm {
            tracers: BTreeMap::new(),
            nodes,
            steps: plan.steps.into(),
            quiet_from_ms: plan.quiet_from_ms,
            agenda: Vec::new(),
            suffering: BTreeMap::new(),
            proxy,
            namespaces,
            layout,
            seen,
            log,
            healed: false,
            counts: BTreeMap::new(),
            violations: Vec::new(),
        }
    }

    pub(super) fn quiet_from_ms(&self) -> u64 {
        self.quiet_from_ms
    }

    /// What there was.
    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut counts = self.counts.clone();
        if let Some(proxy) = &self.proxy {
            let (forwarded, strangers) = proxy.counts();
            counts.extend([
                ("connections through proxies", forwarded),
                ("connections of strangers", strangers),
            ]);
        }
        let seen = self.seen.lock();
        counts.extend([("leaders seen", seen.reigns), ("looks", seen.looks)]);
        counts
    }

    /// Carries out the plan and heals; then watches over the nodes until `late` says why it has waited long enough,
    /// which is returned.
    ///
    /// # Errors
    /// The machine does not let a fault be made, or taken back.
    pub(super) async fn rage(&mut self, late: impl Fn() -> Option<String>) -> io::Result<String> {
        loop {
            let now = self.log.now_ms();
            self.notice_ends(now);
            while let Some((_, fault)) = self.steps.pop_front_if(|(at, _)| *at <= now) {
                if now < self.quiet_from_ms {
                    self.strike(fault, now).await?;
                }
            }
            let due: Vec<Ending> = self
                .agenda
                .extract_if(.., |(due, _)| *due <= now)
                .map(|(_, ending)| ending)
                .collect();
            for ending in due {
                self.end(ending, now).await?;
            }
            if now >= self.quiet_from_ms {
                if !self.healed {
                    self.heal(now).await?;
                }
                if let Some(why) = late() {
                    return Ok(why);
                }
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Whom a fault strikes: none of those who suffer already.
    fn struck(&self, whom: Whom) -> Vec<u64> {
        let all = match whom {
            Whom::Node(id) => vec![id],
            Whom::Leader => self.seen.lock().leader().into_iter().collect(),
            Whom::All => self.nodes.ids(),
        };
        all.into_iter()
            .filter(|id| !self.suffering.contains_key(id) && self.nodes.pid(*id).is_some())
            .collect()
    }

    fn plan(&mut self, due: u64, ending: Ending) {
        self.agenda.push((due, ending));
    }

    fn count(&mut self, what: &'static str, n: usize) {
        *self.counts.entry(what).or_default() += n as u64;
    }

    async fn strike(&mut self, fault: Fault, now: u64) -> io::Result<()> {
        if let Fault::Weather(weather, ms) = fault {
            return self.weather(weather, now, ms).await;
        }
        let (Fault::Kill(whom, _)
        | Fault::Stop(whom, _)
        | Fault::PowerCut(whom, _)
        | Fault::FailSync(whom, _)
        | Fault::SlowSync(whom, ..)) = fault
        else {
            return Ok(());
        };
        let struck = self.struck(whom);
        if struck.is_empty() {
            self.count("faults that found their node down", 1);
            return Ok(());
        }
        let names: Vec<String> = struck.iter().map(|id| format!("n{id}")).collect();
        self.log.say(format!("{fault}: {}", names.join(" ")));
        match fault {
            Fault::Kill(_, down) => {
                self.count("kills", struck.len());
                for id in struck {
                    self.nodes.kill(id);
                    self.suffering.insert(id, "killed");
                    self.plan(now + down, Ending::Start(id));
                }
            }
            Fault::Stop(_, ms) => {
                self.count("stops", struck.len());
                for id in struck {
                    self.nodes.signal(id, Signal::STOP);
                    self.suffering.insert(id, "stopped");
                    self.plan(now + ms, Ending::Continue(id));
                }
            }
            Fault::PowerCut(_, off) => {
                self.count("power cuts", struck.len());
                self.cut_power(&struck).await?;
                for id in struck {
                    self.suffering.insert(id, "without power");
                    self.plan(now + off, Ending::PowerOn(id));
                }
            }
            Fault::FailSync(_, down) => {
                for id in struck {
                    let Some(pid) = self.nodes.pid(id) else { continue };
                    self.tracers.insert(id, Tracer::fail(&self.layout, id, pid)?);
                    self.suffering.insert(id, "with failing syncs");
                    self.plan(now + SYNCS_WITHIN_MS, Ending::SyncFailed(id, down));
                }
            }
            Fault::SlowSync(_, by, ms) => {
                self.count("slow disks", struck.len());
                for id in struck {
                    let Some(pid) = self.nodes.pid(id) else { continue };
                    self.tracers.insert(id, Tracer::slow(&self.layout, id, pid, by)?);
                    self.suffering.insert(id, "with slow syncs");
                    self.plan(now + ms, Ending::Release(id));
                }
            }
            Fault::Weather(..) => {}
        }
        Ok(())
    }

    /// All at once: each is stopped before any forgets, and has forgotten before any is gone.
    async fn cut_power(&mut self, struck: &[u64]) -> io::Result<()> {
        for id in struck {
            self.nodes.signal(*id, Signal::STOP);
        }
        for id in struck {
            // A thread inside a system call stops when that returns.
            while !self.nodes.has_stopped(*id) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        for id in struck {
            power::cut(&self.layout, *id)?;
        }
        for id in struck {
            self.nodes.kill(*id);
        }
        Ok(())
    }

    async fn weather(&mut self, weather: Weather, now: u64, ms: u64) -> io::Result<()> {
        self.log.say(format!("{weather}, for {ms} ms"));
        let due = now + ms;
        match &weather {
            Weather::Cut(links) => self.cut(links.iter().copied().collect(), due).await?,
            Weather::IsolateLeader => {
                let Some(leader) = self.seen.lock().leader() else {
                    return Ok(());
                };
                self.log.say(format!("it is n{leader}"));
                let others: Vec<u64> = self.nodes.ids().into_iter().filter(|id| *id != leader).collect();
                let links = others
                    .into_iter()
                    .flat_map(|id| [(leader, id), (id, leader)])
                    .collect();
                self.cut(links, due).await?;
            }
            Weather::Loss(id, percent) => {
                self.count("lossy links", 1);
                if let Some(namespaces) = &self.namespaces {
                    namespaces.lose(*id, *percent).await?;
                }
                self.plan(due, Ending::Clear(weather));
            }
            Weather::Delay(..) | Weather::Slow(..) | Weather::Refuse(..) | Weather::Reset(..) => {
                let Some(proxy) = &self.proxy else { return Ok(()) };
                let what = match weather {
                    Weather::Delay(from, to, by) => {
                        proxy.delay(from, to, by);
                        "delayed links"
                    }
                    Weather::Slow(from, to, rate) => {
                        proxy.slow(from, to, Some(rate));
                        "slow links"
                    }
                    Weather::Refuse(from, to) => {
                        proxy.refuse(from, to, true);
                        "refusals"
                    }
                    Weather::Reset(a, b, after) => {
                        proxy.reset(a, b, usize::try_from(after).unwrap_or(0));
                        "resets"
                    }
                    Weather::Cut(_) | Weather::IsolateLeader | Weather::Loss(..) => return Ok(()),
                };
                self.count(what, 1);
                self.plan(due, Ending::Clear(weather));
            }
        }
        Ok(())
    }

    /// A link may lead through a proxy, through the bridge, or through both.
    async fn cut(&mut self, links: Vec<(u64, u64)>, due: u64) -> io::Result<()> {
        self.count("cuts", 1);
        if let Some(proxy) = &self.proxy {
            links.iter().for_each(|(from, to)| proxy.cut(*from, *to));
        }
        if let Some(namespaces) = &self.namespaces {
            namespaces.cut(&links).await?;
        }
        self.plan(due, Ending::Mend(links));
        Ok(())
    }

    async fn end(&mut self, ending: Ending, now: u64) -> io::Result<()> {
        match ending {
            Ending::Start(id) => self.start(id)?,
            Ending::PowerOn(id) => {
                power::restore(&self.layout, id).await?;
                self.start(id)?;
            }
            Ending::Continue(id) => {
                self.nodes.signal(id, Signal::CONT);
                self.suffering.remove(&id);
                self.log.say(format!("n{id} goes on"));
            }
            Ending::Release(id) => {
                self.tracers.remove(&id);
                self.suffering.remove(&id);
                self.log.say(format!("the disk of n{id} is well again"));
            }
            Ending::SyncFailed(id, down) => self.sync_failed(id, down, now),
            Ending::MustHaveStopped(id) => {
                // By now it may have stopped and be another process.
                if self.suffering.get(&id) == Some(&"with failing syncs") && self.nodes.pid(id).is_some() {
                    self.violate(
                        now,
                        "fail-stop",
                        format!("n{id} goes on {STOPS_WITHIN_MS} ms after a failed sync"),
                    );
                    self.suffering.remove(&id);
                }
            }
            Ending::Mend(links) => {
                if let Some(proxy) = &self.proxy {
                    links.iter().for_each(|(from, to)| proxy.mend(*from, *to));
                }
                if let Some(namespaces) = &self.namespaces {
                    namespaces.mend(&links).await?;
                }
                self.log.say("a cut heals");
            }
            Ending::Clear(weather) => self.clear(&weather).await?,
        }
        Ok(())
    }

    async fn clear(&self, weather: &Weather) -> io::Result<()> {
        match (weather, &self.proxy, &self.namespaces) {
            (Weather::Delay(from, to, _), Some(proxy), _) => proxy.delay(*from, *to, 0),
            (Weather::Slow(from, to, _), Some(proxy), _) => proxy.slow(*from, *to, None),
            (Weather::Refuse(from, to), Some(proxy), _) => proxy.refuse(*from, *to, false),
            (Weather::Loss(id, _), _, Some(namespaces)) => namespaces.lose(*id, 0).await?,
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, id: u64) -> io::Result<()> {
        self.nodes.start(id)?;
        self.suffering.remove(&id);
        self.log.say(format!("n{id} is started"));
        Ok(())
    }

    /// The time in which a sync should have failed is over.
    fn sync_failed(&mut self, id: u64, down: u64, now: u64) {
        let failed = self.tracers.remove(&id).is_some_and(Tracer::finish);
        let runs = self.nodes.pid(id).is_some();
        match (failed, runs) {
            (true, true) => self.plan(now + STOPS_WITHIN_MS, Ending::MustHaveStopped(id)),
            (true, false) => self.plan(now + down, Ending::Start(id)),
            (false, true) => {
                self.count("faults that found nothing to fail", 1);
                self.log.say(format!("n{id} did not sync"));
                self.suffering.remove(&id);
            }
            (false, false) => {
                self.violate(now, "stays up", format!("n{id} ended, and no sync had failed"));
                self.plan(now + AGAIN_MS, Ending::Start(id));
            }
        }
        self.count("failed syncs", usize::from(failed));
    }

    /// Nodes that ended on their own: as they should, or for no reason.
    fn notice_ends(&mut self, now: u64) {
        for id in self.nodes.ids() {
            let Some(how) = self.nodes.ended(id) else { continue };
            let words = self.nodes.last_words(id);
            if self.suffering.get(&id) == Some(&"with failing syncs") {
                self.log.say(format!("n{id} stops, as it must: {words}"));
                // What is planned already starts it, unless it took longer than that.
                if !self.tracers.contains_key(&id) {
                    self.plan(now + AGAIN_MS, Ending::Start(id));
                }
                continue;
            }
            self.violate(
                now,
                "stays up",
                format!("n{id} ended for no reason ({how}): {words}"),
            );
            self.suffering.insert(id, "ended");
            if self.violations.len() < ENOUGH {
                self.plan(now + AGAIN_MS, Ending::Start(id));
            }
        }
    }

    fn violate(&mut self, at_ms: u64, checker: &'static str, what: String) {
        self.log.say(format!("VIOLATION {checker}: {what}"));
        self.violations.push(Violation { at_ms, checker, what });
    }

    /// Everything ends now.
    async fn heal(&mut self, now: u64) -> io::Result<()> {
        self.healed = true;
        self.log.say("everything heals");
        // The grace of a node whose sync failed is not shortened.
        let rest: Vec<Ending> = self
            .agenda
            .extract_if(.., |(_, ending)| !matches!(ending, Ending::MustHaveStopped(_)))
            .map(|(_, ending)| ending)
            .collect();
        for ending in rest {
            let ending = match ending {
                Ending::SyncFailed(id, _) => Ending::SyncFailed(id, 0),
                other => other,
            };
            self.end(ending, now).await?;
        }
        let down: BTreeSet<u64> = self
            .nodes
            .ids()
            .into_iter()
            .filter(|id| self.nodes.pid(*id).is_none())
            .collect();
        for id in down {
            self.start(id)?;
        }
        Ok(())
    }

    /// Stops all nodes as an operator would; returns what was wrong with that, and the panics of the whole run.
    pub(super) async fn stop(&mut self) -> Vec<Violation> {
        let at_ms = self.log.now_ms();
        let mut found: Vec<Violation> = self
            .nodes
            .panics()
            .into_iter()
            .map(|what| Violation {
                at_ms,
                checker: "panic",
                what,
            })
            .collect();
        self.tracers.clear();
        for id in self.nodes.ids() {
            self.nodes.signal(id, Signal::CONT);
            self.nodes.signal(id, Signal::TERM);
        }
        let give_up = tokio::time::Instant::now() + GRACE;
        for id in self.nodes.ids() {
            while self.nodes.pid(id).is_some() {
                if let Some(how) = self.nodes.ended(id) {
                    if !how.success() {
                        let what = format!(
                            "n{id} was asked to stop and ended badly ({how}): {}",
                            self.nodes.last_words(id)
                        );
                        found.push(Violation {
                            at_ms,
                            checker: "stops in good order",
                            what,
                        });
                    }
                } else if tokio::time::Instant::now() > give_up {
                    let what = format!(
                        "n{id} was asked to stop and still runs after {} s",
                        GRACE.as_secs()
                    );
                    found.push(Violation {
                        at_ms,
                        checker: "stops in good order",
                        what,
                    });
                    self.nodes.kill(id);
                } else {
                    tokio::time::sleep(TICK).await;
                }
            }
        }
        found
    }
}
