//! A machine: a drive and a clock that last, and at most one process, which may end at any moment.
//!
//! Each process has a tokio runtime of its own on the one thread of the simulation, with paused time. The world
//! lets it run a millisecond at a time ([`Host::run`]); whatever it awaits that is due by then happens, in the
//! order that its seeded scheduler decides. A crash ends the mount and the sockets first and then drops
//! the runtime with all its tasks, wherever they were: destructors run, as they must in one address space, but
//! there is nothing left that they could change. A process whose tasks never come to rest is ended ([`SPINS`]).

use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use futures::future::LocalBoxFuture;
use parking_lot::Mutex;
use tokio::runtime::{Builder, RngSeed, Runtime};
use tokio::sync::watch;
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::Instant;

use crate::clock::{Time, WallClock};
use crate::disk::{Loss, Mount, SimDisk};
use crate::entropy::SimEntropy;
use crate::network::{Attached, SimNet};
use crate::rng::Rng;
use crate::timeline::{self, What};
use crate::trace::{self, Who};
use crate::watchdog;

/// How finely time moves.
pub const TICK: Duration = Duration::from_millis(1);

/// What a process is given at its start: the seams.
pub struct Machine {
    /// Its node's number.
    pub id: u64,
    /// How often this machine has started a process before this one.
    pub boot: u64,
    /// The drive, as this process sees it.
    pub disk: Mount,
    /// The network, as this process sees it.
    pub network: Attached,
    /// The machine's clock.
    pub clock: WallClock,
    /// Randomness for this start.
    pub entropy: Arc<SimEntropy>,
    /// True time, for histories only: no node may look at it.
    pub time: Time,
    /// Turns true when the process is asked to end.
    pub stop: watch::Receiver<bool>,
}

/// What runs on a machine. An error is why it stopped by itself.
pub type Program = Rc<dyn Fn(Machine) -> LocalBoxFuture<'static, Result<(), String>>>;

/// A machine.
pub struct Host {
    id: u64,
    who: Who,
    seed: u64,
    ip: IpAddr,
    disk: SimDisk,
    net: SimNet,
    clock: WallClock,
    time: Time,
    program: Program,
    boots: u64,
    newer: bool,
    state: State,
}

enum State {
    Off,
    Running(Box<Process>),
    Exited(Result<(), String>),
}

struct Process {
    // Dropped in this order: tasks that can't leave their thread, then the rest.
    local: LocalSet,
    main: JoinHandle<Result<(), String>>,
    runtime: Runtime,
    /// Virtual time when it began, and its own clock then.
    began_ms: u64,
    began: Instant,
    paused_until_ms: u64,
    stop: watch::Sender<bool>,
    work: Arc<Work>,
}

/// Task polls that a millisecond may take; usual ones take some hundreds. Beyond, tasks keep each other busy, and time
/// would stand still for ever.
const POLLS_A_TICK: u64 = 1_000_000;
/// How the reason begins for which a process that spins is ended.
pub const SPINS: &str = "it spins";

/// Counts what a process does, so that one which never comes to rest is noticed.
#[derive(Default)]
struct Work {
    polls: AtomicU64,
    /// Of whoever waits for the process to come to rest.
    waker: Mutex<Option<Waker>>,
}

impl Work {
    fn count(&self) {
        if self.polls.fetch_add(1, Ordering::Relaxed) >= POLLS_A_TICK
            && let Some(waker) = self.waker.lock().take()
        {
            waker.wake();
        }
    }

    /// Whether there was too much of it; `waker` hears as soon as there is.
    fn is_too_much(&self, waker: &Waker) -> bool {
        *self.waker.lock() = Some(waker.clone());
        self.polls.load(Ordering::Relaxed) >= POLLS_A_TICK
    }
}

/// The address of a node's machine.
pub fn ip(id: u64) -> IpAddr {
    let id = u32::try_from(id).unwrap_or(0) & 0xff_ffff;
    IpAddr::V4(Ipv4Addr::from(0x0a00_0000 | id))
}

impl Host {
    /// A machine that is off, with an empty drive.
    pub fn new(
        seed: u64,
        who: Who,
        id: u64,
        net: SimNet,
        time: Time,
        clock: WallClock,
        program: Program,
    ) -> Self {
        Host {
            id,
            who,
            seed,
            ip: ip(id),
            disk: SimDisk::new(Rng::fork(seed, &format!("disk of {who}"))),
            net,
            clock,
            time,
            program,
            boots: 0,
            newer: false,
            state: State::Off,
        }
    }

    /// Its node's number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Its drive.
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// Its clock.
    pub fn clock(&self) -> &WallClock {
        &self.clock
    }

    /// Whether a process runs on it.
    pub fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    /// Whether its process runs and is not paused.
    pub fn is_awake(&self, now_ms: u64) -> bool {
        matches!(&self.state, State::Running(process) if process.paused_until_ms <= now_ms)
    }

    /// Why its process stopped by itself, if it did.
    pub fn exited(&self) -> Option<&Result<(), String>> {
        match &self.state {
            State::Exited(why) => Some(why),
            State::Off | State::Running(_) => None,
        }
    }

    /// Whether its processes are, from the next start on, of a build that speaks the next version of the peers'
    /// protocol. Says whether that is a change.
    pub fn set_newer(&mut self, newer: bool) -> bool {
        std::mem::replace(&mut self.newer, newer) != newer
    }

