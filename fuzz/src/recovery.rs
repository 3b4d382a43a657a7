// SPDX-License-Identifier: MIT OR Apache-2.0
//! A sender through a whole core: the network delivers, drops, doubles and reorders its segments in any order, the
//! peer acknowledges with and without SACK, timers of the slow path fire whenever they like. What is sent is the
//! stream, within the window; the scoreboard never knows more than the peer said; and once the network is good
//! everything arrives and nothing is left.

use crate::model::read_options;
use abi::{
    clock::timestamp_value,
    core_status::Counter,
    event::{event_flags, FlowEvent},
    flow::{extend, hot_flags, NONE},
    kernel_ring::to_fast,
};
use arbitrary::Arbitrary;
use fastpath::testing::{recycle, TestSegment, World, APPLICATION, CWR, ECE, FIN, SND_START};
use std::sync::atomic::Ordering::Relaxed;

/// What the corpus covers.
pub const COVERS: &[&str] = &[
    "fastpath/src/recovery.rs",
    "fastpath/src/acknowledge.rs",
    "fastpath/src/scoreboard.rs",
    "fastpath/src/sack.rs",
    "fastpath/src/hold.rs",
];

const MSS: u64 = fastpath::testing::MSS as u64;
/// Most bytes written and not acknowledged.
const WRITTEN_MAX: u64 = 200_000;
/// Segments in the network.
const NETWORK_MAX: usize = 256;
/// State of a range that the peer has, in the shared block.
const SACKED: u32 = 2;

/// One step.
#[allow(missing_docs)]
#[derive(Debug, Clone, Arbitrary)]
pub enum Operation {
    /// What the connection agreed on; only as the first.
    Setup {
        sack: bool,
        timestamps: bool,
        ecn: bool,
        cwnd: u8,
    },
    Write(u16),
    Finish,
    /// A segment arrives at the peer.
    Deliver(u8),
    DeliverAll,
    Drop(u8),
    DropAll,
    Double(u8),
    /// The peer acknowledges what it has; some of its words may stay away.
    Acknowledge {
        blocks: u8,
        duplicate: bool,
        window: u8,
        marked: bool,
        data: bool,
    },
    /// An earlier acknowledgement once more.
    Stale(u8),
    /// The peer forgets what it has out of order.
    Renege,
    /// The peer says anything.
    Lie {
        ack: i16,
        blocks: Vec<(i16, u8)>,
    },
    Time(u16),
    Timeout {
        cwnd: u8,
    },
    TailProbe,
    Update {
        cwnd: u8,
        rate: u8,
        mss: u8,
    },
    Probe,
    /// Other flows take recovery blocks, or give them back.
    Blocks(bool),
    Restart,
    /// The peer has not acknowledged our SYN yet (RFC 7413); only at the beginning.
    FastOpen,
    /// The application writes, and says that more follows (TCP_CORK) or that it is urgent.
    WriteWith {
        bytes: u16,
        more: bool,
        urgent: bool,
    },
}

struct Harness<const FAMILY: u8> {
    world: World<FAMILY>,
    sack: bool,
    timestamps: bool,
    network: Vec<TestSegment>,
    acknowledgements: Vec<TestSegment>,
    /// What the peer has, ascending and disjoint; the first reaches from the start.
    has: Vec<(u64, u64)>,
    /// What it ever said to have.
    said: Vec<(u64, u64)>,
    duplicate: Option<(u64, u64)>,
    /// The latest that arrived, and the TSval that it echoes.
    latest: u64,
    echo: u32,
    fin: Option<u64>,
    end: u64,
    finished: bool,
    edge: u64,
    window: u64,
    lied: bool,
}

/// What a connection agreed on.
#[derive(Clone, Copy)]
struct Setup {
    sack: bool,
    timestamps: bool,
    ecn: bool,
    cwnd: u8,
    fast_open: bool,
}

/// Runs the operations, over IPv4 and over IPv6.
pub fn check(operations: &[Operation]) {
    let mut setup = Setup { sack: true, timestamps: true, ecn: false, cwnd: 10, fast_open: false };
    let mut operations = operations;
    if let [Operation::Setup { sack, timestamps, ecn, cwnd }, rest @ ..] = operations {
        setup = Setup { sack: *sack, timestamps: *timestamps, ecn: *ecn, cwnd: *cwnd, ..setup };
        operations = rest;
    }
    if let [Operation::FastOpen, rest @ ..] = operations {
        (setup.fast_open, operations) = (true, rest);
    }
    run::<4>(setup, operations);
    run::<6>(setup, operations);
}

fn run<const FAMILY: u8>(setup: Setup, operations: &[Operation]) {
    recycle();
    let mut harness = Harness::<FAMILY>::new(setup);
    for operation in operations {
        harness.step(operation);
        harness.compare();
    }
    harness.finish();
}

