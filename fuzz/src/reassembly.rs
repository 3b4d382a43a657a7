// SPDX-License-Identifier: MIT OR Apache-2.0
//! Data out of order, of several flows with few recovery blocks, through a whole core: against a model that knows
//! which positions arrived.

use crate::model::{be32, read_options};
use abi::{
    flow::{extend, hot_flags, NONE},
    kernel_ring::{to_fast, to_slow},
    limits::ETHERNET_MTU,
    recovery::INTERVALS,
    region::KernelRingLayout,
};
use arbitrary::Arbitrary;
use fastpath::testing::{recycle, TestSegment, World, ACK, APPLICATION, FIN, MSS, RCV_START, SYN, URG};
use std::sync::atomic::Ordering::Relaxed;

/// What the corpus covers.
pub const COVERS: &[&str] = &["fastpath/src/reassembly.rs", "fastpath/src/fast_open.rs"];

/// Flows 1 to this: more than there are recovery blocks.
const FLOWS: u32 = 6;
/// Bytes of the receive buffer in a world.
const BUFFER: u64 = 32_768;

/// One step.
#[allow(missing_docs)]
#[derive(Debug, Clone, Arbitrary)]
pub enum Operation {
    /// Data at this distance from the next expected, in units of `1 << shift` bytes.
    Data {
        flow: u8,
        start: i8,
        shift: u8,
        bytes: u16,
        fin: bool,
    },
    /// The next data expected.
    Next {
        flow: u8,
        bytes: u16,
        fin: bool,
    },
    /// The last data once more.
    Again {
        flow: u8,
    },
    Read {
        flow: u8,
        bytes: u16,
    },
    Time(u16),
    /// The fast path is killed and started.
    Restart,
    Remove {
        flow: u8,
    },
    /// A new connection, whose SYN brings data (RFC 7413).
    SynData {
        flow: u8,
        bytes: u16,
        /// It is given twice.
        twice: bool,
    },
    /// As [`Operation::Next`], with an urgent pointer.
    Urgent {
        flow: u8,
        bytes: u16,
        pointer: u16,
    },
}

#[derive(Debug, Clone, Default)]
struct Flow {
    /// Everything before is there.
    next: u64,
    /// Data beyond, ascending and disjoint.
    kept: Vec<(u64, u64)>,
    /// Where the stream ends, once a FIN was kept or taken.
    fin: Option<u64>,
    ended: bool,
    read: u64,
    /// The highest right edge of the window.
    edge: u64,
    last: Option<TestSegment>,
}

fn byte(flow: u32, position: u64) -> u8 {
    (position as u32).wrapping_mul(2_654_435_761).wrapping_add(flow.wrapping_mul(97)).to_be_bytes()[0]
}

struct Harness<const FAMILY: u8> {
    world: World<FAMILY>,
    flows: Vec<Flow>,
}

/// Runs the operations, over IPv4 and over IPv6.
pub fn check(operations: &[Operation]) {
    run::<4>(operations);
    run::<6>(operations);
}

fn run<const FAMILY: u8>(operations: &[Operation]) {
    recycle();
    let mut harness = Harness::<FAMILY> { world: World::with(8, fastpath::Config::default()), flows: vec![] };
    harness.flows = vec![Flow::default(); FLOWS as usize + 1];
    for flow in 1..=FLOWS {
        harness.install(flow, 0);
    }
    for operation in operations {
        harness.step(operation);
        for flow in 1..=FLOWS {
            harness.compare(flow);
        }
    }
    harness.finish();
}

fn id(number: u8) -> u32 {
    u32::from(number) % FLOWS + 1
}

impl<const FAMILY: u8> Harness<FAMILY> {
    fn install(&mut self, flow: u32, flags: u32) {
        self.world.prepare(flow);
        self.world.hot(flow).flags.fetch_or(hot_flags::SACK | flags, Relaxed);
        self.world.ask(to_fast::INSTALL, flow, 0);
        self.world.events();
        self.flows[flow as usize] =
            Flow { next: RCV_START, read: RCV_START, edge: RCV_START + BUFFER, ..Flow::default() };
    }

