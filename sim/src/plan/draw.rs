// SPDX-License-Identifier: MIT OR Apache-2.0
//! Drawing a plan. Chances are per thousand.

use super::{Connect, Death, End, Forge, LinkPlan, Listen, Plan, Process, Side, Strip, Trouble};
use crate::{host::HostConfig, link::Impairment, random::Random, stream::HEADER_BYTES, world::START_US};
use abi::{
    limits::{ETHERNET_MTU, MTU_MAX},
    message::congestion,
};

const MILLISECOND: u64 = 1000;
const SECOND: u64 = 1_000_000;
/// First port of the servers; process number is added.
const PORT: u16 = 80;
/// A port where nobody listens.
pub(crate) const CLOSED_PORT: u16 = 9;

/// A handshake may take so long, microseconds, doubled at most: longer than any silence in a plan.
const HANDSHAKE_US: u32 = 30_000_000;
/// The least that a host can be told to have.
const FEW_FLOWS: u64 = 64;
/// Longest cut of the link: connections without a socket are given up in this time, others perhaps.
const CUT_US: u64 = 100 * SECOND;

/// A source with the shapes that plans need.
struct Dice(Random);

impl Dice {
    fn chance(&mut self, per_mille: u32) -> bool {
        self.0.chance(per_mille)
    }
    /// `low..=high`, each as likely.
    fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.0.below(high - low + 1)
    }
    /// `low..=high`, each order of magnitude as likely (both above zero).
    fn scale(&mut self, low: u64, high: u64) -> u64 {
        let octaves = u64::from((high / low).max(1).ilog2());
        let start = low << self.range(0, octaves);
        self.range(start, (2 * start).min(high).max(start)).clamp(low, high)
    }
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.0.below(of.len() as u64) as usize]
    }
    fn maybe(&mut self, per_mille: u32, value: impl FnOnce(&mut Self) -> u64) -> u64 {
        if self.chance(per_mille) {
            value(self)
        } else {
            0
        }
    }
}

pub(super) fn draw(seed: u64) -> Plan {
    let mut dice = Dice(Random::new(seed ^ 0x7a5_0000_0001));
    let dice = &mut dice;
    let count = match dice.range(0, 99) {
        0..=69 => dice.range(1, 3),
        70..=94 => dice.range(4, 10),
        _ if dice.chance(200) => dice.range(FEW_FLOWS + 1, FEW_FLOWS + 30),
        _ => dice.range(11, 50),
    };
    let links = links(dice);
    let slowest = links[0].kbps.min(links[1].kbps);
    // What the slowest direction carries in two seconds, shared.
    let budget = (slowest / 4 * 1000 / count).clamp(2_000, 400_000);
    let processes = processes(dice);
    let mut connections: Vec<_> = (0..count).map(|_| connection(dice, &processes, budget)).collect();
    connections.sort_by_key(|connection| connection.at_us);
    let over_ipv6 = dice.chance(500);
    let mut plan = Plan {
        seed,
        links,
        hosts: [1, 2].map(|number| host(dice, number, seed, over_ipv6)),
        never_sleeps: [dice.chance(80), dice.chance(80)],
        slow_path_lag_us: [0; 2],
        strip: strip(dice),
        processes,
        connections,
        troubles: Vec::new(),
        limit_us: 0,
    };
    if count > FEW_FLOWS {
        crowd(dice, &mut plan);
    }
    speak_first(&mut plan);
    plan.troubles = troubles(dice, &plan);
    if plan.troubles.iter().any(|(_, trouble)| matches!(trouble, Trouble::Kill(..))) {
        // The new fast path may have read, or sent, past the mark without knowing of it.
        let sides = plan.connections.iter_mut().flat_map(|connection| &mut connection.sides);
        sides.for_each(|side| side.urgent_inline = true);
    }
    jumbo(seed, &mut plan);
    plan.slow_path_lag_us = [0, 1].map(|_| dice.maybe(60, |dice| dice.scale(20, 5_000)));
    be_patient(&mut plan);
    plan.limit_us = limit(&plan);
    plan
}

