// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Segments that come in fragments (RFC 791, RFC 8200 §4.5): what is whole goes on as if it had come so, what is odd harms
//! nobody.

mod common;

use abi::message::FlowInfo;
use common::{frames::*, *};
use slowpath::counters::Counter;

const SECOND: u64 = 1_000_000;

/// A fragment of a whole frame's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    from: usize,
    to: usize,
    more: bool,
}

fn header_bytes() -> usize {
    14 + 20 + extra() as usize
}

/// Pieces of `frame` at the given places.
fn cuts(frame: &[u8], at: &[usize]) -> Vec<Cut> {
    let end = frame.len() - header_bytes();
    let mut edges = vec![0];
    edges.extend(at.iter().copied().filter(|at| *at > 0 && *at < end));
    edges.push(end);
    edges.windows(2).map(|edge| Cut { from: edge[0], to: edge[1], more: edge[1] != end }).collect()
}

/// The fragment, as a router (IPv4) or the sender makes it.
fn fragment(frame: &[u8], id: u16, cut: Cut) -> Vec<u8> {
    let (header, payload) = frame.split_at(header_bytes());
    let payload = &payload[cut.from..cut.to];
    if is_v6() {
        let word = (cut.from as u16 | u16::from(cut.more)).to_be_bytes();
        let [high, low] = id.to_be_bytes();
        let extension = [6, 0, word[0], word[1], 0, 7, high, low];
        let mut packet = ipv6(&frame[22..38], &frame[38..54], 44, 64, &[&extension, payload].concat());
        packet[..16].copy_from_slice(&header[..16]);
        return packet;
    }
    let mut packet = [header, payload].concat();
    packet[16..18].copy_from_slice(&((20 + payload.len()) as u16).to_be_bytes());
    packet[18..20].copy_from_slice(&id.to_be_bytes());
    let word = (cut.from >> 3) as u16 | if cut.more { 0x2000 } else { 0 };
    packet[20..22].copy_from_slice(&word.to_be_bytes());
    checksum_again(&mut packet);
    packet
}

fn checksum_again(packet: &mut [u8]) {
    packet[24..26].fill(0);
    let mut sum: u32 = packet[14..34].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

fn set_ecn(packet: &mut [u8], ecn: u8) {
    if is_v6() {
        packet[15] = packet[15] & 0xcf | ecn << 4;
    } else {
        packet[15] = packet[15] & !3 | ecn;
        checksum_again(packet);
    }
}

fn ecn(packet: &[u8]) -> u8 {
    if is_v6() {
        packet[15] >> 4 & 3
    } else {
        packet[15] & 3
    }
}

/// A connection, and a segment of `bytes` for it.
fn established(bytes: usize) -> (World, FlowInfo, Tcp) {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    let info = world.accepted(listener, 8080, 4000);
    let payload = (0..bytes).map(|at| (at * 7 >> 3) as u8).collect();
    let segment = Tcp { payload, ..Tcp::ack(4000, 8080, 5001, info.tx_start as u32) };
    world.frames.clear();
    (world, info, segment)
}

fn failed(world: &World) -> u64 {
    world.stack.counter(Counter::ReassembliesFailed)
}

fn receive(world: &mut World, frame: Vec<u8>) {
    world.receive(frame);
    world.pump();
}

#[test]
fn a_segment_in_fragments_is_handed_on_whole() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let (mut world, info, segment) = established(1400);
        let frame = segment.frame();
        // The last of them is shorter than any segment.
        let pieces = cuts(&frame, &[512, 1416]);
        for index in order {
            assert!(world.injected.is_empty(), "{order:?}");
            receive(&mut world, fragment(&frame, 9, pieces[index]));
        }
        let (flow, bytes) = world.injected.pop().expect("handed on");
        assert_eq!((flow, Tcp::parse(&bytes)), (info.flow, segment.clone()), "{order:?}");
        assert_eq!(bytes[..14], frame[..14]);
        assert_eq!(world.stack.counter(Counter::Reassembled), 1);
        assert_eq!(failed(&world), 0);
        // Nothing is left of it: a fragment more begins another datagram.
        receive(&mut world, fragment(&frame, 9, pieces[0]));
        assert!(world.injected.is_empty());
        world.advance(61 * SECOND);
        assert_eq!(failed(&world), 1);
    }
}