    fn step(&mut self, operation: &Operation) {
        match operation {
            Operation::Data { flow, start, shift, bytes, fin } => {
                let distance = i64::from(*start) << (shift % 11);
                let start = self.flows[id(*flow) as usize].next.wrapping_add_signed(distance);
                self.data(id(*flow), start, u64::from(bytes % 1449), *fin);
            }
            Operation::Next { flow, bytes, fin } => {
                let start = self.flows[id(*flow) as usize].next;
                self.data(id(*flow), start, u64::from(bytes % 1449), *fin);
            }
            Operation::Again { flow } => {
                if let Some(segment) = self.flows[id(*flow) as usize].last.clone() {
                    let start = extend(segment.seq, self.flows[id(*flow) as usize].next);
                    self.segment(id(*flow), start, &segment);
                }
            }
            Operation::Read { flow, bytes } => {
                let flow = id(*flow);
                let model = &mut self.flows[flow as usize];
                let end = model.next - u64::from(model.ended);
                model.read = end.min(model.read + u64::from(*bytes));
                let sent = self.world.read_to(flow, self.flows[flow as usize].read);
                self.sent(&sent);
            }
            Operation::Time(us) => {
                let sent = self.world.after(u64::from(*us));
                self.sent(&sent);
            }
            Operation::Restart => {
                self.world.restart();
                for flow in 1..=FLOWS {
                    let model = &mut self.flows[flow as usize];
                    model.kept.clear();
                    if !model.ended {
                        model.fin = None;
                    }
                }
                let sent = self.world.poll();
                self.sent(&sent);
                self.world.reports();
                self.world.events();
            }
            Operation::Remove { flow } => self.replace(id(*flow), 0),
            Operation::SynData { flow, bytes, twice } => {
                let (flow, bytes) = (id(*flow), u64::from(*bytes) % (MSS as u64 + 1));
                self.replace(flow, hot_flags::SYN_RECEIVED);
                for _ in 0..1 + u32::from(*twice) {
                    self.syn_data(flow, bytes);
                }
            }
            Operation::Urgent { flow, bytes, pointer } => {
                let start = self.flows[id(*flow) as usize].next;
                self.data_with(id(*flow), start, u64::from(bytes % 1449), false, Some(*pointer));
            }
        }
        self.world.reports();
        self.world.events();
    }

    /// The flow is removed, and another takes its place.
    fn replace(&mut self, flow: u32, flags: u32) {
        self.world.ask(to_fast::REMOVE, flow, 0);
        assert_eq!(self.world.hot(flow).recovery.load(Relaxed), NONE, "its block went back");
        self.world.reports();
        self.install(flow, flags);
    }

    /// The slow path gives the SYN that opened the flow: its data is taken once, and not acknowledged here.
    fn syn_data(&mut self, flow: u32, bytes: u64) {
        let payload: Vec<u8> = (RCV_START..RCV_START + bytes).map(|position| byte(flow, position)).collect();
        let seq = (RCV_START - 1) as u32;
        let frame =
            TestSegment { seq, ack: 0, flags: SYN, payload, ..self.world.from_peer(flow, b"") }.encode();
        let slot = KernelRingLayout::of(ETHERNET_MTU).slot(self.world.to_fast.position());
        assert!(self.world.memory.to_fast_slots.write(slot, &frame));
        let sent = self.world.ask(to_fast::SYN_DATA, flow, frame.len() as u64);
        assert!(sent.is_empty(), "the SYN-ACK acknowledges it");
        assert!(self.world.report_ops().contains(&to_slow::SYN_DATA), "an answer whatever was taken");
        let model = &mut self.flows[flow as usize];
        model.next = model.next.max(RCV_START + bytes);
    }

    fn data(&mut self, flow: u32, start: u64, bytes: u64, fin: bool) {
        self.data_with(flow, start, bytes, fin, None);
    }

    fn data_with(&mut self, flow: u32, start: u64, bytes: u64, fin: bool, urgent: Option<u16>) {
        let model = &self.flows[flow as usize];
        // A peer's stream has one end, and nothing behind it.
        let end = model.fin.unwrap_or(u64::MAX);
        let bytes = bytes.min(end.saturating_sub(start));
        let beyond = model.kept.last().map_or(model.next, |kept| kept.1).max(model.next);
        let fin = fin && (end == start + bytes || (end == u64::MAX && start + bytes >= beyond));
        if start > end || (bytes == 0 && !fin) {
            return;
        }
        let payload: Vec<u8> = (start..start + bytes).map(|position| byte(flow, position)).collect();
        let segment = TestSegment {
            seq: start as u32,
            flags: ACK | if fin { FIN } else { 0 } | if urgent.is_some() { URG } else { 0 },
            urgent: urgent.unwrap_or(0),
            payload,
            ..self.world.from_peer(flow, b"")
        };
        self.flows[flow as usize].last = Some(segment.clone());
        self.segment(flow, start, &segment);
    }

    fn segment(&mut self, flow: u32, start: u64, segment: &TestSegment) {
        let free = self.world.core.usage(&[APPLICATION]).recovery_blocks < 4;
        let held = self.world.hot(flow).recovery.load(Relaxed) != NONE;
        let before = self.flows[flow as usize].clone();
        let fin = segment.flags & FIN != 0;
        // What of it is within the window.
        let end = start + segment.payload.len() as u64;
        let (from, to) = (start.max(before.next), end.min(before.edge));
        let whole = to == end && (start < before.edge || start == before.next);
        let mut wanted = before.clone();
        if from < to || (fin && whole && end >= before.next) {
            wanted.take(from.min(to), to, fin && whole);
        }
        let sent = self.world.receive(segment);
        let room = wanted.kept.len() <= INTERVALS && (free || held);
        let model = &mut self.flows[flow as usize];
        if !before.ended {
            let moved = self.world.hot(flow).rcv_nxt.load(Relaxed) != before.next;
            if wanted.next != before.next || room || moved {
                *model = wanted;
            }
            // A bare FIN beyond a gap needs a block too, nothing else may be dropped.
        }
        self.sent(&sent);
    }

