// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The slow path as a value: its parts, its clock and its timers.

use crate::{
    applications::{Application, Context},
    config::Config,
    connection::Connection,
    counters::{Counter, Counters},
    discovery::Duplicates,
    errno::Errno,
    fragments::Reassemblies,
    lookup::Lookup,
    membership::Membership,
    neighbors::Neighbor,
    ports::Ports,
    queues::{frame_room, CoreQueue, Frame, FrameRoom, Last},
    random::{Random, SipKey},
    records::RecordSegment,
    routes::Routes,
    socket::Socket,
    storage::{Private, Sizes, Storage},
    table::Table,
    tcp::{
        fast_connect::{Destination, SynData},
        half_open::HalfOpen,
        limits::Limiter,
        path::Path,
        time_wait::TimeWait,
    },
    timers::{Numbering, Popped, Timer, Wheel},
};
use abi::{
    adjacency::Adjacency,
    core_status::CoreStatus,
    flow::{ColdFlow, HotFlow, NONE},
    limits::CORES_MAX,
};

/// Steps of the timing wheel in one call of `handle_timer`: bounds the time under the shell's lock.
const TIMER_BATCH: u32 = 256;

/// The slow path of one instance.
pub struct Stack<'m> {
    pub(crate) config: Config,
    pub(crate) hot: &'m [HotFlow],
    pub(crate) cold: &'m [ColdFlow],
    pub(crate) adjacencies: &'m [Adjacency],
    pub(crate) cores: [Option<&'m CoreStatus>; CORES_MAX as usize],

    pub(crate) connections: Table<'m, Connection>,
    pub(crate) sockets: Table<'m, Socket>,
    pub(crate) half_open: Table<'m, HalfOpen>,
    pub(crate) time_wait: Table<'m, TimeWait>,
    pub(crate) lookup: Lookup<'m>,
    pub(crate) wheel: Wheel<'m>,
    pub(crate) numbering: Numbering,
    pub(crate) neighbors: Table<'m, Neighbor>,
    pub(crate) routes: Routes<'m>,
    pub(crate) ports: Ports<'m>,
    pub(crate) applications: Table<'m, Application>,
    pub(crate) contexts: Table<'m, Context>,
    pub(crate) records: Table<'m, RecordSegment>,
    pub(crate) frames: Table<'m, Frame>,
    pub(crate) frame_bytes: FrameRoom<'m>,
    pub(crate) queues: Table<'m, CoreQueue>,
    pub(crate) paths: Table<'m, Path>,
    pub(crate) destinations: Table<'m, Destination>,
    pub(crate) syn_data: Table<'m, SynData>,
    pub(crate) reassemblies: Reassemblies<'m>,

    /// Whether there is a fast path, its process, and how many there were.
    pub(crate) attached: bool,
    pub(crate) pid: u32,
    pub(crate) epoch: u32,
    /// TCP time; and TCP time without the time in which there was no fast path, which timers use.
    pub(crate) clock_us: u64,
    pub(crate) now_us: u64,
    pub(crate) frozen_us: u64,
    /// When to try full rings again, TCP time.
    pub(crate) retry_us: Option<u64>,
    pub(crate) last: Last,

    /// Heads of free lists.
    pub(crate) connection_free: u32,
    pub(crate) socket_free: u32,
    pub(crate) half_open_free: u32,
    pub(crate) time_wait_free: u32,
    pub(crate) frame_free: u32,
    pub(crate) segment_free: u32,
    pub(crate) syn_data_free: u32,
    /// TIME-WAIT by age; contexts with events owed, and those whose ring was full; dead applications.
    pub(crate) time_wait_head: u32,
    pub(crate) time_wait_tail: u32,
    pub(crate) context_head: u32,
    pub(crate) context_tail: u32,
    pub(crate) stalled_head: u32,
    pub(crate) dead_head: u32,
    /// What is in use.
    pub(crate) connections_used: u32,
    pub(crate) half_open_used: u32,
    pub(crate) time_wait_used: u32,
    pub(crate) application_count: u32,
    pub(crate) context_count: u32,
    pub(crate) listeners: u32,
    pub(crate) orphans: u32,
    pub(crate) sampled: u32,

    pub(crate) counters: Counters<'m>,
    pub(crate) random: Random,
    pub(crate) sequence_key: SipKey,
    pub(crate) answers: Limiter,
    pub(crate) challenge_limit: Limiter,
    pub(crate) duplicates: Duplicates,
    pub(crate) membership: Membership,
}