/// Jumbo frames: on both hosts, or against one without them, and perhaps a path that is narrower, with or without a router
/// that says so. Drawn apart, so that all else in a world is what it was before there were any.
fn jumbo(seed: u64, plan: &mut Plan) {
    let dice = &mut Dice(Random::new(seed ^ 0x7a5_0000_9000));
    if !dice.chance(80) {
        return;
    }
    plan.hosts[0].mtu_bytes = MTU_MAX;
    if dice.chance(700) {
        plan.hosts[1].mtu_bytes = if dice.chance(800) { MTU_MAX } else { dice.range(1501, 8999) as u32 };
    }
    if dice.chance(500) {
        let [first, second] = &mut plan.hosts;
        std::mem::swap(&mut first.mtu_bytes, &mut second.mtu_bytes);
    }
    for link in &mut plan.links {
        // A queue that holds no frame would be a path that carries none.
        link.queue_bytes = link.queue_bytes.max(40_000);
    }
    let narrow = plan.troubles.iter().any(|(_, trouble)| matches!(trouble, Trouble::Narrow(..)));
    if !narrow && dice.chance(400) {
        let mtu_bytes = if dice.chance(600) { ETHERNET_MTU } else { dice.range(1280, 8999) as u32 };
        let host = dice.range(0, 1) as usize;
        let at_us = START_US + dice.maybe(700, |dice| dice.scale(100, 300_000));
        plan.troubles.push((at_us, Trouble::Narrow(host, mtu_bytes, dice.chance(600))));
        plan.troubles.sort_by_key(|(at, _)| *at);
    }
}

/// The answer to a SYN cookie may find no room at all, and is forgotten then: only what the client sends next brings
/// the cookie again, so it must not wait for the server to speak (as everywhere with SYN cookies).
fn speak_first(plan: &mut Plan) {
    let count = plan.connections.len();
    for connection in &mut plan.connections {
        let listen = connection.server.and_then(|server| plan.processes[server].listen);
        if listen.is_some_and(|listen| (listen.backlog as usize) < count) {
            let client = &mut connection.sides[0];
            client.bytes = client.bytes.max(HEADER_BYTES);
        }
    }
}

/// More connections than the hosts have room for, all at once: tables run full.
fn crowd(dice: &mut Dice, plan: &mut Plan) {
    for host in &mut plan.hosts {
        host.flows = FEW_FLOWS as u32;
        host.pool_segments_max = 1;
        host.time_wait_us = 3 * SECOND as u32;
    }
    // Two at a time would take longer than anybody has.
    for listen in plan.processes.iter_mut().filter_map(|process| process.listen.as_mut()) {
        listen.backlog = 128;
    }
    let clients_end_first = dice.chance(500);
    for connection in &mut plan.connections {
        connection.at_us = START_US + dice.scale(10, 1_000);
        if clients_end_first {
            (connection.sides[0].end, connection.sides[1].end) = (End::AfterWrite, End::AfterPeer);
        }
    }
    plan.connections.sort_by_key(|connection| connection.at_us);
}

fn links(dice: &mut Dice) -> [LinkPlan; 2] {
    let kbps = dice.scale(1_000, 10_000_000);
    let longest = if dice.chance(100) { 50_000 } else { 2_000 };
    let delay_us = dice.scale(2, longest);
    let impaired = dice.chance(600);
    [0, 1].map(|_| {
        let queue_bytes = dice.scale(6_000, 1_000_000);
        LinkPlan {
            delay_us: delay_us + dice.maybe(100, |dice| dice.scale(1, 5_000)),
            kbps: if dice.chance(100) { dice.scale(1_000, 10_000_000) } else { kbps },
            queue_bytes,
            mark_bytes: if dice.chance(400) { dice.scale(1_500, queue_bytes) } else { u64::MAX },
            impairment: if impaired { impairment(dice, delay_us) } else { Impairment::default() },
        }
    })
}

fn impairment(dice: &mut Dice, delay_us: u64) -> Impairment {
    let bursts = dice.chance(120);
    Impairment {
        loss: dice.maybe(450, |dice| dice.scale(1, 60)) as u32,
        duplicate: dice.maybe(200, |dice| dice.scale(1, 60)) as u32,
        reorder: dice.maybe(300, |dice| dice.scale(1, 120)) as u32,
        corrupt: dice.maybe(200, |dice| dice.scale(1, 40)) as u32,
        mark: dice.maybe(150, |dice| dice.scale(1, 300)) as u32,
        burst_begin: if bursts { dice.scale(1, 8) as u32 } else { 0 },
        burst_end: if bursts { dice.scale(60, 500) as u32 } else { 0 },
        jitter_us: dice.maybe(300, |dice| dice.scale(1, delay_us.max(2))),
    }
}

