// SPDX-License-Identifier: MIT OR Apache-2.0
//! One core: its state, its loop, and what its shell calls.

use crate::{
    chunks::Application,
    config::Config,
    context::Contexts,
    flow::Flow,
    kernel::Kernel,
    lookup::Lookup,
    memory::{AttachError, Command, CoreMemory, Tables},
    pacing::Wheel,
    path_probe::PathProbes,
    port::{Batch, NoSteer, Port, Steer},
    private::Private,
    queue::Queue,
    shared::Shared,
    status::Status,
    strangers::Strangers,
    urgent::Urgent,
    word::Word,
};
use abi::{
    core_status::Counter,
    flow::{slot_state, NONE},
    limits::APPLICATIONS_MAX,
};
use ring::WakeFlag;
use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

/// A sleeping core looks this often at the rings that were full, microseconds.
const PARKED_RETRY_US: u64 = 1000;

/// What one [`Core::poll`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Frames received, steered ones included.
    pub received: u32,
    /// Frames given to the port.
    pub sent: u32,
    /// Ring entries taken, from applications and the slow path.
    pub entries: u32,
}

impl Work {
    /// True if there was nothing to do.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.received | self.sent | self.entries == 0
    }
}

/// One fast-path core. Not shared between threads; its thread owns it and calls [`Self::poll`] in a loop.
pub struct Core<'m, P: Port, S: Steer<P::Packet> = NoSteer> {
    pub(crate) config: Config,
    /// `config.mac` as a number.
    pub(crate) mac: u64,
    /// The port computes checksums.
    pub(crate) offload: bool,
    /// New flows are spread over the cores in software.
    pub(crate) spread: bool,
    pub(crate) now_us: u64,
    pub(crate) ip_id: u16,
    pub(crate) work: Work,
    pub(crate) status: Status<'m>,
    pub(crate) tables: Tables<'m>,
    pub(crate) private: Box<[Private]>,
    pub(crate) lookup: Lookup,
    pub(crate) kernel: Kernel<'m>,
    pub(crate) contexts: Contexts<'m>,
    pub(crate) applications: Vec<Option<Application<'m>>>,
    /// Some flow's event found its context unknown.
    pub(crate) unannounced: bool,
    /// Flows with something to send now.
    pub(crate) ready: Queue<u32>,
    /// Flows that may send later.
    pub(crate) wheel: Wheel,
    /// Flows with a reordering window to watch, and when it is over, µs.
    pub(crate) timers: BinaryHeap<Reverse<(u64, u32)>>,
    /// Data just received twice: flow, or [`NONE`], and positions. The next acknowledgement says so (RFC 2883).
    pub(crate) twice: (u32, u64, u64),
    /// Flows that hold a small segment back, and since when, µs.
    pub(crate) held: Queue<(u32, u32)>,
    /// Delayed acknowledgements: flow and since when, µs.
    pub(crate) acks: Queue<(u32, u32)>,
    /// Flows to acknowledge as soon as all of the burst is worked on.
    pub(crate) burst_acks: Queue<u32>,
    /// Flows whose application is owed an event.
    pub(crate) events: Queue<u32>,
    /// Flows with a probe of the path's MTU.
    pub(crate) path_probes: PathProbes,
    /// Flows with urgent data.
    pub(crate) urgent: Urgent,
    /// Taken while a burst is worked on, like the next.
    pub(crate) rx: Option<Box<Batch<P::Packet>>>,
    pub(crate) parsed: Option<Box<crate::classify::Parsed>>,
    /// Of segments without a flow.
    pub(crate) strangers: Strangers,
    pub(crate) tx: Batch<P::Packet>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) port: P,
    pub(crate) steer: S,
}