#[test]
fn a_handshake_in_fragments() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    let whole = Tcp::syn(4000, 8080, 5000).frame();
    for cut in cuts(&whole, &[24, 32]).into_iter().rev() {
        assert!(world.sent().is_empty());
        receive(&mut world, fragment(&whole, 1, cut));
    }
    let syn_ack = world.sent().pop().expect("SYN-ACK");
    let ack = Tcp { payload: vec![5; 100], ..Tcp::ack(4000, 8080, 5001, syn_ack.seq.wrapping_add(1)) };
    let whole = ack.frame();
    for cut in cuts(&whole, &[64]) {
        receive(&mut world, fragment(&whole, 2, cut));
    }
    assert!(world.accept(listener).is_ok());
    assert_eq!(Tcp::parse(&world.injected.pop().unwrap().1).payload, ack.payload);
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
    fn shuffle<T>(&mut self, items: &mut [T]) {
        for index in (1..items.len()).rev() {
            items.swap(index, self.below(index + 1));
        }
    }
}

/// However a segment is cut, in whatever order its fragments come, and if some come twice: it is handed on once. If one
/// overlaps another with other bytes, or ends elsewhere, it is not handed on at all (RFC 5722), and the next one is.
#[test]
fn any_cuts_in_any_order() {
    for seed in 0..100u64 {
        let mut random = Random(seed);
        let (mut world, info, segment) = established(1 + random.below(1440 - extra() as usize));
        let frame = segment.frame();
        let units = (frame.len() - header_bytes()) / 8;
        let mut at: Vec<_> = (0..random.below(20)).map(|_| 24 + 8 * random.below(units)).collect();
        at.sort_unstable();
        at.dedup();
        let mut pieces = cuts(&frame, &at);
        if pieces.len() < 2 {
            continue;
        }
        let spoilt = random.below(3) == 0;
        let doubled = pieces[random.below(pieces.len())];
        pieces.push(doubled);
        random.shuffle(&mut pieces);
        let mut frames: Vec<_> = pieces.iter().map(|cut| fragment(&frame, 3, *cut)).collect();
        if spoilt {
            // Another one for a part of the datagram; before the last piece, or it would come too late.
            let from = 8 * random.below(units);
            let to = (from + 8 * (1 + random.below(4))).min(frame.len() - header_bytes());
            let mut odd = fragment(&frame, 3, Cut { from, to, more: true });
            match random.below(3) {
                0 => *odd.last_mut().unwrap() ^= 1,
                // Half of it is there already, or will be.
                _ => odd = fragment(&frame, 3, Cut { from, to: to.min(from + 8), more: false }),
            }
            frames.insert(random.below(frames.len() - 1), odd);
        }
        for frame in frames {
            receive(&mut world, frame);
        }
        let handed: Vec<_> = std::mem::take(&mut world.injected);
        if spoilt {
            assert!(handed.iter().all(|(_, bytes)| Tcp::parse(bytes) == segment), "seed {seed}: {pieces:?}");
            assert!(handed.len() <= 1, "seed {seed}: {pieces:?}");
        } else {
            assert_eq!(handed.len(), 1, "seed {seed}: {pieces:?}");
            assert_eq!((handed[0].0, Tcp::parse(&handed[0].1)), (info.flow, segment), "seed {seed}");
        }
        world.advance(61 * SECOND);
        for cut in cuts(&frame, &at) {
            receive(&mut world, fragment(&frame, 3, cut));
        }
        assert_eq!(world.injected.len(), 1, "seed {seed}: the next one");
    }
}