/// Threads a free list through a whole table; its head.
fn thread<T: Copy + Default>(table: &mut Table<'_, T>, link: impl Fn(&mut T, u32)) -> u32 {
    let mut head = NONE;
    for id in (0..table.len()).rev() {
        link(table.at_mut(id), head);
        head = id;
    }
    head
}

/// Whether every private table is as large as the configuration needs.
fn is_large_enough(private: &Private<'_>, config: &Config) -> bool {
    let sizes = Sizes::of(config);
    macro_rules! all {
        ($($field:ident: $type:ty,)+) => { $(private.$field.len() >= sizes.$field)&&+ };
    }
    crate::private_tables!(all)
}

impl<'m> Stack<'m> {
    /// A slow path over `storage`, without a fast path, at TCP time `now_us`. The hot and cold tables
    /// are taken as empty.
    ///
    /// # Errors
    /// EINVAL: a table is smaller than `Sizes::of(&config)` says.
    pub fn new(now_us: u64, config: Config, storage: Storage<'m>) -> Result<Self, Errno> {
        let flows = config.flows as usize;
        let shared = storage.hot.len() >= flows && storage.cold.len() >= flows;
        if !shared || !is_large_enough(&storage.private, &config) {
            return Err(Errno::EINVAL);
        }
        let private = storage.private;
        let [key0, key1, key2, key3] = config.secret;
        let none = Errno::EINVAL;
        let room = frame_room(config.mtu_bytes);
        let slots = config.flows.saturating_add(1) as usize;
        let connections = private.connections.get_mut(..slots).ok_or(none)?;
        let mut connections = Table::new(connections).ok_or(none)?;
        let mut sockets = Table::new(private.sockets).ok_or(none)?;
        let mut half_open = Table::new(private.half_open).ok_or(none)?;
        let mut time_wait = Table::new(private.time_wait).ok_or(none)?;
        let mut frames = Table::new(private.frames).ok_or(none)?;
        let mut records = Table::new(private.records).ok_or(none)?;
        let mut syn_data = Table::new(private.syn_data).ok_or(none)?;
        let neighbors = Table::new(private.neighbors).ok_or(none)?;
        let key = SipKey(key0, key1);
        let lookup = Lookup::new(private.buckets, private.nodes, config.flows, half_open.len(), key);
        // Nothing is built twice: this value is larger than a frame of the kernel's stack should be.
        Ok(Self {
            connection_free: thread(&mut connections, |entry, next| entry.next = next),
            socket_free: thread(&mut sockets, |entry, next| entry.app_next = next),
            half_open_free: thread(&mut half_open, |entry, next| entry.next = next),
            time_wait_free: thread(&mut time_wait, |entry, next| entry.next = next),
            frame_free: thread(&mut frames, |entry, next| entry.next = next),
            segment_free: thread(&mut records, |entry, next| entry.next = next),
            syn_data_free: thread(&mut syn_data, |entry, next| entry.next = next),
            numbering: Numbering {
                flows: config.flows,
                half_open: half_open.len(),
                neighbors: neighbors.len(),
            },
            lookup: lookup.ok_or(none)?,
            wheel: Wheel::new(private.timers, private.wheel, now_us).ok_or(none)?,
            routes: Routes::new(private.routes).ok_or(none)?,
            ports: Ports::new(private.ports).ok_or(none)?,
            applications: Table::new(private.applications).ok_or(none)?,
            contexts: Table::new(private.contexts).ok_or(none)?,
            queues: Table::new(private.queues).ok_or(none)?,
            paths: Table::new(private.paths).ok_or(none)?,
            destinations: Table::new(private.destinations).ok_or(none)?,
            syn_data,
            frame_bytes: FrameRoom::new(private.frame_bytes, room),
            reassemblies: Reassemblies::new(
                private.reassemblies,
                FrameRoom::new(private.reassembly_bytes, room),
            ),
            connections,
            sockets,
            half_open,
            time_wait,
            frames,
            records,
            neighbors,
            config,
            hot: storage.hot,
            cold: storage.cold,
            adjacencies: storage.adjacencies,
            cores: storage.cores,
            attached: false,
            pid: 0,
            epoch: 0,
            clock_us: now_us,
            now_us,
            frozen_us: 0,
            retry_us: None,
            last: Last::Nothing,
            time_wait_head: NONE,
            time_wait_tail: NONE,
            context_head: NONE,
            context_tail: NONE,
            stalled_head: NONE,
            dead_head: NONE,
            connections_used: 0,
            half_open_used: 0,
            time_wait_used: 0,
            application_count: 0,
            context_count: 0,
            listeners: 0,
            orphans: 0,
            sampled: 0,
            counters: Counters::new(private.counters),
            random: Random::new(SipKey(key2, key3)),
            sequence_key: SipKey(key0 ^ key2, key1 ^ key3),
            answers: Limiter::answers(),
            challenge_limit: Limiter::challenges(),
            duplicates: Duplicates::default(),
            membership: Membership::default(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Value of a counter.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters.get(counter)
    }

    /// Every call begins here: time goes forward only, and timers' time only with a fast path.
    pub(crate) fn enter(&mut self, now_us: u64) {
        self.clock_us = self.clock_us.max(now_us);
        if self.attached {
            self.now_us = self.clock_us.saturating_sub(self.frozen_us);
        }
    }

    /// Sets a timer to expire after `delay_us`.
    pub(crate) fn set_timer(&mut self, timer: Timer, delay_us: u64) {
        let at_us = self.now_us.saturating_add(delay_us);
        self.wheel.set(self.numbering.node(timer), at_us);
    }

    /// Cancels a timer, if it is set.
    pub(crate) fn cancel_timer(&mut self, timer: Timer) {
        self.wheel.cancel(self.numbering.node(timer));
    }

    /// Carries out what is due, at most some hundred timers; call again if `next_deadline` is past.
    pub fn handle_timer(&mut self, now_us: u64) {
        self.enter(now_us);
        if self.retry_us.is_some_and(|at| at <= self.clock_us) {
            self.retry_us = None;
        }
        if self.has_dead_sockets() {
            self.release_dead_sockets();
        }
        if !self.attached {
            return;
        }
        for _ in 0..TIMER_BATCH {
            match self.wheel.pop(self.now_us) {
                Popped::Expired(node) => self.expired(self.numbering.timer(node)),
                Popped::Moved => {}
                Popped::Nothing => break,
            }
        }
    }

    fn expired(&mut self, timer: Timer) {
        match timer {
            Timer::Sample(flow) => self.sample(flow),
            Timer::Lifecycle(flow) => self.lifecycle_timer(flow),
            Timer::SynAck(id) => self.syn_ack_timer(id),
            Timer::Neighbor(id) => self.neighbor_timer(id),
            Timer::TimeWait => self.time_wait_timer(),
            Timer::Membership => self.membership_timer(),
            Timer::Reassembly => self.reassembly_timer(),
        }
    }

    /// When `handle_timer` wants to be called, in TCP time; `None`: nothing is waiting.
    pub fn next_deadline(&self) -> Option<u64> {
        if self.has_dead_sockets() {
            return Some(self.clock_us);
        }
        let timers = if self.attached { self.wheel.deadline_us() } else { None };
        let timers = timers.map(|at| at.saturating_add(self.frozen_us));
        match (timers, self.retry_us) {
            (Some(timers), Some(retry)) => Some(timers.min(retry)),
            (timers, retry) => timers.or(retry),
        }
    }
}
