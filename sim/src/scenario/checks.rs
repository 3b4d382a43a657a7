// SPDX-License-Identifier: MIT OR Apache-2.0
//! What must hold when the connections are over.

use super::Scenario;
use crate::{
    actor::Closed,
    coverage::{Coverage, Fault, Sometimes},
    plan::{Connect, Death, Trouble},
    world::SimHost,
};
use slowpath::Usage;
use std::sync::atomic::Ordering::Relaxed;

/// After the last close: FIN-WAIT-2 of an orphan lasts a minute, a half-open connection as long as its
/// retries, an orphan that cannot send ten minutes.
const DIE_DOWN_US: u64 = 800_000_000;
/// Between two looks at what is left.
const LOOK_US: u64 = 20_000;
/// Iterations of a core's loop after which nothing waits for it any more (`tas::lowlevel`'s quarantine).
const SPINS: usize = 2100;

/// Longest wait of a flow in a queue of the fast path: one frame at the lowest rate, 1 Mbit/s, and a delayed ACK.
const QUEUES_US: u64 = 50_000;

impl Scenario<'_> {
    /// Every connection that nothing was done to delivered every byte; every error has a cause.
    pub(super) fn check_results(&self) -> Result<(), String> {
        let crowded = self.world.hosts.iter().any(has_ended_orphans);
        for (number, connect) in self.plan.connections.iter().enumerate() {
            let [client, server] = &self.board.results[number];
            let excused = crowded || self.plan.may_fail(connect) || self.was_disturbed(number);
            for (name, own, peer, index) in [("client", client, server, 0), ("server", server, client, 1)] {
                let complain =
                    |what: &str| Err(format!("connection {number}: {what}: {name} {own:?} peer {peer:?}"));
                let Some(own) = own else {
                    if excused {
                        continue;
                    }
                    return complain("has no such end");
                };
                let wanted = connect.sides[1 - index].bytes;
                if let Some(what) =
                    unclean(own, peer.as_ref(), wanted, excused, self.is_unsure(connect, index))
                {
                    return complain(what);
                }
            }
            if connect.server.is_none() && client.is_some_and(|closed| closed.error != libc::ECONNREFUSED) {
                let gave_up = connect.gives_up_us.is_some();
                let dead = self.plan.processes[connect.client].death.is_some();
                let cut = self.plan.troubles.iter().any(|(_, trouble)| matches!(trouble, Trouble::Cut(_)));
                if !gave_up && !dead && !cut && !self.was_disturbed(number) {
                    return Err(format!("connection {number} to a closed port: {client:?}"));
                }
            }
        }
        Ok(())
    }

    /// An exact RST was forged for the connection.
    fn was_disturbed(&self, number: usize) -> bool {
        self.board.disturbed.iter().any(|key| self.board.pairs.get(key) == Some(&number))
    }

    /// Whether nothing can be said of what the peer of an end sends: it lies; or its process ended on a host whose
    /// fast path is killed too. (Last words that no fast path has heard are lost at present, see
    /// docs/simulation.md.)
    fn is_unsure(&self, connect: &Connect, index: usize) -> bool {
        let peer = if index == 0 { connect.server } else { Some(connect.client) };
        let Some(peer) = peer.map(|peer| &self.plan.processes[peer]) else {
            return false;
        };
        let killed =
            |(_, trouble): &(u64, Trouble)| matches!(trouble, Trouble::Kill(host, _) if *host == peer.host);
        match peer.death {
            Some((_, Death::Lie)) => true,
            Some((_, Death::Crash)) => self.plan.troubles.iter().any(killed),
            None => false,
        }
    }

    /// Closes the listeners, then waits until nothing is left of any connection.
    pub(super) fn die_down(&mut self) -> Result<(), String> {
        for actor in &mut self.actors {
            actor.stop_listening();
            // Descriptors that wait for acknowledgements are closed by polling.
            actor.wake();
        }
        for host in &mut self.world.hosts {
            host.applications_ran();
        }
        let end = self.world.now_us() + DIE_DOWN_US;
        let mut look_at = self.world.now_us();
        let mut pause = LOOK_US;
        loop {
            self.instant()?;
            let now = self.world.now_us();
            if now < look_at || !self.returns.is_empty() {
                continue;
            }
            let busy = self.world.hosts.iter().any(SimHost::has_connections);
            let usage = |host: &SimHost| if busy && now <= end { None } else { host.slow_usage() };
            let left: Vec<Usage> = self.world.hosts.iter().filter_map(usage).collect();
            if !busy && left.iter().all(|usage| *usage == Usage::default()) {
                return Ok(());
            }
            if now > end {
                return Err(format!("something is left of closed connections: {left:?}"));
            }
            look_at = now + pause;
            pause = (2 * pause).min(2_000_000);
        }
    }

    /// Every chunk and block is free again; then the processes end, and nothing is left of them either.
    pub(super) fn check_leaks(&mut self) -> Result<(), String> {
        for h in 0..2 {
            self.world.hosts[h].spin(SPINS);
        }
        for actor in &mut self.actors {
            actor.wake();
        }
        self.instant()?;
        for actor in &mut self.actors {
            actor.leave_context();
        }
        self.instant()?;
        for actor in self.actors.iter().filter(|actor| !actor.dead) {
            let (all, free) = actor.application.transmit_chunks();
            if all != free {
                return Err(format!("host {}: {} of {all} transmit chunks are lost", actor.host, all - free));
            }
        }
        for h in 0..2 {
            self.check_fast_path(h)?;
        }
        for actor in &mut self.actors {
            actor.end(&mut self.world);
        }
        for _ in 0..4 {
            self.instant()?;
        }
        for (h, host) in self.world.hosts.iter().enumerate() {
            let status = host.slow_status().ok_or("no status")?;
            if (status.applications, status.contexts) != (0, 0) {
                return Err(format!(
                    "host {h}: {} applications and {} contexts are left",
                    status.applications, status.contexts
                ));
            }
        }
        Ok(())
    }

    /// Nothing is left in the fast path of a host. A flow that goes while it waits for its time to send or to
    /// acknowledge leaves its place in the queue, which is skipped when that time comes: until then the world goes on.
    fn check_fast_path(&mut self, h: usize) -> Result<(), String> {
        let end = self.world.now_us() + QUEUES_US;
        loop {
            let alive = self.actors.iter().filter(|actor| actor.host == h && !actor.dead);
            let alive: Vec<u16> = alive.map(|actor| actor.application.id() as u16).collect();
            let left = self.world.hosts[h].fast_usage(&alive).unwrap_or_default();
            if left == fastpath::Usage::default() {
                return Ok(());
            }
            let waits = fastpath::Usage { scheduled: 0, acknowledgements: 0, ..left };
            if waits != fastpath::Usage::default() || self.world.now_us() > end {
                return Err(format!("host {h}: something is left in the fast path: {left:?}"));
            }
            self.instant()?;
        }
    }

    /// What the links and the hosts count themselves.
    pub(super) fn count_faults(&mut self) {
        let coverage = &mut self.board.coverage;
        for link in &self.world.links {
            let stats = &link.stats;
            for (fault, count) in [
                (Fault::Loss, stats.lost),
                (Fault::BurstLoss, stats.burst_lost),
                (Fault::QueueLoss, stats.queue_lost),
                (Fault::Outage, stats.outage_lost),
                (Fault::Crossing, stats.crossed),
                (Fault::Duplicate, stats.duplicated),
                (Fault::Reorder, stats.reordered),
                (Fault::Corrupt, stats.corrupted),
                (Fault::Mark, stats.marked),
            ] {
                coverage.fault(fault, count);
            }
        }
        let lags = self.plan.slow_path_lag_us.iter().filter(|lag| **lag > 0);
        coverage.fault(Fault::SlowKernel, lags.count() as u64);
        coverage.sometimes(Sometimes::Ipv6, u64::from(self.plan.hosts[0].over_ipv6));
        for host in &self.world.hosts {
            coverage.sometimes(Sometimes::Cores, u64::from(host.config().cores > 1));
            count_core(coverage, host);
            count_slow_path(coverage, host);
        }
    }

    /// Where everybody is, in words.
    pub(super) fn describe(&mut self) -> String {
        let mut text = String::new();
        for (number, actor) in self.actors.iter().enumerate() {
            for line in actor.describe() {
                text += &format!("  process {number}: {line}\n");
            }
        }
        for (h, host) in self.world.hosts.iter_mut().enumerate() {
            for line in host.describe_flows() {
                text += &format!("  host {h}: {line}\n");
            }
        }
        text
    }
}

