// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two hosts, the link between them, and the clock.

use crate::{
    host::{Host, HostConfig},
    link::{Impairment, Link},
    random::Random,
    wire::{WirePort, WireSteer},
};
use std::{
    io,
    sync::{
        atomic::{AtomicU64, Ordering::Relaxed},
        Arc,
    },
};

/// A host of the world.
pub(crate) type SimHost = Host<WirePort, WireSteer>;

/// Longest jump of [`World::step`], microseconds.
const STEP_MAX_US: u64 = 1000;
/// The world's time begins here: one second, as nothing may depend on it being small.
pub(crate) const START_US: u64 = 1_000_000;

/// The world. Its time starts at one second.
pub struct World {
    /// The two hosts: 10.0.0.1 and 10.0.0.2.
    pub hosts: [Host<WirePort, WireSteer>; 2],
    /// From the first host to the second, and back.
    pub links: [Link; 2],
    pub(crate) ports: [WirePort; 2],
    pub(crate) random: Random,
    now_us: Arc<AtomicU64>,
}

impl World {
    /// Two hosts with a link of `delay_us` each way.
    ///
    /// # Errors
    /// No memory or descriptors to be had.
    pub fn new(seed: u64, delay_us: u64, impairment: Impairment) -> io::Result<Self> {
        Self::with(seed, delay_us, impairment, |config| config)
    }

    /// As [`Self::new`], with changes to the hosts' configuration.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with(
        seed: u64,
        delay_us: u64,
        impairment: Impairment,
        change: impl Fn(HostConfig) -> HostConfig,
    ) -> io::Result<Self> {
        let now_us = Arc::new(AtomicU64::new(START_US));
        let ports = [WirePort::default(), WirePort::default()];
        let host = |number: u8, port: &WirePort| {
            let config = change(HostConfig::numbered(number, seed));
            let lanes = port.lanes(config.cores);
            Host::with_cores(config, lanes, now_us.clone(), |_| ())
        };
        let hosts = [host(1, &ports[0])?, host(2, &ports[1])?];
        let links = [
            Link::new(ports[0].clone(), ports[1].clone(), delay_us, impairment),
            Link::new(ports[1].clone(), ports[0].clone(), delay_us, impairment),
        ];
        Ok(Self { hosts, links, ports, random: Random::new(seed), now_us })
    }

    /// Virtual time, microseconds.
    pub fn now_us(&self) -> u64 {
        self.now_us.load(Relaxed)
    }

    /// The world's randomness, for the applications' own choices.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// When the hosts or the links want to go on by themselves.
    pub fn next_us(&self) -> u64 {
        let hosts = self.hosts.iter().map(Host::next_run_us);
        let links = self.links.iter().filter_map(Link::next_arrival_us);
        hosts.chain(links).min().unwrap_or(u64::MAX)
    }

    /// Moves the clock to `at_us`, or by one microsecond.
    pub fn advance_to(&mut self, at_us: u64) {
        let now = self.now_us();
        self.now_us.store(at_us.max(now + 1), Relaxed);
    }

    /// Everything that is due now, then the clock moves to the next event, at most by a millisecond.
    ///
    /// # Errors
    /// What a host reports.
    pub fn step(&mut self) -> io::Result<()> {
        let now = self.now_us();
        for link in &mut self.links {
            link.deliver(now);
        }
        for host in &mut self.hosts {
            host.applications_ran();
            host.run()?;
            host.take_woken_contexts();
        }
        for link in &mut self.links {
            link.accept(now, &mut self.random);
        }
        self.advance_to(self.next_us().min(now + STEP_MAX_US));
        Ok(())
    }

    /// Steps until `done` says so: true; false if `limit_us` of virtual time passed first.
    ///
    /// # Errors
    /// What a host reports.
    pub fn run_until(&mut self, limit_us: u64, mut done: impl FnMut(&mut Self) -> bool) -> io::Result<bool> {
        let end = self.now_us() + limit_us;
        loop {
            self.step()?;
            if done(self) {
                return Ok(true);
            }
            if self.now_us() >= end {
                return Ok(false);
            }
        }
    }
}