fn byte(position: u64) -> u8 {
    (position as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]
}

fn add(to: &mut Vec<(u64, u64)>, (mut start, mut end): (u64, u64)) {
    if start >= end {
        return;
    }
    to.retain(|one| {
        let apart = one.1 < start || one.0 > end;
        if !apart {
            (start, end) = (start.min(one.0), end.max(one.1));
        }
        apart
    });
    to.push((start, end));
    to.sort_unstable();
}

impl<const FAMILY: u8> Harness<FAMILY> {
    fn new(setup: Setup) -> Self {
        let Setup { sack, timestamps, ecn, cwnd, fast_open } = setup;
        let mut world = World::new();
        for flow in 1..=5 {
            world.prepare(flow);
        }
        let flags = [
            (sack, hot_flags::SACK),
            (timestamps, hot_flags::TIMESTAMPS),
            (ecn, hot_flags::ECN),
            (fast_open, hot_flags::SYN_RECEIVED),
        ];
        let family = World::<FAMILY>::FAMILY_FLAG;
        let flags = flags.iter().filter(|(on, _)| *on).fold(family, |all, (_, flag)| all | flag);
        world.hot(1).flags.store(flags, Relaxed);
        world.tables.cold[1].cwnd_bytes.store((1 + u32::from(cwnd)) * MSS as u32, Relaxed);
        world.tables.cold[1].srtt_us.store(4000, Relaxed);
        for flow in 1..=5 {
            world.ask(to_fast::INSTALL, flow, 0);
        }
        Self {
            world,
            sack,
            timestamps,
            network: vec![],
            acknowledgements: vec![],
            has: vec![(SND_START - 1, SND_START)],
            said: vec![],
            duplicate: None,
            latest: SND_START,
            echo: 0,
            fin: None,
            end: SND_START,
            finished: false,
            edge: SND_START + 60_000,
            window: 60_000,
            lied: false,
        }
    }

    fn step(&mut self, operation: &Operation) {
        match operation {
            Operation::Setup { .. } | Operation::FastOpen => {}
            Operation::Write(bytes) => self.write(*bytes, 0),
            Operation::WriteWith { bytes, more, urgent } => {
                let flag = |on: bool, flag: u16| if on { flag } else { 0 };
                self.write(*bytes, flag(*more, event_flags::MORE) | flag(*urgent, event_flags::URGENT));
            }
            Operation::Finish => {
                self.finished = true;
                let sent = self.world.finish(1);
                self.sent(sent);
            }
            Operation::Deliver(number) => {
                if let Some(index) = self.index(*number) {
                    let segment = self.network.remove(index);
                    self.deliver(&segment);
                }
            }
            Operation::DeliverAll => {
                for segment in std::mem::take(&mut self.network) {
                    self.deliver(&segment);
                }
            }
            Operation::Drop(number) => {
                if let Some(index) = self.index(*number) {
                    self.network.remove(index);
                }
            }
            Operation::DropAll => self.network.clear(),
            Operation::Double(number) => {
                if let Some(index) = self.index(*number) {
                    self.network.push(self.network[index].clone());
                }
            }
            Operation::Acknowledge { blocks, duplicate, window, marked, data } => {
                self.window = if *window == 0 { 0 } else { u64::from(*window) * 256 };
                let mut segment = self.acknowledgement(usize::from(blocks % 5), *duplicate);
                if *marked {
                    segment.flags |= ECE;
                }
                if *data {
                    segment.payload = vec![1; 5];
                }
                self.answer(segment);
            }
            Operation::Stale(number) => {
                let index = usize::from(*number).checked_rem(self.acknowledgements.len());
                if let Some(segment) = index.map(|index| self.acknowledgements[index].clone()) {
                    self.answer(segment);
                }
            }
            Operation::Renege => self.has.truncate(1),
            Operation::Lie { ack, blocks } => self.lie(*ack, blocks),
            Operation::Time(root) => {
                let sent = self.world.after(u64::from(*root) * u64::from(*root) / 256);
                self.sent(sent);
            }
            Operation::Timeout { cwnd } => {
                let value = u64::from(cwnd % 20) * MSS;
                self.ask(to_fast::RETRANSMIT, value);
            }
            Operation::TailProbe => self.ask(to_fast::TAIL_PROBE, 0),
            Operation::Update { cwnd, rate, mss } => {
                let cold = &self.world.tables.cold[1];
                cold.cwnd_bytes.store((1 + u32::from(*cwnd)) * MSS as u32, Relaxed);
                let rate = if *rate < 128 { abi::flow::RATE_UNLIMITED } else { u32::from(*rate) * 8000 };
                cold.rate_kbps.store(rate, Relaxed);
                cold.mss_bytes.store(if *mss < 200 { 0 } else { u32::from(*mss) * 4 }, Relaxed);
                self.ask(to_fast::UPDATE, 0);
            }
            Operation::Probe => self.ask(to_fast::PROBE, 0),
            Operation::Blocks(taken) => self.take_blocks(*taken),
            Operation::Restart => {
                self.world.restart();
                let sent = self.world.poll();
                self.sent(sent);
            }
        }
        let sent = self.world.poll();
        self.sent(sent);
        self.world.reports();
        self.world.events();
    }

