// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host under test, the wire to it, and the clock.

use super::{settings::Settings, sockets::Pump};
use crate::wire::{self, Frame, Parsed, Path};
use sim::{Host, HostConfig, WirePort};
use std::{
    collections::VecDeque,
    io,
    sync::{
        atomic::{AtomicU64, Ordering::Relaxed},
        Arc,
    },
};

/// Loops of the core at one instant: more than a close waits for with a full ring of last words.
const LOOPS: usize = 40;
/// The host's address.
pub(super) const LOCAL: u32 = 0x0a00_0001;
/// The peer that the script plays.
pub(super) const REMOTE: u32 = 0x0a00_0002;
const REMOTE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// When the script begins, microseconds: no time of the stack's may be zero by chance.
const START_US: u64 = 5_000_000;
const SEED: u64 = 0x7a5;
/// Rounds at one instant: far more than any exchange needs.
const ROUNDS_MAX: usize = 1000;

/// A segment that the host sent.
pub(super) struct Sent {
    pub(super) at_us: u64,
    pub(super) parsed: Parsed,
}

pub(super) struct World {
    pump: Pump,
    host: Host<WirePort>,
    port: WirePort,
    now_us: Arc<AtomicU64>,
    /// What the host sent and the script has not looked at.
    pub(super) sent: VecDeque<Sent>,
    /// The first frame that is wrong in itself.
    pub(super) malformed: Option<String>,
}

impl World {
    /// A host, with this process's sockets on it.
    pub(super) fn new(settings: &Settings) -> io::Result<Self> {
        let now_us = Arc::new(AtomicU64::new(START_US));
        let port = WirePort::default();
        let config = HostConfig::numbered(1, SEED);
        let mut host = Host::tuned(config, port.clone(), now_us.clone(), |body| settings.apply(body))?;
        let pump = Pump::attach(&host.application()?)?;
        host.carry_out_notices()?;
        let mut world = Self { pump, host, port, now_us, sent: VecDeque::new(), malformed: None };
        world.settle()?;
        Ok(world)
    }

    pub(super) fn now_us(&self) -> u64 {
        self.now_us.load(Relaxed)
    }

    /// Where the peer's frames come from and go to.
    pub(super) fn path(&self, remote_port: u16, local_port: u16) -> Path {
        Path {
            source: REMOTE,
            destination: LOCAL,
            source_port: remote_port,
            destination_port: local_port,
            source_mac: REMOTE_MAC,
            destination_mac: self.host.config().mac,
        }
    }

    /// The peer sends a frame.
    pub(super) fn inject(&self, frame: &[u8]) {
        self.port.inject(frame);
    }

    /// Runs what is due now, and takes what the host sent.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        for _ in 0..ROUNDS_MAX {
            self.pump.run();
            // A core that polls goes round many times between two instants: a close waits for that.
            self.host.spin(LOOPS);
            self.host.step()?;
            self.pump.run();
            let mut answered = false;
            while let Some(frame) = self.port.sent() {
                answered |= self.take(&frame);
            }
            // The slow path may have left something for the core after the core's last turn.
            if !answered && self.host.core_mut().prepare_sleep() {
                let now_us = self.now_us();
                self.host.core_mut().finish_sleep(now_us);
                break;
            }
        }
        Ok(())
    }

    /// Takes a frame of the host's. True: it was a question, and the answer is on its way.
    fn take(&mut self, frame: &[u8]) -> bool {
        match wire::decode(frame) {
            Ok(Frame::ArpRequest(address)) if address == REMOTE => {
                let config = self.host.config();
                self.inject(&wire::arp_reply(address, REMOTE_MAC, config.ipv4, config.mac));
                return true;
            }
            Ok(Frame::Tcp(parsed)) => self.sent.push_back(Sent { at_us: self.now_us(), parsed: *parsed }),
            Ok(_) => {}
            Err(text) => {
                self.malformed.get_or_insert(text);
            }
        }
        false
    }

    /// Moves the clock to the next thing that happens by itself, at most to `limit_us`.
    pub(super) fn advance(&mut self, limit_us: u64) -> io::Result<()> {
        let now = self.now_us();
        let next = self.host.next_deadline_us().map_or(limit_us, |deadline| deadline.min(limit_us));
        let next = next.max(now + 1).min(limit_us.max(now));
        self.now_us.store(next, Relaxed);
        // The core slept by its own will: time passed for it.
        self.host.core_mut().finish_sleep(next);
        self.settle()
    }

    /// The host's connections in words.
    pub(super) fn describe(&mut self) -> Vec<String> {
        self.host.describe_flows()
    }
}