#[test]
fn overlapping_fragments_spoil_their_datagram() {
    let (mut world, _, segment) = established(1000);
    let frame = segment.frame();
    let [first, second, third] = cuts(&frame, &[504, 800])[..] else { panic!() };
    let overlap = Cut { from: 496, ..second };
    let other = Cut { from: 480, to: 488, more: false };
    let beyond = Cut { from: 800, to: frame.len() - header_bytes() - 8, more: true };
    let other_end = Cut { more: false, ..beyond };
    for (case, list) in [
        &[first, overlap, second, third][..],
        &[first, other, second, third],
        &[third, second, other, first],
        &[third, other_end, second, first],
    ]
    .into_iter()
    .enumerate()
    {
        // What comes after the overlap is of the datagram too: it makes no new one.
        for cut in list {
            receive(&mut world, fragment(&frame, case as u16, *cut));
        }
        assert!(world.injected.is_empty(), "case {case}: {list:?}");
    }
    let mut changed = fragment(&frame, 77, first);
    changed[200] ^= 1;
    receive(&mut world, fragment(&frame, 77, first));
    receive(&mut world, changed);
    receive(&mut world, fragment(&frame, 77, second));
    receive(&mut world, fragment(&frame, 77, third));
    assert!(world.injected.is_empty(), "two first fragments that differ");
    // In its own name it works.
    for cut in [third, first, second] {
        receive(&mut world, fragment(&frame, 78, cut));
    }
    assert_eq!(world.injected.len(), 1);
}

#[test]
fn what_is_no_fragment_of_a_segment_is_dropped() {
    let (mut world, _, segment) = established(1440 - extra() as usize);
    let frame = segment.frame();
    let end = frame.len() - header_bytes();
    let good = fragment(&frame, 1, Cut { from: 0, to: 512, more: true });
    let mut not_tcp = good.clone();
    not_tcp[if is_v6() { 54 } else { 23 }] = 17;
    if !is_v6() {
        checksum_again(&mut not_tcp);
    }
    for (what, odd) in [
        ("not whole units", fragment(&frame, 2, Cut { from: 0, to: 509, more: true })),
        ("nothing", fragment(&frame, 3, Cut { from: 512, to: 512, more: true })),
        ("less than a header", fragment(&frame, 4, Cut { from: 0, to: 16, more: true })),
        ("of UDP", not_tcp),
    ] {
        let before = world.stack.counter(Counter::FragmentsDropped);
        receive(&mut world, odd);
        assert_eq!(world.stack.counter(Counter::FragmentsDropped), before + 1, "{what}");
        world.advance(61 * SECOND);
        assert_eq!(failed(&world), 0, "{what}: it takes no room");
    }
    // A datagram larger than the largest MTU.
    let far = Cut { from: end - 8, to: end, more: false };
    let mut long = fragment(&frame, 5, far);
    let at = if is_v6() { 56 } else { 20 };
    let word = u16::from_be_bytes([long[at], long[at + 1]]) + if is_v6() { 256 } else { 32 };
    long[at..at + 2].copy_from_slice(&word.to_be_bytes());
    if !is_v6() {
        checksum_again(&mut long);
    }
    for frame in [fragment(&frame, 5, Cut { from: 0, to: end - 8, more: true }), long] {
        receive(&mut world, frame);
    }
    // A checksum that does not hold: it could not be verified before.
    let mut broken = frame.clone();
    *broken.last_mut().unwrap() ^= 1;
    for cut in cuts(&broken, &[512]) {
        receive(&mut world, fragment(&broken, 6, cut));
    }
    assert!(world.injected.is_empty());
    assert_eq!(failed(&world), 1);
    // To nobody here.
    let elsewhere = Tcp { to: LOCAL + 7, ..segment }.frame();
    for cut in cuts(&elsewhere, &[512]) {
        receive(&mut world, fragment(&elsewhere, 7, cut));
    }
    assert!(world.injected.is_empty());
    assert_eq!(world.stack.counter(Counter::Reassembled), 0);
}

/// Behind options or extension headers nobody has verified the checksum either.
#[test]
fn the_checksum_behind_options_is_verified() {
    let (mut world, _, segment) = established(100);
    let mut frame = Tcp { ip_options: vec![1; 4], ..segment }.frame();
    receive(&mut world, frame.clone());
    assert_eq!(world.injected.len(), 1);
    *frame.last_mut().unwrap() ^= 1;
    receive(&mut world, frame);
    assert_eq!(world.injected.len(), 1);
    assert_eq!(world.stack.counter(Counter::Malformed), 1);
}

