// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the plan does to hosts and links.

use super::Scenario;
use crate::{
    coverage::{Event, Fault, STATES},
    host::Stall,
    meddler::{forge, too_big},
    observer::Key,
    plan::{Forge, Trouble, CROSSING},
    segment::{parse, Parsed, ETHERNET_BYTES},
    wire::Frame,
};
use abi::{
    flow::{slot_state, ColdFlow},
    message::tcp_state,
    region::{Region, RegionKind},
};
use std::sync::atomic::Ordering::Relaxed;

impl Scenario<'_> {
    pub(super) fn next_trouble_us(&self) -> Option<u64> {
        let planned = self.plan.troubles.get(self.trouble).map(|(at, _)| *at);
        let returns = self.returns.iter().map(|(at, _)| *at).min();
        [planned, returns].into_iter().flatten().min()
    }

    pub(super) fn troubles(&mut self, now: u64) -> Result<(), String> {
        while let Some((at, trouble)) = self.plan.troubles.get(self.trouble).copied() {
            if at > now {
                break;
            }
            self.trouble += 1;
            self.board.events += 1;
            self.carry_out(now, trouble);
        }
        while let Some(index) = self.returns.iter().position(|(at, _)| *at <= now) {
            let (_, h) = self.returns.swap_remove(index);
            let lanes = self.world.ports[h].lanes(self.plan.hosts[h].cores);
            let attached = self.world.hosts[h].attach_fastpath(lanes);
            attached.map_err(|error| format!("host {h}: a fast path could not attach again: {error}"))?;
        }
        Ok(())
    }

    fn carry_out(&mut self, now: u64, trouble: Trouble) {
        match trouble {
            Trouble::StallCore(h, core, us) => {
                self.board.coverage.fault(Fault::CoreStall, 1);
                self.world.hosts[h].stall(Stall::Core(core), now + us);
            }
            Trouble::Respread(h, key) => {
                self.board.coverage.fault(Fault::Respread, 1);
                self.world.ports[h].spread(key);
            }
            Trouble::StallSlowPath(h, us) => {
                self.board.coverage.fault(Fault::SlowStall, 1);
                self.world.hosts[h].stall(Stall::SlowPath, now + us);
            }
            Trouble::Outage(direction, us) => self.world.links[direction].down_until_us = now + us,
            Trouble::Cut(us) => {
                self.board.coverage.fault(Fault::Cut, 1);
                self.world.links.iter_mut().for_each(|link| link.down_until_us = now + us);
            }
            Trouble::Kill(h, us) if self.world.hosts[h].has_fastpath() => {
                self.board.coverage.fault(Fault::Kill, 1);
                self.count_states(h);
                self.world.ports[h].lose_received();
                self.observer.killed(h);
                self.world.hosts[h].kill_fastpath();
                self.returns.push((now + us, h));
            }
            Trouble::Kill(..) => {}
            Trouble::Narrow(from, mtu_bytes, tells) => self.narrow[from] = Some((mtu_bytes, tells)),
            Trouble::Crossing(direction, us) => self.world.links[direction].crossing = (now + us, CROSSING),
            Trouble::Forge(to, what) => self.forge(to, what),
        }
    }

    /// Whether the router on the way from host `h` drops a frame as too large. What it says of it goes back over the link.
    pub(super) fn is_too_big(&mut self, h: usize, now: u64, frame: &[u8]) -> bool {
        let Some((mtu_bytes, tells)) = self.narrow[h] else {
            return false;
        };
        if frame.len() <= mtu_bytes as usize + ETHERNET_BYTES {
            return false;
        }
        self.board.coverage.fault(if tells { Fault::TooBig } else { Fault::BlackHole }, 1);
        if tells {
            let answer = Frame::from_bytes(&too_big(frame, mtu_bytes));
            self.world.links[1 - h].launch(now, answer, &mut self.world.random);
        }
        true
    }

    /// Which states a killed fast path leaves behind.
    fn count_states(&mut self, h: usize) {
        let host = &self.world.hosts[h];
        let count = host.config().flows as usize;
        let mut states = Vec::new();
        {
            let instance = host.instance();
            let cold = instance.region(Region::whole(RegionKind::FlowCold, 0));
            if let Some(table) = cold.as_ref().and_then(|memory| memory.table::<ColdFlow>(0, count)) {
                let used = table.iter().filter(|cold| cold.state.load(Relaxed) != slot_state::FREE);
                states.extend(used.map(|cold| cold.tcp_state.load(Relaxed)));
            }
            if let Some(usage) = instance.stack().map(|stack| stack.usage()) {
                states.extend((0..usage.half_open).map(|_| tcp_state::SYN_RECEIVED));
                states.extend((0..usage.time_wait).map(|_| tcp_state::TIME_WAIT));
            }
        }
        for state in states {
            self.board.coverage.reached(state, Event::Restart);
        }
    }

    /// Forges a segment to host `to`, for a connection in a state that is rarely met if there is one.
    fn forge(&mut self, to: usize, what: Forge) {
        let open = |key: &Key| {
            let ports = [key.0, key.1];
            let remote = (self.plan.hosts[1 - to].ipv4, ports[1 - to]);
            self.world.hosts[to].state_of(ports[to], remote)
        };
        let mut keys: Vec<(u32, Key)> = self.observer.flows.keys().map(|key| (open(key), *key)).collect();
        keys.retain(|(state, _)| STATES.iter().any(|(_, number)| number == state));
        if keys.is_empty() {
            return;
        }
        // A state first, then a connection in it.
        let mut states: Vec<u32> = keys.iter().map(|(state, _)| *state).collect();
        states.sort_unstable();
        states.dedup();
        let random = &mut self.board.random;
        let state = states[random.below(states.len() as u64) as usize];
        keys.retain(|(of, _)| *of == state);
        let (_, key) = keys[random.below(keys.len() as u64) as usize];
        let hosts = &self.plan.hosts;
        let flow = &self.observer.flows[&key];
        let frame = forge(
            what,
            to,
            [hosts[0].mac, hosts[1].mac],
            ([hosts[0].ipv4, hosts[1].ipv4], hosts[0].over_ipv6),
            (key, flow),
            random,
        );
        self.board.coverage.fault(
            match what {
                Forge::ResetExact => Fault::ForgedExact,
                Forge::ResetInside | Forge::Syn | Forge::SynAck | Forge::AckAhead => Fault::ForgedInside,
                _ => Fault::ForgedBlind,
            },
            1,
        );
        // A SYN for a SYN is a simultaneous open, whoever sent it (RFC 9293 §3.5).
        if what == Forge::ResetExact || (what == Forge::Syn && state == tcp_state::SYN_SENT) {
            self.board.disturbed.push(key);
        }
        // A listener answers a SYN with numbers that belong to no connection of the plan.
        if matches!(what, Forge::ResetExact | Forge::Syn) {
            if let Some(flow) = self.observer.flows.get_mut(&key) {
                flow.over = true;
            }
        }
        if let Parsed::Tcp(segment) = parse(&frame) {
            self.board.coverage.reached(state, super::event_of(&segment));
            self.note(to, "forged", &segment);
        }
        self.world.ports[to].push_received(Frame::from_bytes(&frame));
    }
}