/// Least MTU of a host and of a path: every host takes so many bytes (RFC 791 §3.1, RFC 8200 §5).
fn least_mtu(over_ipv6: bool) -> u64 {
    if over_ipv6 {
        1280
    } else {
        576
    }
}

fn host(dice: &mut Dice, number: u8, seed: u64, over_ipv6: bool) -> HostConfig {
    let algorithms = [congestion::NEWRENO, congestion::DCTCP_RATE, congestion::CONST_RATE];
    let buffer =
        |dice: &mut Dice| if dice.chance(300) { dice.scale(4096, 250_000) as u32 } else { 64 * 1024 };
    let handshake_timeout_us = dice.scale(5_000, 500_000) as u32;
    HostConfig {
        cores: if dice.chance(150) { dice.range(2, 4) as u32 } else { 1 },
        flows: if dice.chance(150) { 64 } else { 256 },
        congestion: dice.pick(&algorithms),
        const_rate_kbps: dice.maybe(700, |dice| dice.scale(2_000, 1_000_000)) as u32,
        mtu_bytes: if dice.chance(200) { dice.range(least_mtu(over_ipv6), 1500) as u32 } else { 1500 },
        over_ipv6,
        rx_buffer_bytes: buffer(dice),
        tx_buffer_bytes: buffer(dice),
        ecn: dice.chance(700),
        rto_min_us: dice.scale(2_000, 200_000) as u32,
        handshake_timeout_us,
        handshake_retries: (HANDSHAKE_US / handshake_timeout_us).ilog2(),
        arp_timeout_us: 50_000,
        time_wait_us: dice.scale(1_000, 3_000_000) as u32,
        pool_segments: 1,
        pool_segments_max: if dice.chance(200) { 1 } else { 4 },
        ..HostConfig::numbered(number, seed)
    }
}

fn strip(dice: &mut Dice) -> Strip {
    Strip {
        timestamps: dice.chance(200),
        sack: dice.chance(200),
        window_scale: dice.chance(150),
        fast_open: dice.chance(100),
        mss: dice.chance(100).then(|| dice.range(88, 1460) as u16),
    }
}

fn listen(dice: &mut Dice, number: usize) -> Listen {
    Listen {
        port: PORT + number as u16,
        backlog: if dice.chance(150) { dice.range(1, 3) as u32 } else { 128 },
        accept_delay_us: dice.maybe(150, |dice| dice.scale(100, 100_000)),
        closes_at_us: dice.chance(50).then(|| START_US + dice.scale(100, 50_000)),
        fast_open: dice.maybe(600, |dice| dice.scale(1, 20)) as u32,
        no_cookie: dice.chance(300),
    }
}

/// A server on the first host and a client on the second are always there, and nearly always well.
fn processes(dice: &mut Dice) -> Vec<Process> {
    let on = |host: usize| Process { host, listen: None, contexts: 1, death: None };
    let mut processes = vec![on(0), on(1)];
    if dice.chance(150) {
        processes.push(on(1));
    }
    if dice.chance(150) {
        processes.push(on(0));
    }
    for (number, process) in processes.iter_mut().enumerate() {
        let is_server = number == 0 || (number > 1 && dice.chance(500));
        process.listen = is_server.then(|| listen(dice, number));
        process.contexts = if dice.chance(120) { 2 } else { 1 };
        let chance = if number > 1 { 400 } else { 40 };
        process.death = dice.chance(chance).then(|| {
            let how = if dice.chance(400) { Death::Lie } else { Death::Crash };
            (START_US + dice.scale(200, 100_000), how)
        });
    }
    processes
}

