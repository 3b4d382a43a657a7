// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two hosts, a link, and a third party on it.

use abi::{
    core_status::Counter,
    flow::{hot_flags, HotFlow},
    message::{Message, Op, SlowCounters},
    region::{Region, RegionKind},
};
use sim::{Host, HostConfig, Random, WirePort};
use std::{
    collections::VecDeque,
    sync::{
        atomic::{AtomicU64, Ordering::Relaxed},
        Arc,
    },
};
use tas::control::{ControlChannel, Target};
use wire::{Lane, Spec};

/// The host under attack.
pub const TARGET: u32 = 0x0a00_0001;
/// The honest host.
pub const HONEST: u32 = 0x0a00_0002;
/// The attacker's card.
pub const ATTACKER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x66];
/// The link between the two hosts.
const LINK: &str = "rate=100mbit,delay=100us,queue=200";
/// Most that virtual time advances at once.
const STEP_MAX_US: u64 = 1000;
/// A /8, so that an attacker has addresses to choose from.
const PREFIX: u32 = 8;

/// The arena.
pub struct Arena {
    /// The host under attack and the honest one.
    pub hosts: [Host<WirePort>; 2],
    /// Frames to the attacker's card, and broadcasts.
    pub heard: VecDeque<Vec<u8>>,
    /// The attacker's choices.
    pub random: Random,
    ports: [WirePort; 2],
    lanes: [Lane; 2],
    now_us: Arc<AtomicU64>,
    observer: Arc<sim::InProcess>,
}

impl Arena {
    /// An arena whose every choice follows from `seed`.
    ///
    /// # Panics
    /// The hosts cannot be made.
    pub fn new(seed: u64) -> Self {
        let now_us = Arc::new(AtomicU64::new(1_000_000));
        let ports = [WirePort::default(), WirePort::default()];
        let host = |number: u8| {
            let config = HostConfig { prefix: PREFIX, ..HostConfig::numbered(number, seed) };
            Host::new(config, ports[usize::from(number) - 1].clone(), now_us.clone()).expect("a host")
        };
        let mut hosts = [host(1), host(2)];
        let spec: Spec = LINK.parse().expect("a specification");
        let lanes = [0, 1].map(|direction| Lane::new(spec.lanes[0], seed, direction));
        let observer = hosts[0].channel().expect("a channel");
        let attach = abi::message::AttachControl {
            abi_hash: abi::version::CONTROL_HASH,
            version: abi::version::CONTROL_VERSION,
            ..Default::default()
        };
        let mut message = Message::with(Op::AttachControl, 0, &attach);
        observer.call(Target::Instance, &mut message, None).expect("an observer");
        let random = Random::new(seed ^ 0xa77a);
        Self { hosts, heard: VecDeque::new(), random, ports, lanes, now_us, observer }
    }

    /// Virtual time, microseconds.
    pub fn now_us(&self) -> u64 {
        self.now_us.load(Relaxed)
    }

    /// The attacker sends a frame to the host under attack.
    pub fn inject(&self, frame: &[u8]) {
        self.ports[0].inject(frame);
    }

    /// Everything that is due now; then time moves to the next event, or to `end_us`.
    ///
    /// # Panics
    /// A host reports an error.
    pub fn step(&mut self, end_us: u64) {
        let now_us = self.now_us();
        for from in [0, 1] {
            while let Some(frame) = self.lanes[from].arrived(now_us * 1000) {
                self.ports[1 - from].inject(frame);
                self.lanes[from].delivered();
            }
        }
        for host in &mut self.hosts {
            host.step().expect("a host's step");
        }
        self.carry(now_us);
        let deadlines = self.hosts.each_mut().map(|host| host.next_deadline_us());
        let arrivals = self.lanes.each_ref().map(|lane| lane.next_arrival_ns().map(|ns| ns.div_ceil(1000)));
        let next = deadlines.into_iter().chain(arrivals).flatten().min().unwrap_or(u64::MAX);
        self.now_us.store(next.min(now_us + STEP_MAX_US).min(end_us).max(now_us + 1), Relaxed);
    }

    /// What the hosts sent goes where its destination address says.
    fn carry(&mut self, now_us: u64) {
        for from in [0, 1] {
            while let Some(frame) = self.ports[from].sent() {
                let to = frame.first_chunk::<6>().copied().unwrap_or_default();
                let is_group = to[0] & 1 != 0;
                if is_group || to == ATTACKER_MAC {
                    self.heard.push_back(frame.clone());
                }
                // Broadcasts do not compete with the victim for the link: what is looked at is the hosts.
                if is_group {
                    self.ports[1 - from].inject(&frame);
                } else if to == self.hosts[1 - from].config().mac {
                    self.lanes[from].offer(now_us * 1000, frame);
                }
            }
        }
    }

    /// A counter of the fast path under attack.
    pub fn fast(&self, counter: Counter) -> u64 {
        self.hosts[0].status().counters[counter as usize].load(Relaxed)
    }

    /// A counter of the slow path under attack, by the name that `tasctl` prints.
    ///
    /// # Panics
    /// There is no such counter.
    pub fn slow(&self, name: &str) -> u64 {
        let number = slowpath::counters::NAMES.iter().position(|known| *known == name).expect("a counter");
        let mut message = Message::new(Op::SlowCounters, number as u32);
        self.observer.call(Target::Instance, &mut message, None).expect("SLOW_COUNTERS");
        message.get::<SlowCounters>().values[0]
    }

    /// Copies of the installed flows with the peer `remote_ip` on the host under attack: what an attacker
    /// who has found out everything would know.
    pub fn flows_with(&self, remote_ip: u32) -> Vec<Known> {
        let count = self.hosts[0].config().flows as usize;
        let memory = self.hosts[0].instance().region(Region::whole(RegionKind::FlowHot, 0));
        let Some(memory) = memory else { return Vec::new() };
        let table = memory.table::<HotFlow>(0, count).unwrap_or(&[]);
        let here = |flow: &&HotFlow| {
            flow.remote_ip.load(Relaxed) == remote_ip && flow.flags.load(Relaxed) & hot_flags::INSTALLED != 0
        };
        table.iter().filter(here).map(Known::of).collect()
    }
}

/// State of a flow on the host under attack.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Port of the host under attack.
    pub local_port: u16,
    /// Port of its peer.
    pub remote_port: u16,
    /// Next number expected from the peer.
    pub rcv_nxt: u32,
    /// Right edge of the window offered.
    pub rcv_adv: u32,
    /// Oldest unacknowledged number.
    pub snd_una: u32,
    /// Highest number sent.
    pub snd_max: u32,
    /// The last timestamp taken from the peer.
    pub ts_recent: u32,
}

impl Known {
    fn of(flow: &HotFlow) -> Self {
        let ports = flow.ports.load(Relaxed);
        Self {
            local_port: (ports >> 16) as u16,
            remote_port: ports as u16,
            rcv_nxt: flow.rcv_nxt.load(Relaxed) as u32,
            rcv_adv: flow.rcv_adv.load(Relaxed),
            snd_una: flow.snd_una.load(Relaxed) as u32,
            snd_max: flow.snd_max.load(Relaxed) as u32,
            ts_recent: flow.ts_recent.load(Relaxed),
        }
    }
}