    /// Whether its process is, or the next one will be, of such a build.
    pub fn is_newer(&self) -> bool {
        self.newer
    }

    /// Asks the process to end, as an operator would.
    pub fn ask_to_end(&self) {
        if let State::Running(process) = &self.state {
            trace::enter(self.time.now_ms(), self.who);
            process.stop.send_replace(true);
        }
    }

    /// Starts a process, if none runs.
    ///
    /// # Errors
    /// The operating system gives no runtime.
    pub fn start(&mut self) -> std::io::Result<()> {
        if self.is_running() {
            return Ok(());
        }
        trace::enter(self.time.now_ms(), self.who);
        let label = |what: &str| format!("{what} of {} start {}", self.who, self.boots);
        let work = Arc::new(Work::default());
        let counted = Arc::clone(&work);
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .on_before_task_poll(move |_| counted.count())
            .rng_seed(RngSeed::from_bytes(
                &Rng::fork(self.seed, &label("scheduler")).next().to_le_bytes(),
            ))
            .build()?;
        let (stop, stopping) = watch::channel(false);
        let network = self.net.attach(self.ip);
        let machine = Machine {
            id: self.id,
            boot: self.boots,
            disk: self.disk.mount(),
            network: if self.newer { network.newer() } else { network },
            clock: self.clock.clone(),
            entropy: Arc::new(SimEntropy::new(Rng::fork(self.seed, &label("entropy")))),
            time: self.time.clone(),
            stop: stopping,
        };
        self.boots += 1;
        timeline::note(What::Up);
        let local = LocalSet::new();
        let (main, began) = {
            let _entered = runtime.enter();
            (local.spawn_local((self.program)(machine)), Instant::now())
        };
        self.state = State::Running(Box::new(Process {
            local,
            main,
            runtime,
            began_ms: self.time.now_ms(),
            began,
            paused_until_ms: 0,
            stop,
            work,
        }));
        Ok(())
    }

    /// Lets the process run up to the present.
    pub fn run(&mut self) {
        let now_ms = self.time.now_ms();
        let State::Running(process) = &mut self.state else {
            return;
        };
        if process.paused_until_ms > now_ms {
            return;
        }
        trace::enter(now_ms, self.who);
        watchdog::turn(now_ms, self.who);
        let present = process.began + Duration::from_millis(now_ms - process.began_ms);
        let Process {
            local,
            main,
            runtime,
            work,
            ..
        } = &mut **process;
        work.polls.store(0, Ordering::Relaxed);
        let exited = runtime.block_on(local.run_until(until(present, main, work)));
        let asked = *process.stop.borrow();
        if let Some(result) = exited {
            trace::record(format_args!("process exits: {result:?}"));
            timeline::note(match &result {
                Ok(()) if asked => What::Down,
                _ => What::Stopped(result.as_ref().err().cloned().unwrap_or_default()),
            });
            self.disk.unmount();
            self.net.crash(self.ip, false);
            self.end(if asked && result.is_ok() {
                State::Off
            } else {
                State::Exited(result)
            });
        }
    }

    /// The process is gone. `loss` settles what it had written and not synced; without, the machine and its page
    /// cache live on. A `silent` machine sends nothing any more, not even that its connections are gone.
    pub fn crash(&mut self, silent: bool, loss: Option<Loss>) {
        trace::enter(self.time.now_ms(), self.who);
        match loss {
            Some(loss) => self.disk.crash(loss),
            None => self.disk.unmount(),
        }
        self.net.crash(self.ip, silent);
        timeline::note(What::Down);
        self.end(State::Off);
    }

    fn end(&mut self, next: State) {
        if let State::Running(process) = std::mem::replace(&mut self.state, next) {
            let Process {
                local, main, runtime, ..
            } = *process;
            {
                // Destructors may look for their runtime.
                let _entered = runtime.enter();
                drop(main);
                drop(local);
            }
            drop(runtime);
        }
    }

    /// The process does nothing for a while and then finds that time has passed.
    pub fn pause(&mut self, ms: u64) {
        if let State::Running(process) = &mut self.state {
            process.paused_until_ms = self.time.now_ms() + ms;
            trace::enter(self.time.now_ms(), self.who);
            timeline::note(What::Paused(process.paused_until_ms));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.disk.unmount();
        self.net.crash(self.ip, true);
        self.end(State::Off);
    }
}

/// Runs the process until its clock shows the present, or it exits, or is found to spin.
async fn until(
    present: Instant,
    main: &mut JoinHandle<Result<(), String>>,
    work: &Work,
) -> Option<Result<(), String>> {
    let behind = present.duration_since(Instant::now());
    if behind > TICK {
        // It was paused. Everything that was due in between is late, and due at once.
        tokio::time::advance(behind - TICK).await;
    }
    let mut sleep = std::pin::pin!(tokio::time::sleep_until(present));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(joined) = Pin::new(&mut *main).poll(cx) {
            return Poll::Ready(Some(joined.unwrap_or_else(|e| Err(e.to_string()))));
        }
        if work.is_too_much(cx.waker()) {
            let why = format!("{SPINS}: {POLLS_A_TICK} polls of tasks in {TICK:?}");
            return Poll::Ready(Some(Err(why)));
        }
        sleep.as_mut().poll(cx).map(|()| None)
    })
    .await
}