/// Whether a host reset connections without a socket, as there were too many of them.
fn has_ended_orphans(host: &SimHost) -> bool {
    let counter = slowpath::counters::Counter::OrphansEnded;
    host.instance().stack().is_some_and(|stack| stack.counter(counter) > 0)
}

/// What the core of a host counted.
fn count_core(coverage: &mut Coverage, host: &SimHost) {
    use abi::core_status::{CoreStatus, Counter};
    let count = |counter: Counter| {
        let of = |status: &&CoreStatus| {
            status.counters.get(counter as usize).map_or(0, |count| count.load(Relaxed))
        };
        host.statuses().iter().map(of).sum()
    };
    coverage.fault(Fault::PoolEmpty, count(Counter::PoolEmpty));
    for (what, counter) in [
        (Sometimes::OutOfOrder, Counter::OutOfOrder),
        (Sometimes::FastRetransmit, Counter::FastRetransmits),
        (Sometimes::Paws, Counter::StaleTimestamp),
        (Sometimes::Steered, Counter::Steered),
    ] {
        coverage.sometimes(what, count(counter));
    }
}

/// What the slow path of a host counted.
fn count_slow_path(coverage: &mut Coverage, host: &SimHost) {
    use slowpath::counters::Counter;
    let instance = host.instance();
    let Some(stack) = instance.stack() else {
        return;
    };
    for (fault, counter) in [
        (Fault::Probe, Counter::Probes),
        (Fault::Timeout, Counter::Timeouts),
        (Fault::GivenUp, Counter::GivenUp),
        (Fault::Challenge, Counter::ChallengeAcks),
        (Fault::Backlog, Counter::SynsDropped),
        (Fault::Exhausted, Counter::Exhausted),
        (Fault::TimeWaitReuse, Counter::TimeWaitsEarly),
    ] {
        coverage.fault(fault, stack.counter(counter));
    }
    for (what, counter) in [
        (Sometimes::Cookie, Counter::CookiesSent),
        (Sometimes::CookieBack, Counter::CookiesAccepted),
        (Sometimes::AcceptFull, Counter::AcceptOverflows),
        (Sometimes::OrphanEnded, Counter::OrphansEnded),
        (Sometimes::PathMtu, Counter::PathMtuLowered),
        (Sometimes::PathMtuFound, Counter::BlackHoles),
    ] {
        coverage.sometimes(what, stack.counter(counter));
    }
}

/// What is wrong with how an end came out. `excused`: an error or a short stream has a cause in the plan.
fn unclean(
    own: &Closed,
    peer: Option<&Closed>,
    wanted: u64,
    excused: bool,
    unsure: bool,
) -> Option<&'static str> {
    let complete = own.ended && own.finished;
    if own.error != 0 && !complete && !excused {
        return Some("ended with an error");
    }
    if unsure {
        return None;
    }
    if own.received > wanted {
        return Some("read more than was sent");
    }
    // A clean end of stream means every byte that was written, whatever else happened.
    let written = peer.map_or(wanted, |peer| peer.written);
    if own.ended && own.received != written && peer.is_some() {
        return Some("read an end of stream before all bytes");
    }
    if !excused && !(complete && own.received == wanted) {
        return Some("came to its end short of its bytes");
    }
    None
}