fn connection(dice: &mut Dice, processes: &[Process], budget: u64) -> Connect {
    let servers: Vec<usize> = (0..processes.len()).filter(|n| processes[*n].listen.is_some()).collect();
    let server = dice.pick(&servers);
    let others: Vec<usize> =
        (0..processes.len()).filter(|n| processes[*n].host != processes[server].host).collect();
    let mut sides = [side(dice, budget), side(dice, budget)];
    if sides.iter().all(|side| side.end == End::AfterPeer) {
        // They would wait for each other.
        sides[dice.range(0, 1) as usize].end = End::AfterWrite;
    }
    Connect {
        client: dice.pick(&others),
        server: (!dice.chance(30)).then_some(server),
        at_us: START_US + dice.maybe(600, |dice| dice.scale(10, 100_000)),
        gives_up_us: dice.chance(20).then(|| dice.scale(10, 20_000)),
        fast_open: dice.chance(300),
        no_cookie: dice.chance(300),
        sides,
    }
}

fn bytes(dice: &mut Dice, budget: u64) -> u64 {
    let most = match dice.range(0, 99) {
        0..=9 => return 0,
        10..=44 => 200,
        45..=74 => 4_000,
        75..=95 => 40_000,
        _ => 400_000,
    };
    dice.scale(HEADER_BYTES, most).min(budget)
}

fn side(dice: &mut Dice, budget: u64) -> Side {
    let bytes = bytes(dice, budget);
    let end = match dice.range(0, 99) {
        0..=44 => End::AfterWrite,
        45..=79 => End::AfterPeer,
        80..=91 => End::AfterPause(dice.scale(10, 200_000)),
        92..=95 => End::Early(dice.scale(1, budget.max(2))),
        96..=98 => End::Abort(dice.scale(1, 100_000)),
        _ => End::AfterPause(dice.scale(SECOND, 20 * SECOND)),
    };
    Side {
        bytes,
        piece_bytes: dice.scale(1, 50_000).max(bytes / 200).max(1),
        write_pause_us: dice.maybe(200, |dice| dice.scale(1, 2_000)),
        read_bytes: dice.scale(64, 100_000).max(budget / 500),
        read_stop: dice
            .chance(120)
            .then(|| (dice.scale(1, budget.max(2)) - 1, dice.scale(MILLISECOND, 2 * SECOND))),
        end,
        nodelay: dice.chance(300),
        receive_buffer_bytes: dice.chance(100).then(|| dice.scale(4096, 120_000) as u32),
        urgent_at: (bytes > HEADER_BYTES && dice.chance(100)).then(|| dice.range(HEADER_BYTES, bytes - 1)),
        urgent_inline: dice.chance(300),
        more: dice.maybe(120, |dice| dice.range(1, 1000)) as u32,
        keeps_us: dice.maybe(150, |dice| dice.scale(1, 100_000)),
        lingers_zero: dice.chance(30),
    }
}

fn forge(dice: &mut Dice) -> Forge {
    use Forge::*;
    let harmless = [ResetOutside, ResetInside, Syn, SynAck, AckAhead, AckOld, DataOutside, FinOutside, Stray];
    if dice.chance(60) {
        ResetExact
    } else {
        dice.pick(&harmless)
    }
}