impl<'m, P: Port, S: Steer<P::Packet>> Core<'m, P, S> {
    /// Starts a core: takes the rings at the positions an earlier process left them, and every flow
    /// whose cold entry is INSTALLED on this core. `now_us` is TCP time ([`abi::clock`]).
    ///
    /// # Errors
    /// A setting out of range, or a region that is too short.
    pub fn new(
        config: Config,
        tables: Tables<'m>,
        memory: CoreMemory<'m>,
        shared: Arc<Shared>,
        port: P,
        steer: S,
        now_us: u64,
    ) -> Result<Self, AttachError> {
        config.check()?;
        if tables.cold.len() != tables.hot.len() {
            return Err(AttachError::TooShort("flow table"));
        }
        let kernel =
            Kernel::attach(&memory, config.mtu_bytes).ok_or(AttachError::TooShort("kernel rings"))?;
        let flows = tables.hot.len();
        let capabilities = port.capabilities();
        let mut core = Self {
            mac: config.mac.iter().fold(0, |mac, byte| mac << 8 | u64::from(*byte)),
            offload: capabilities.tx_checksum,
            spread: capabilities.steer_in_software,
            now_us,
            ip_id: now_us as u16,
            work: Work::default(),
            status: Status::new(memory.status, now_us),
            private: vec![Private::EMPTY; flows].into_boxed_slice(),
            lookup: Lookup::new(flows),
            kernel,
            contexts: Contexts::new(),
            applications: Vec::new(),
            unannounced: false,
            ready: Queue::new(flows),
            wheel: Wheel::new(now_us),
            timers: BinaryHeap::with_capacity(flows),
            twice: (NONE, 0, 0),
            held: Queue::new(flows),
            acks: Queue::new(flows),
            burst_acks: Queue::new(flows),
            events: Queue::new(flows),
            path_probes: PathProbes::default(),
            urgent: Urgent::default(),
            rx: Some(Box::default()),
            parsed: Some(Box::default()),
            strangers: Strangers::new(),
            tx: Batch::default(),
            config,
            tables,
            shared,
            port,
            steer,
        };
        for (id, (hot, cold)) in tables.hot.iter().zip(tables.cold).enumerate() {
            if cold.state.get() == slot_state::INSTALLED && cold.core.get() == core.config.core {
                core.take_over(Flow { id: id as u32, hot }, cold);
            }
        }
        Ok(core)
    }

    /// One iteration of the loop, in bounded time. `now_us` is TCP time; should it go back, time stands still.
    pub fn poll(&mut self, now_us: u64) -> Work {
        self.now_us = self.now_us.max(now_us);
        self.work = Work::default();
        self.status.begin(self.now_us);
        self.poll_port();
        if !self.acks.is_empty() {
            self.send_delayed_acks();
        }
        if !self.events.is_empty() || self.contexts.has_parked() {
            self.push_events();
        }
        self.poll_contexts();
        if !self.timers.is_empty() {
            self.run_timers();
        }
        if !self.held.is_empty() {
            self.release_held();
        }
        self.transmit_ready();
        self.poll_kernel();
        if !self.events.is_empty() {
            self.push_events();
        }
        self.flush();
        if !self.tx.is_empty() {
            // What the port has no room for is offered again; each time round counts once.
            self.status.add(Counter::TxFull, self.tx.len() as u64);
        }
        self.kernel.flush();
        self.work
    }

    /// Changes what the core works on; see [`Command`].
    ///
    /// # Errors
    /// An id above its limit or a region that is too short; nothing was changed then.
    pub fn command(&mut self, command: Command<'m>) -> Result<(), AttachError> {
        match command {
            Command::AddContext { context, application, memory } => {
                let opened = Contexts::open(context, application, &memory)
                    .ok_or(AttachError::TooShort("context rings"))?;
                self.remove_context(context);
                self.contexts.add(context, opened);
                self.announce_unannounced();
            }
            Command::RemoveContext { context } => self.remove_context(context),
            Command::AddPoolSegment { application, segment, bytes } => {
                if !self.application(application)?.add_pool(segment, bytes) {
                    return Err(AttachError::TooShort("pool segment"));
                }
            }
            Command::AddMapSegment { application, segment, words } => {
                if !self.application(application)?.add_maps(segment, words) {
                    return Err(AttachError::TooShort("map segment"));
                }
            }
            Command::RemoveApplication { application } => {
                if let Some(slot) = self.applications.get_mut(usize::from(application)) {
                    *slot = None;
                }
            }
        }
        Ok(())
    }

