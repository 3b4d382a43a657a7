// SPDX-License-Identifier: MIT OR Apache-2.0
//! The thread of one core: the loop, and how the control thread talks to it.

use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Arc;
use std::thread::JoinHandle;

use abi::clock::ClockPage;
use anyhow::{anyhow, Context, Result};
use tas::control::ControlChannel;

use super::device::Device;
use super::eal::{pin_to, RegisteredThread};
use super::port::DpdkPort;
use super::steer::CoreSteer;
use super::wake::{CoreWake, RxInterrupt, Sleeper};
use crate::{AttachError, Command, Config, Core, CoreMemory, Shared, Tables};

/// What the kernel may take to wake a thread when its processor is free, microseconds.
const WAKE_SLACK_US: u64 = 200;

/// Commands for a core, with where to say that they were carried out.
struct Order {
    commands: Vec<Command<'static>>,
    done: Sender<Result<(), AttachError>>,
}

/// What a core's thread starts with.
pub(super) struct CoreStart {
    /// Settings.
    pub(super) config: Config,
    /// The tables.
    pub(super) tables: Tables<'static>,
    /// The core's own memory.
    pub(super) memory: CoreMemory<'static>,
    /// What the cores share.
    pub(super) shared: Arc<Shared>,
    /// The port.
    pub(super) device: Arc<Device>,
    /// To the other cores.
    pub(super) steer: CoreSteer,
    /// For wake-ups of contexts and of the slow path.
    pub(super) channel: Arc<dyn ControlChannel>,
    /// The clock.
    pub(super) clock: &'static ClockPage,
    /// What wakes every core, this one at index `config.core`.
    pub(super) wakes: Arc<Vec<CoreWake>>,
    /// Processor to stay on.
    pub(super) cpu: Option<usize>,
    /// Microseconds without work before the core sleeps; `None`: never.
    pub(super) poll_interval_us: Option<u64>,
    /// Carried out before the first poll.
    pub(super) commands: Vec<Command<'static>>,
}

/// The control thread's handle on a core.
pub(super) struct CoreHandle {
    orders: Sender<Order>,
    signs: Arc<Signs>,
    wakes: Arc<Vec<CoreWake>>,
    core: usize,
    thread: Option<JoinHandle<Result<u64>>>,
}

/// What the core looks at in every iteration: one cache line, rarely written.
#[derive(Default)]
struct Signs {
    order_waits: AtomicBool,
    stop: AtomicBool,
}

impl CoreHandle {
    /// Starts the thread; returns when the core is about to poll.
    ///
    /// # Errors
    /// The core could not be set up.
    pub(super) fn start(start: CoreStart) -> Result<Self> {
        let (orders, inbox) = channel();
        let (started, ready) = channel();
        let signs = Arc::new(Signs::default());
        let core = start.config.core as usize;
        let wakes = Arc::clone(&start.wakes);
        let theirs = Arc::clone(&signs);
        let thread = std::thread::Builder::new()
            .name(format!("tas-core-{core}"))
            .spawn(move || run(start, &theirs, &inbox, &started))
            .context("thread")?;
        let mut handle = Self { orders, signs, wakes, core, thread: Some(thread) };
        match ready.recv() {
            Ok(()) => Ok(handle),
            // The sender is gone: the thread ended with an error.
            Err(_) => Err(handle.join().err().unwrap_or_else(|| anyhow!("core {core} ended at once"))),
        }
    }

    /// Sends commands without waiting for them; [`Pending::wait`] does.
    pub(super) fn send(&self, commands: Vec<Command<'static>>) -> Pending {
        let (done, answer) = channel();
        // A core that ended drops its inbox; wait() then sees the answer's sender gone.
        let _ = self.orders.send(Order { commands, done });
        self.signs.order_waits.store(true, Release);
        self.wake();
        Pending { answer, core: self.core }
    }

    /// True if the thread has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Tells the core to stop; does not wait.
    pub(super) fn stop(&self) {
        self.signs.stop.store(true, Release);
        self.wake();
    }

    fn wake(&self) {
        if let Some(wake) = self.wakes.get(self.core) {
            wake.signal();
        }
    }

    /// Waits for the thread's end; how many frames its end of the port dropped.
    ///
    /// # Errors
    /// Why it ended early.
    pub(super) fn join(&mut self) -> Result<u64> {
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(0),
            Some(Ok(result)) => result.with_context(|| format!("core {}", self.core)),
            Some(Err(_)) => Err(anyhow!("core {} panicked (see above)", self.core)),
        }
    }
}