fn troubles(dice: &mut Dice, plan: &Plan) -> Vec<(u64, Trouble)> {
    let mut troubles = Vec::new();
    // Trouble comes while something goes on: mostly early, as most worlds are short.
    let at = |dice: &mut Dice| START_US + dice.scale(20, 200_000);
    let host = |dice: &mut Dice| dice.range(0, 1) as usize;
    if dice.chance(200) {
        for _ in 0..dice.range(1, 3) {
            let core = dice.range(0, 3) as usize;
            let trouble = Trouble::StallCore(host(dice), core, dice.scale(MILLISECOND, 3 * SECOND));
            troubles.push((at(dice), trouble));
        }
    }
    if dice.chance(150) {
        for _ in 0..dice.range(1, 3) {
            let trouble = Trouble::StallSlowPath(host(dice), dice.scale(MILLISECOND, SECOND));
            troubles.push((at(dice), trouble));
        }
    }
    if dice.chance(100) {
        let trouble = Trouble::Outage(host(dice), dice.scale(MILLISECOND, 2 * SECOND));
        troubles.push((at(dice), trouble));
    }
    if dice.chance(15) {
        troubles.push((at(dice), Trouble::Cut(dice.scale(SECOND, CUT_US))));
    }
    if dice.chance(100) {
        for _ in 0..dice.range(1, 2) {
            let trouble = Trouble::Kill(host(dice), dice.scale(10, SECOND));
            troubles.push((at(dice), trouble));
        }
    }
    if dice.chance(250) {
        for _ in 0..dice.range(1, 8 + plan.connections.len() as u64) {
            let trouble = Trouble::Forge(host(dice), forge(dice));
            troubles.push((at(dice), trouble));
        }
    }
    if plan.hosts.iter().any(|host| host.cores > 1) && dice.chance(300) {
        for _ in 0..dice.range(1, 3) {
            let trouble = Trouble::Respread(host(dice), dice.range(1, 1000));
            troubles.push((at(dice), trouble));
        }
    }
    if dice.chance(60) {
        let mtu_bytes = dice.range(least_mtu(plan.hosts[0].over_ipv6), 1400) as u32;
        let trouble = Trouble::Narrow(host(dice), mtu_bytes, dice.chance(600));
        troubles.push((at(dice), trouble));
    }
    if dice.chance(80) {
        for _ in 0..dice.range(1, 3) {
            let trouble = Trouble::Crossing(host(dice), dice.scale(MILLISECOND, SECOND));
            troubles.push((at(dice), trouble));
        }
    }
    troubles.sort_by_key(|(at, _)| *at);
    troubles
}

/// Keeps every silence of a host or an application shorter than the stack's own patience: eight timeouts of a
/// connection without a socket (as Linux's tcp_orphan_retries), each twice as long as the one before.
fn be_patient(plan: &mut Plan) {
    let shortest = plan.hosts.iter().map(|host| u64::from(host.rto_min_us)).min().unwrap_or(1);
    let patience = (64 * shortest).min(2 * SECOND);
    for (_, trouble) in &mut plan.troubles {
        match trouble {
            Trouble::StallCore(_, _, us)
            | Trouble::StallSlowPath(_, us)
            | Trouble::Outage(_, us)
            | Trouble::Crossing(_, us)
            | Trouble::Kill(_, us) => {
                *us = (*us).min(patience);
            }
            Trouble::Forge(..) | Trouble::Narrow(..) | Trouble::Cut(_) | Trouble::Respread(..) => {}
        }
    }
    for connection in &mut plan.connections {
        for side in &mut connection.sides {
            if let Some((_, pause)) = &mut side.read_stop {
                *pause = (*pause).min(patience);
            }
        }
    }
}

/// Long enough for every pause in the plan, one after the other, and for the slowest recovery.
fn limit(plan: &Plan) -> u64 {
    let mut pauses = 0;
    let mut bytes = 0;
    for connection in &plan.connections {
        for side in &connection.sides {
            pauses += side.keeps_us
                + side.read_stop.map_or(0, |(_, pause)| pause)
                + side.bytes / side.piece_bytes * side.write_pause_us;
            pauses += match side.end {
                End::AfterPause(pause) => pause,
                _ => 0,
            };
            bytes += side.bytes;
        }
    }
    for (_, trouble) in &plan.troubles {
        pauses += match trouble {
            Trouble::StallCore(_, _, us)
            | Trouble::StallSlowPath(_, us)
            | Trouble::Outage(_, us)
            | Trouble::Kill(_, us)
            | Trouble::Crossing(_, us)
            | Trouble::Cut(us) => *us,
            // Six timeouts in a row find a black hole, each twice as long as the one before.
            Trouble::Narrow(_, _, false) => 30 * SECOND,
            Trouble::Narrow(..) | Trouble::Forge(..) | Trouble::Respread(..) => 0,
        };
    }
    let slowest = plan.links.iter().map(|link| link.kbps).chain(rates(plan)).min().unwrap_or(1);
    START_US + 120 * SECOND + 4 * pauses + bytes * 8_000 / slowest * 4
}

fn rates(plan: &Plan) -> impl Iterator<Item = u64> + '_ {
    let constant = plan.hosts.iter().filter(|host| host.congestion == congestion::CONST_RATE);
    constant.map(|host| u64::from(host.const_rate_kbps)).filter(|rate| *rate > 0)
}
