// SPDX-License-Identifier: MIT OR Apache-2.0
//! A plan comes true: the world is built, run by its events, and checked.

mod checks;
mod lie;
mod pace;
mod troubles;

pub(crate) use lie::lie;

use crate::{
    actor::{Actor, Board},
    coverage::{Coverage, Event, Fault},
    link::Link,
    observer::Observer,
    plan::{LinkPlan, Plan},
    random::Random,
    segment::{flag, parse, tcp_offset, Parsed, Segment},
    wire::Frame,
    world::World,
};
use abi::message::{congestion, tcp_state};
use fastpath::Packet;
use pace::Pace;
use std::{collections::BTreeMap, io};

/// What a world that was well says.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Frames sent and delivered, turns of applications, troubles.
    pub events: u64,
    /// What was reached.
    pub coverage: Coverage,
    /// Virtual time it took, microseconds.
    pub virtual_us: u64,
    /// Depends on every frame and its time: two runs of a seed have the same.
    pub digest: u64,
    /// Stream bytes that were read.
    pub bytes: u64,
    /// Turns of applications, cores and slow paths in the busiest tenth of a second, beyond those that frames explain.
    pub busiest: u64,
}

/// What went wrong.
#[derive(Debug, Clone)]
pub struct Violation {
    /// The world.
    pub seed: u64,
    /// What was violated, and when.
    pub what: String,
    /// The plan, and where everybody was, in words.
    pub story: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "scripts/sim --seed {}\nviolation: {}\n{}", self.seed, self.what, self.story)
    }
}

/// A world under way.
struct Scenario<'a> {
    plan: &'a Plan,
    world: World,
    actors: Vec<Actor>,
    observer: Observer,
    board: Board,
    /// Next of the plan's troubles.
    trouble: usize,
    /// Fast paths to come back: when, where.
    returns: Vec<(u64, usize)>,
    /// Largest datagram that passes a router on the way from each host, and whether it tells.
    narrow: [Option<(u32, bool)>; 2],
    digest: u64,
    pace: Pace,
    trace: bool,
}

/// Draws, runs and checks the world of a seed. A panic in the stack is a violation like others.
///
/// # Errors
/// What went wrong.
pub fn run(seed: u64) -> Result<Report, Box<Violation>> {
    run_plan(&Plan::draw(seed))
}

/// Runs and checks a plan.
///
/// # Errors
/// What went wrong.
pub fn run_plan(plan: &Plan) -> Result<Report, Box<Violation>> {
    let attempt = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut scenario = Scenario::new(plan)
            .map_err(|error| (format!("the world could not be built: {error}"), String::new()))?;
        scenario.live().map_err(|what| {
            let at = scenario.world.now_us();
            (format!("{what} (at {at} µs)"), scenario.describe())
        })
    }));
    let (what, state) = match attempt {
        Ok(Ok(report)) => return Ok(report),
        Ok(Err(failed)) => failed,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
            (format!("panic: {text}"), String::new())
        }
    };
    Err(Box::new(Violation { seed: plan.seed, what, story: format!("{plan}{state}") }))
}

fn configure(link: &mut Link, plan: &LinkPlan) {
    link.delay_us = plan.delay_us;
    link.impairment = plan.impairment;
    link.set_rate(plan.kbps, plan.queue_bytes, plan.mark_bytes);
}

fn event_of(segment: &Segment) -> Event {
    match segment.flags {
        flags if flags & flag::RST != 0 => Event::Rst,
        flags if flags & (flag::SYN | flag::ACK) == flag::SYN | flag::ACK => Event::SynAck,
        flags if flags & flag::SYN != 0 => Event::Syn,
        flags if flags & flag::FIN != 0 => Event::Fin,
        _ if segment.payload_bytes > 0 => Event::Data,
        _ => Event::Ack,
    }
}