    /// The application's entry, made if there is none.
    fn application(&mut self, id: u16) -> Result<&mut Application<'m>, AttachError> {
        if u32::from(id) >= APPLICATIONS_MAX {
            return Err(AttachError::OutOfRange("application"));
        }
        let index = usize::from(id);
        if self.applications.len() <= index {
            self.applications.resize_with(index + 1, || None);
        }
        Ok(self.applications[index].get_or_insert_with(|| Application::new(id)))
    }

    /// Calls `wake` with the id of every context that sleeps and has got something since the last call.
    pub fn drain_wakes(&mut self, wake: impl FnMut(u16)) {
        let count = self.contexts.drain_wakes(wake);
        if count > 0 {
            self.status.add(Counter::Wakes, count as u64);
        }
    }

    /// True if the slow path sleeps and has got something since the last call: send it a wake-up.
    pub fn slow_path_needs_wake(&mut self) -> bool {
        self.kernel.take_pushed() && WakeFlag::new(&self.tables.clock.slowpath_waiting).is_armed()
    }

    /// True if the core has nothing to do before [`Self::next_deadline_us`] unless something arrives.
    pub fn may_sleep(&self) -> bool {
        self.ready.is_empty() && self.events.is_empty() && self.tx.is_empty()
    }

    /// TCP time at which the core must be polled even if nothing arrives; `None`: never.
    pub fn next_deadline_us(&self) -> Option<u64> {
        let ack = self.acks.first().map(|(_, since)| {
            let waited = (self.now_us as u32).wrapping_sub(since);
            self.now_us + u64::from(self.config.delayed_ack_us.saturating_sub(waited))
        });
        // Whoever does not read its ring may never tell when it has.
        let parked = self.contexts.has_parked().then(|| self.now_us + PARKED_RETRY_US);
        let recovery = self.timers.peek().map(|Reverse((at, _))| *at);
        let held = self.held_deadline_us();
        [ack, parked, recovery, held, self.wheel.deadline_us()].into_iter().flatten().min()
    }

    /// Announces that the core is about to sleep, then looks at every ring once more. True: sleep, until
    /// the port or the core's eventfd wakes it or [`Self::next_deadline_us`] comes, then call
    /// [`Self::finish_sleep`]. False: something is there, poll again. (The port's own queue is the shell's to re-check.)
    pub fn prepare_sleep(&mut self) -> bool {
        if !self.may_sleep() {
            return false;
        }
        let flag = self.status.wake_flag();
        flag.arm();
        if self.kernel.is_ready() || self.contexts.is_ready() || self.steer.is_ready() {
            flag.disarm();
            return false;
        }
        self.status.count(Counter::Sleeps);
        true
    }

    /// Awake again: the time since the last poll counts as run time. Also to be called when the shell
    /// decided not to sleep after [`Self::prepare_sleep`] said true.
    pub fn finish_sleep(&mut self, now_us: u64) {
        self.status.wake_flag().disarm();
        self.status.slept(now_us);
    }

    /// The core stops for good (an orderly end of the process): marks it as not running.
    pub fn stop(&mut self) {
        self.flush();
        self.status.stop();
    }

    /// The port, to ask it for its own things.
    pub fn port_mut(&mut self) -> &mut P {
        &mut self.port
    }

    /// The hand-over between cores.
    pub fn steer_mut(&mut self) -> &mut S {
        &mut self.steer
    }
}