/// Commands on their way.
pub(super) struct Pending {
    answer: Receiver<Result<(), AttachError>>,
    core: usize,
}

impl Pending {
    /// Waits until the core has carried them out; it then holds no reference to what they removed.
    ///
    /// # Errors
    /// The core refused one, or has ended.
    pub(super) fn wait(self) -> Result<()> {
        let answer = self.answer.recv().map_err(|_| anyhow!("core {} has ended", self.core))?;
        answer.with_context(|| format!("core {}", self.core))
    }
}

type DpdkCore = Core<'static, DpdkPort, CoreSteer>;

struct Loop<'a> {
    core: DpdkCore,
    clock: &'static ClockPage,
    channel: &'a dyn ControlChannel,
    sleeper: Sleeper,
    poll_interval_us: Option<u64>,
    now_us: u64,
    last_work_us: u64,
}

fn run(start: CoreStart, signs: &Signs, inbox: &Receiver<Order>, started: &Sender<()>) -> Result<u64> {
    if let Some(cpu) = start.cpu {
        pin_to(cpu)?;
    }
    let _registered = RegisteredThread::new()?;
    let queue = start.config.core as u16;
    let wake = start.wakes.get(usize::from(queue)).context("no wake-up for this core")?;
    let sleeper = wake.sleeper(RxInterrupt::of(&start.device, queue));
    let port = DpdkPort::new(&start.device, queue)?;
    let now_us = start.clock.microseconds(dpdk_sys::rdtsc());
    let core = Core::new(start.config, start.tables, start.memory, start.shared, port, start.steer, now_us)?;
    let mut state = Loop {
        core,
        clock: start.clock,
        channel: &*start.channel,
        sleeper,
        poll_interval_us: start.poll_interval_us,
        now_us,
        last_work_us: now_us,
    };
    for command in start.commands {
        state.core.command(command)?;
    }
    let _ = started.send(());
    while !signs.stop.load(Acquire) {
        if signs.order_waits.swap_if_set() {
            state.carry_out(inbox);
        }
        state.iterate();
    }
    state.core.stop();
    Ok(state.core.port_mut().dropped())
}

trait SwapIfSet {
    fn swap_if_set(&self) -> bool;
}

impl SwapIfSet for AtomicBool {
    /// Takes the flag; only a load while it is not set.
    #[inline]
    fn swap_if_set(&self) -> bool {
        self.load(Relaxed) && self.swap(false, Acquire)
    }
}

impl Loop<'_> {
    #[inline]
    fn tick(&mut self) {
        // Never back, even where this thread moves between processors whose counters differ.
        self.now_us = self.clock.microseconds(dpdk_sys::rdtsc()).max(self.now_us);
    }

    #[inline]
    fn iterate(&mut self) {
        self.tick();
        let work = self.core.poll(self.now_us);
        self.send_wakes();
        if !work.is_idle() {
            self.last_work_us = self.now_us;
            self.sleeper.busy();
        } else if let Some(interval) = self.poll_interval_us {
            if self.now_us.saturating_sub(self.last_work_us) >= interval {
                self.try_sleep();
            }
        }
    }

    #[inline]
    fn send_wakes(&mut self) {
        let channel = self.channel;
        // A context that is just being removed has no wake-up any more.
        self.core.drain_wakes(|context| drop(channel.wake_context(u32::from(context))));
        if self.core.slow_path_needs_wake() {
            // The control thread finds out when the slow path is gone.
            let _ = channel.wake_slowpath();
        }
    }

    #[cold]
    fn try_sleep(&mut self) {
        if !self.core.may_sleep() || !self.core.prepare_sleep() {
            return;
        }
        self.send_wakes();
        self.sleeper.arm();
        let asleep_us = self.now_us;
        let mut limit_us = 0;
        if !self.core.port_mut().look() {
            let timeout = self.core.next_deadline_us().map(|deadline| deadline.saturating_sub(asleep_us));
            limit_us = self.sleeper.sleep(timeout);
        }
        self.sleeper.disarm();
        self.tick();
        // Waking later than that was not the core's will: its processor was busy with others.
        self.core.finish_sleep(self.now_us.min(asleep_us + limit_us + WAKE_SLACK_US));
    }

    #[cold]
    fn carry_out(&mut self, inbox: &Receiver<Order>) {
        while let Ok(order) = inbox.try_recv() {
            let result = order.commands.into_iter().try_for_each(|command| self.core.command(command));
            // Nobody may wait any more: at the end of the process.
            let _ = order.done.send(result);
        }
    }
}