impl<'a> Scenario<'a> {
    fn new(plan: &'a Plan) -> io::Result<Self> {
        let configs = plan.hosts.clone();
        let by_address = move |config: crate::HostConfig| {
            let found = configs.iter().find(|of| of.ipv4 == config.ipv4);
            found.cloned().unwrap_or(config)
        };
        let mut world = World::with(plan.seed, 0, crate::Impairment::default(), by_address)?;
        for (link, of) in world.links.iter_mut().zip(&plan.links) {
            configure(link, of);
        }
        for (h, host) in world.hosts.iter_mut().enumerate() {
            if plan.never_sleeps[h] {
                host.never_sleep();
            }
            host.lag_slow_path(plan.slow_path_lag_us[h]);
        }
        let actors = (0..plan.processes.len()).map(|number| Actor::new(&mut world, number, plan));
        let actors = actors.collect::<io::Result<_>>()?;
        let rate = |host: &crate::HostConfig| {
            let constant = host.congestion == congestion::CONST_RATE && host.const_rate_kbps > 0;
            constant.then_some(u64::from(host.const_rate_kbps))
        };
        let hosts = &plan.hosts;
        let observer = Observer::new(
            [hosts[0].ipv4, hosts[1].ipv4],
            [hosts[0].mtu_bytes as usize, hosts[1].mtu_bytes as usize],
            [rate(&hosts[0]), rate(&hosts[1])],
            plan.strip,
        );
        let board = Board {
            pairs: BTreeMap::new(),
            disturbed: Vec::new(),
            results: vec![[None; 2]; plan.connections.len()],
            coverage: Coverage::default(),
            violation: None,
            events: 0,
            random: Random::new(plan.seed ^ 0xac70),
        };
        Ok(Self {
            plan,
            world,
            actors,
            observer,
            board,
            trouble: 0,
            returns: Vec::new(),
            narrow: [None; 2],
            digest: plan.seed,
            pace: Pace::default(),
            trace: std::env::var_os("SIM_TRACE").is_some(),
        })
    }

    /// From the first connect to the last timer.
    fn live(&mut self) -> Result<Report, String> {
        let mut done = false;
        while !done {
            self.instant()?;
            done = self.actors.iter().all(Actor::is_done);
            if !done && self.world.now_us() > self.plan.limit_us {
                return Err("no progress: connections are not done by the world's limit".to_owned());
            }
        }
        self.check_results()?;
        self.die_down()?;
        self.check_leaks()?;
        self.count_faults();
        let closed = self.board.results.iter().flatten().flatten();
        Ok(Report {
            events: self.board.events,
            virtual_us: self.world.now_us() - crate::world::START_US,
            digest: self.digest,
            bytes: closed.map(|closed| closed.received).sum(),
            busiest: self.pace.busiest,
            coverage: std::mem::take(&mut self.board.coverage),
        })
    }

    /// Everything that is due now; then the clock moves to what is due next.
    fn instant(&mut self) -> Result<(), String> {
        let now = self.world.now_us();
        self.arrivals(now);
        self.troubles(now)?;
        self.applications(now)?;
        for h in 0..2 {
            if !self.world.hosts[h].has_fastpath() {
                self.world.ports[h].lose_received();
            }
            self.world.hosts[h].run().map_err(|error| format!("host {h}: {error}"))?;
            for id in self.world.hosts[h].take_woken_contexts() {
                let actors = self.actors.iter_mut().filter(|actor| actor.host == h && actor.has_context(id));
                actors.for_each(Actor::wake);
            }
        }
        for h in 0..2 {
            self.departures(h, now)?;
        }
        if let Some(what) = self.board.violation.take() {
            return Err(what);
        }
        self.check_pace(now)?;
        let own = self.actors.iter().map(Actor::next_us).chain(self.next_trouble_us());
        let next = own.min().unwrap_or(u64::MAX).min(self.world.next_us());
        // Nothing at all is due: the checks that wait for time to pass get their time.
        self.world.advance_to(next.min(now + 1_000_000));
        Ok(())
    }

    fn arrivals(&mut self, now: u64) {
        for from in 0..2 {
            while let Some(frame) = self.world.links[from].next_arrived(now) {
                self.arrive(1 - from, frame);
            }
        }
    }