    fn write(&mut self, bytes: u16, flags: u16) {
        let una = self.world.hot(1).snd_una.load(Relaxed);
        let room = (una + WRITTEN_MAX).saturating_sub(self.end);
        let bytes = u64::from(bytes).min(room);
        if self.finished || (bytes == 0 && flags == 0) {
            return;
        }
        let payload: Vec<u8> = (self.end..self.end + bytes).map(byte).collect();
        self.end += bytes;
        let tx = self.world.place(1, &payload);
        let flags = event_flags::TX | flags;
        let event =
            FlowEvent { flow: 1, flags, generation: 5, tx, urgent: tx as u32, ..FlowEvent::default() };
        let sent = self.world.application(event);
        self.sent(sent);
    }

    fn index(&self, number: u8) -> Option<usize> {
        usize::from(number).checked_rem(self.network.len())
    }

    fn ask(&mut self, operation: u8, value: u64) {
        let sent = self.world.ask(operation, 1, value);
        self.sent(sent);
    }

    /// The other flows receive something beyond a gap, or what fills it.
    fn take_blocks(&mut self, taken: bool) {
        for flow in 2..=5 {
            let mut segment = self.world.from_peer(flow, b"ab");
            if taken {
                segment.seq = segment.seq.wrapping_add(2);
            } else {
                segment.payload = b"abcd".to_vec();
            }
            self.world.receive(&segment);
        }
    }

    /// What leaves is the stream, within the window that the peer gave.
    fn sent(&mut self, sent: Vec<TestSegment>) {
        for segment in sent.into_iter().filter(|segment| segment.destination_port == 40_001) {
            let start = extend(segment.seq, self.end);
            let fin = segment.flags & FIN != 0;
            let end = start + segment.payload.len() as u64;
            assert!(segment.payload.len() as u64 <= MSS, "larger than the MSS");
            if segment.payload.is_empty() && !fin {
                continue;
            }
            assert!(start >= SND_START && end <= self.end, "{start:x} to {end:x} was never written");
            assert!(segment.payload.iter().zip(start..).all(|(sent, position)| *sent == byte(position)));
            assert!(!fin || (self.finished && end == self.end), "a FIN inside the stream");
            assert!(end <= self.edge || segment.payload.is_empty(), "beyond the window");
            assert!(segment.flags & CWR == 0 || !segment.payload.is_empty());
            let options = read_options(&segment.options);
            assert_eq!(options.timestamps.is_some(), self.timestamps);
            if self.network.len() < NETWORK_MAX {
                self.network.push(segment);
            }
        }
    }

    fn deliver(&mut self, segment: &TestSegment) {
        let start = extend(segment.seq, self.end);
        let mut end = start + segment.payload.len() as u64;
        if segment.flags & FIN != 0 {
            self.fin = Some(end);
            end += 1;
        }
        if self.has.iter().any(|one| one.0 <= start && end <= one.1) {
            self.duplicate = Some((start, end));
        }
        add(&mut self.has, (start, end));
        self.latest = start;
        // RFC 7323 §4.3, nearly: of the segment that may have filled the gap.
        if let Some((value, _)) = read_options(&segment.options).timestamps {
            if start <= self.has[0].1 {
                self.echo = value;
            }
        }
    }

    fn acknowledgement(&mut self, blocks: usize, duplicate: bool) -> TestSegment {
        let ack = self.has[0].1;
        let mut list = vec![];
        if duplicate {
            list.extend(self.duplicate.take());
        }
        let beyond = &self.has[1..];
        list.extend(beyond.iter().filter(|one| one.0 <= self.latest && self.latest < one.1));
        list.extend(beyond.iter().rev().filter(|one| !(one.0 <= self.latest && self.latest < one.1)));
        list.truncate(blocks.min(if self.timestamps { 3 } else { 4 }));
        self.build(ack, &list)
    }

    fn build(&mut self, ack: u64, blocks: &[(u64, u64)]) -> TestSegment {
        let mut segment =
            TestSegment { ack: ack as u32, window: self.window as u16, ..self.world.from_peer(1, b"") };
        segment.options.clear();
        if self.timestamps {
            segment.options = TestSegment::timestamps(self.world.hot(1).ts_recent.load(Relaxed), self.echo);
        }
        if self.sack && !blocks.is_empty() {
            segment.options.extend([1, 1, 5, 2 + 8 * blocks.len() as u8]);
            for (start, end) in blocks {
                segment.options.extend((*start as u32).to_be_bytes());
                segment.options.extend((*end as u32).to_be_bytes());
                add(&mut self.said, (*start, *end));
            }
        }
        segment
    }