/// What is taken off a frame on its way to the fast path takes nothing else with it.
#[test]
fn marks_and_hop_limit_survive_options() {
    let (mut world, _, segment) = established(100);
    let mut frame = Tcp { ip_options: vec![1; 4], ..segment.clone() }.frame();
    let at = if is_v6() { 21 } else { 22 };
    if is_v6() {
        frame[15] |= 3 << 4;
    } else {
        // TTL and mark change the header's sum, which has six words.
        frame[15] |= 3;
        frame[24..26].fill(0);
        let mut sum: u32 = frame[14..38].chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1])).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }
    receive(&mut world, frame.clone());
    let (_, bytes) = world.injected.pop().expect("handed on");
    assert_eq!((ecn(&bytes), bytes[at]), (3, frame[at]));
    assert_eq!(Tcp::parse(&bytes), segment);
}

/// RFC 3168 §5.3.
#[test]
fn marks_of_fragments_are_marks_of_the_whole() {
    for (first, second, whole) in
        [(0, 0, Some(0)), (2, 2, Some(2)), (2, 3, Some(3)), (3, 2, Some(3)), (0, 3, None), (3, 0, None)]
    {
        let (mut world, _, segment) = established(1000);
        let frame = segment.frame();
        for (cut, mark) in cuts(&frame, &[512]).into_iter().zip([first, second]) {
            let mut packet = fragment(&frame, 1, cut);
            set_ecn(&mut packet, mark);
            receive(&mut world, packet);
        }
        let found = world.injected.pop().map(|(_, bytes)| ecn(&bytes));
        assert_eq!(found, whole, "{first} {second}");
    }
}

/// Whatever fragments come: their room is bounded, one source takes a part of it, the oldest give way, and time ends all.
#[test]
fn room_and_time_are_bounded() {
    let (mut world, _, segment) = established(1000);
    let frame = segment.frame();
    let [first, second] = cuts(&frame, &[512])[..] else { panic!() };
    receive(&mut world, fragment(&frame, 1, first));
    world.advance(1000);
    // Another source's many: the first datagram keeps its room.
    let other = Tcp { from: PEER + 9, ..segment.clone() }.frame();
    for id in 0..100 {
        receive(&mut world, fragment(&other, id, first));
        world.advance(10);
    }
    assert_eq!(failed(&world), 100 - 16);
    receive(&mut world, fragment(&frame, 1, second));
    assert_eq!(world.injected.len(), 1);
    world.advance(59 * SECOND);
    assert_eq!(failed(&world), 100 - 16);
    world.advance(SECOND + 1000);
    assert_eq!(failed(&world), 100, "RFC 8200 §4.5: a minute");
    // Of very many sources the last ones have room.
    for source in 0..200u32 {
        let one = Tcp { from: PEER + 20 + source % 100, ..segment.clone() }.frame();
        receive(&mut world, fragment(&one, source as u16, first));
        world.advance(10);
    }
    assert_eq!(failed(&world), 100 + 200 - 64);
    world.injected.clear();
    receive(&mut world, fragment(&frame, 2, first));
    receive(&mut world, fragment(&frame, 2, second));
    assert_eq!(world.injected.len(), 1);
}

/// Sixteen bits of identification come round: fragments far apart are not of one datagram.
#[test]
fn an_identification_that_comes_round_is_another_datagram() {
    for (between, whole) in [(30, true), (80, false)] {
        let (mut world, _, segment) = established(1000);
        let frame = segment.frame();
        let [first, second] = cuts(&frame, &[512])[..] else { panic!() };
        receive(&mut world, fragment(&frame, 1, first));
        for id in 0..between {
            receive(&mut world, fragment(&frame, 100 + id, first));
            receive(&mut world, fragment(&frame, 100 + id, second));
            world.advance(10_000);
        }
        world.injected.clear();
        receive(&mut world, fragment(&frame, 1, second));
        assert_eq!(!world.injected.is_empty(), whole, "{between}");
    }
}