    /// A frame comes to host `to`.
    fn arrive(&mut self, to: usize, frame: Frame) {
        self.board.events += 1;
        match parse(frame.data()) {
            Parsed::Tcp(segment) => {
                let state = self.world.hosts[to].state_of(segment.destination.1, segment.source);
                self.board.coverage.reached(state, event_of(&segment));
                self.observer.delivered(to, &segment);
                self.note(to, "got", &segment);
            }
            Parsed::Malformed(_) => self.corrupt_arrival(to, frame.data()),
            Parsed::Other => {}
        }
        self.world.links[1 - to].hand_over(frame);
    }

    /// Counts a broken frame with the state of the connection that its ports name, if they are whole.
    fn corrupt_arrival(&mut self, to: usize, frame: &[u8]) {
        let port = |at: usize| frame.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
        let tcp = tcp_offset(frame);
        if let (Some(source), Some(destination)) = (port(tcp), port(tcp + 2)) {
            let remote = (self.plan.hosts[1 - to].ipv4, source);
            let state = self.world.hosts[to].state_of(destination, remote);
            self.board.coverage.reached(state, Event::Corrupt);
        }
    }

    fn departures(&mut self, h: usize, now: u64) -> Result<(), String> {
        while let Some(mut frame) = self.world.links[h].take_sent() {
            self.board.events += 1;
            self.pace.frames += 1;
            self.digest_frame(now, frame.data());
            let seen = self.observer.sent(h, now, frame.data_mut())?;
            if let Parsed::Tcp(segment) = parse(frame.data()) {
                self.note(h, "sent", &segment);
                let state = self.world.hosts[h].state_of(segment.source.1, segment.destination);
                // What left in the instant in which all of it was acknowledged was sent in the state before.
                let is_settled = [tcp_state::FIN_WAIT2, tcp_state::TIME_WAIT].contains(&state);
                if seen.again && !is_settled {
                    self.board.coverage.reached(state, Event::Retransmit);
                }
            }
            self.board.coverage.fault(Fault::ZeroWindow, u64::from(seen.zero_window));
            self.board.coverage.fault(Fault::Strip, u64::from(seen.stripped));
            if !self.is_too_big(h, now, frame.data()) {
                self.world.links[h].launch(now, frame, &mut self.world.random);
            }
        }
        Ok(())
    }

    fn digest_frame(&mut self, now: u64, bytes: &[u8]) {
        let mut digest = self.digest ^ now;
        for word in bytes.chunks(8) {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            digest =
                (digest ^ u64::from_le_bytes(padded)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
        self.digest = digest;
    }

    /// With SIM_TRACE set: what passes, as it passes.
    fn note(&self, host: usize, what: &str, segment: &Segment) {
        if self.trace {
            let time = self.world.now_us();
            eprintln!(
                "{time} host {host} {what} {}→{} flags {:#04x} seq {:#x} ack {:#x} win {} len {} sack {:x?}",
                segment.source.1,
                segment.destination.1,
                segment.flags,
                segment.seq,
                segment.ack,
                segment.window,
                segment.payload_bytes,
                segment.sack
            );
        }
    }

    fn applications(&mut self, now: u64) -> Result<(), String> {
        let mut ran = [false; 2];
        for (number, actor) in self.actors.iter_mut().enumerate() {
            if actor.next_us() <= now {
                self.pace.turns_of_applications += 1;
                let turn = actor.turn(&mut self.world, self.plan, &mut self.board);
                turn.map_err(|error| format!("an application on host {}: {error}", actor.host))?;
                ran[actor.host] = true;
                if actor.lies() {
                    let own = |key: &crate::observer::Key| {
                        let connect = self.board.pairs.get(key).map(|number| &self.plan.connections[*number]);
                        connect.is_some_and(|of| of.client == number || of.server == Some(number))
                    };
                    for (key, flow) in &mut self.observer.flows {
                        flow.untrusted |= own(key);
                    }
                }
            }
        }
        for (h, _) in ran.iter().enumerate().filter(|(_, ran)| **ran) {
            self.world.hosts[h].applications_ran();
        }
        Ok(())
    }
}