    /// Acknowledgements say what is there, and the window's edge never comes back.
    fn sent(&mut self, sent: &[TestSegment]) {
        for segment in sent {
            let flow = u32::from(segment.destination_port) - 40_000;
            let model = &mut self.flows[flow as usize];
            let ack = extend(segment.ack, model.next);
            assert_eq!(ack, model.next, "acknowledges what is there");
            let edge = ack + u64::from(segment.window);
            assert!(edge >= model.edge || segment.window == 0, "the window shrinks");
            assert!(edge <= model.read + BUFFER + 1, "more than the buffer");
            model.edge = model.edge.max(edge);
            let options = read_options(&segment.options);
            assert!(options.timestamps.is_some() && be32(&segment.options, 0).is_some());
            let blocks: Vec<_> = options.blocks.iter().flatten().collect();
            for (index, (from, to)) in blocks.iter().enumerate() {
                let block = (extend(*from, ack), extend(*to, ack));
                let kept = model.kept.contains(&block);
                // RFC 2883: the first may tell of a duplicate, of what is acknowledged or within another.
                let twice =
                    block.1 <= ack || model.kept.iter().any(|one| one.0 <= block.0 && block.1 <= one.1);
                assert!(kept || (index == 0 && (twice || block.0 < ack)), "{block:x?} was never kept");
            }
        }
    }

    fn compare(&self, flow: u32) {
        let model = &self.flows[flow as usize];
        let hot = self.world.hot(flow);
        let next = hot.rcv_nxt.load(Relaxed);
        assert_eq!(next, model.next, "flow {flow}: {model:x?}");
        let ended = hot.flags.load(Relaxed) & hot_flags::FIN_RECEIVED != 0;
        assert_eq!(ended, model.ended);
        let index = hot.recovery.load(Relaxed);
        let block = self.world.tables.recovery.get(index as usize);
        let kept: Vec<_> = block.map_or(vec![], |block| {
            assert_eq!(block.flow.load(Relaxed), flow + 1, "whose block it is");
            let count = block.count.load(Relaxed) as usize;
            let intervals = block.intervals[..count].iter();
            intervals.map(|one| (one.start.load(Relaxed), one.end.load(Relaxed))).collect()
        });
        assert_eq!(kept, model.kept, "flow {flow}");
        let needed = !model.kept.is_empty() || (model.fin.is_some() && !model.ended);
        assert_eq!(block.is_some(), needed, "a block is held exactly while it is needed");
    }

    /// The peer sends the rest: everything arrives, in order and once, and nothing is left.
    fn finish(&mut self) {
        for flow in 1..=FLOWS {
            for _ in 0..200 {
                self.read_all(flow);
                let model = &self.flows[flow as usize];
                if model.ended {
                    break;
                }
                let (start, known) = (model.next, model.fin);
                let end = known.unwrap_or(model.kept.last().map_or(start, |kept| kept.1));
                let bytes = model.kept.first().map_or(end, |kept| kept.0).saturating_sub(start).min(1448);
                self.data(flow, start, bytes, start + bytes == end);
                self.compare(flow);
            }
            assert!(self.flows[flow as usize].ended, "flow {flow} never ends");
        }
        let usage = self.world.core.usage(&[APPLICATION]);
        assert_eq!((usage.chunks, usage.recovery_blocks), (0, 0), "an idle flow holds nothing");
    }

    /// The application reads what is there: the peer's stream.
    fn read_all(&mut self, flow: u32) {
        let model = &mut self.flows[flow as usize];
        let (from, to) = (model.read, model.next - u64::from(model.ended));
        let wanted: Vec<u8> = (from..to).map(|position| byte(flow, position)).collect();
        model.read = to;
        assert_eq!(self.world.received(flow, from, to), wanted, "flow {flow} from {from:x}");
        let sent = self.world.read_to(flow, to);
        self.sent(&sent);
        self.world.reports();
        self.world.events();
    }
}

impl Flow {
    /// `from..to` arrived, perhaps with the FIN behind it.
    fn take(&mut self, from: u64, to: u64, fin: bool) {
        if fin {
            self.fin = Some(to);
        }
        if from < to {
            let mut kept = vec![(from, to)];
            for (start, end) in self.kept.drain(..) {
                if end < kept[0].0 || start > kept[0].1 {
                    kept.push((start, end));
                } else {
                    kept[0] = (kept[0].0.min(start), kept[0].1.max(end));
                }
            }
            kept.sort_unstable();
            self.kept = kept;
        }
        if self.kept.first().is_some_and(|kept| kept.0 <= self.next) {
            self.next = self.kept.remove(0).1.max(self.next);
        }
        if self.fin == Some(self.next) {
            self.next += 1;
            self.ended = true;
            self.kept.clear();
        }
    }
}