    fn answer(&mut self, segment: TestSegment) {
        let ack = extend(segment.ack, self.world.hot(1).snd_una.load(Relaxed));
        self.edge = self.edge.max(ack + u64::from(segment.window));
        let sent = self.world.receive(&segment);
        if self.acknowledgements.len() < 64 {
            self.acknowledgements.push(segment);
        }
        self.sent(sent);
    }

    fn lie(&mut self, ack: i16, blocks: &[(i16, u8)]) {
        self.lied = true;
        let una = self.world.hot(1).snd_una.load(Relaxed);
        let blocks: Vec<_> = blocks
            .iter()
            .take(if self.timestamps { 3 } else { 4 })
            .map(|(start, _)| una.wrapping_add_signed((*start).into()))
            .zip(blocks)
            .map(|(start, (_, units))| (start, start + u64::from(*units) * 97))
            .collect();
        let segment = self.build(una.wrapping_add_signed(ack.into()), &blocks);
        self.answer(segment);
    }

    fn compare(&self) {
        let hot = self.world.hot(1);
        let [una, nxt, max, end] =
            [&hot.snd_una, &hot.snd_nxt, &hot.snd_max, &hot.snd_end].map(|word| word.load(Relaxed));
        assert!(una <= nxt && nxt <= max && max <= end + 1, "{una:x} {nxt:x} {max:x} {end:x}");
        let flags = hot.flags.load(Relaxed);
        let index = hot.recovery.load(Relaxed);
        let board = flags & hot_flags::SCOREBOARD != 0;
        assert!(!board || index != NONE, "a scoreboard needs a block");
        assert!(!board || flags & hot_flags::DISORDER != 0, "a scoreboard is disorder");
        let Some(block) = self.world.tables.recovery.get(index as usize).filter(|_| board) else {
            return;
        };
        let mut start = una;
        for range in block.ranges.iter().take(block.ranges_used.load(Relaxed) as usize) {
            let end = extend(range.end.load(Relaxed), una);
            assert!(start < end && end <= max, "ranges ascend within what is in flight");
            let sacked = range.state.load(Relaxed) == SACKED;
            let said = self.said.iter().any(|one| one.0 <= start && end <= one.1);
            assert!(!sacked || said, "{start:x} to {end:x}: the peer never said so");
            start = end;
        }
    }

    /// The network is good and the peer honest: everything arrives, and nothing is left.
    fn finish(&mut self) {
        if self.lied && self.has[0].1 < self.world.hot(1).snd_una.load(Relaxed) {
            // The peer acknowledged what it never had: its loss.
            let una = self.world.hot(1).snd_una.load(Relaxed);
            add(&mut self.has, (SND_START, una));
        }
        self.take_blocks(false);
        self.step(&Operation::Update { cwnd: 20, rate: 0, mss: 0 });
        self.step(&Operation::Finish);
        self.window = 60_000;
        for round in 0..1000 {
            let hot = self.world.hot(1);
            if hot.flags.load(Relaxed) & hot_flags::FIN_ACKED != 0 {
                break;
            }
            assert!(round < 999, "never done: {:x} of {:x}", hot.snd_una.load(Relaxed), self.end);
            let before = (hot.snd_una.load(Relaxed), hot.snd_max.load(Relaxed));
            self.step(&Operation::DeliverAll);
            let segment = self.acknowledgement(4, true);
            self.answer(segment);
            let sent = self.world.after(5000);
            self.sent(sent);
            self.step(&Operation::Time(0));
            let hot = self.world.hot(1);
            let after = (hot.snd_una.load(Relaxed), hot.snd_max.load(Relaxed));
            if before == after && self.network.is_empty() {
                self.step(&Operation::Timeout { cwnd: 4 });
            }
        }
        let hot = self.world.hot(1);
        assert_eq!(hot.snd_una.load(Relaxed), self.end + 1);
        // A block may be kept for a while, for a DSACK.
        for _ in 0..3 {
            self.world.after(3_000_000);
        }
        let flags = self.world.hot(1).flags.load(Relaxed);
        let unusual =
            hot_flags::DISORDER | hot_flags::SCOREBOARD | hot_flags::RECOVERY | hot_flags::SYN_RECEIVED;
        assert_eq!(flags & unusual, 0, "{flags:x}");
        let usage = self.world.core.usage(&[APPLICATION]);
        assert_eq!((usage.recovery_blocks, usage.scheduled), (0, 0), "{usage:?}");
        let retransmitted = self.world.counter(Counter::Retransmits);
        assert!(retransmitted < 1_000_000 && timestamp_value(self.world.now_us, 0) > 0);
    }
}
