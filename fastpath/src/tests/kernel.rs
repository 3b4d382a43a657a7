// SPDX-License-Identifier: MIT OR Apache-2.0
//! Operations of the slow path and what it is told.

use super::{Random, World};
use crate::testing::*;
use abi::{
    core_status::Counter,
    flow::{control_flags, hot_flags},
    kernel_ring::{reason, to_fast, to_slow, KernelEntry},
};
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn frames_without_a_flow_go_to_the_slow_path_with_the_reason() {
    let mut world = World::connected();
    let unknown = world.from_peer(2, b"who").encode();
    let mut arp = vec![0xff; 42];
    arp[12..14].copy_from_slice(&[8, 6]);
    let mut options = world.from_peer(1, b"0123456789").encode();
    if World::TCP == 54 {
        // Hop-by-hop options.
        options[20] = 0;
    } else {
        options[14] = 0x46;
    }
    for (frame, why) in [(unknown, reason::NO_FLOW), (arp, reason::NOT_TCP), (options, reason::IP_OPTIONS)] {
        assert!(world.receive_frame(frame.clone()).is_empty());
        let reports = world.reports();
        assert_eq!(reports.len(), 1);
        assert_eq!((reports[0].0.op, reports[0].0.reason), (to_slow::PACKET, why));
        assert_eq!(reports[0].1, frame);
    }
    assert_eq!(world.counter(Counter::ToSlowpath), 3);
    // Not for us: another host's frame on a shared segment.
    let mut foreign = world.from_peer(2, b"who");
    foreign.destination_mac = [2, 9, 9, 9, 9, 9];
    world.receive(&foreign);
    // Broken ones are dropped.
    world.receive_frame(vec![1; 13]);
    world.receive_frame(vec![]);
    assert!(world.reports().is_empty());
    assert_eq!(world.counter(Counter::Malformed), 2);
}

#[test]
fn a_full_ring_drops_frames_and_keeps_reports() {
    let mut world = World::connected();
    let mut unknown = world.from_peer(2, b"");
    unknown.flags = SYN;
    let unknown = unknown.encode();
    for _ in 0..1030 {
        world.core.port_mut().incoming.push_back(unknown.clone());
        world.core.poll(world.now_us);
    }
    assert_eq!(world.counter(Counter::ToSlowpath), 1024);
    assert_eq!(world.counter(Counter::SlowpathFull), 6);
    let mut fin = world.from_peer(1, b"");
    fin.flags |= FIN;
    world.receive(&fin);
    // While a report waits, no operation is taken.
    world.ask(to_fast::REMOVE, 1, 0);
    assert!(world.hot(1).flags.load(Relaxed) & hot_flags::INSTALLED != 0);
    assert!(!world.core.prepare_sleep());
    assert_eq!(world.reports().len(), 1024);
    world.poll();
    world.poll();
    assert_eq!(world.report_ops(), [to_slow::FIN_RECEIVED, to_slow::REMOVED]);
}

#[test]
fn transmit_sends_the_frame_as_it_is() {
    let mut world = World::new();
    let frame = world.from_peer(1, b"a whole frame").encode();
    let sent = world.ask_with_frame(to_fast::TRANSMIT, &frame);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].encode()[34..], frame[34..]);
    // Lengths beyond the slot, or beyond a packet.
    for bytes in [2049, u64::MAX, 2048] {
        assert!(world.ask(to_fast::TRANSMIT, 0, bytes).is_empty());
        assert!(world.ask(to_fast::INJECT, 0, bytes).is_empty());
    }
    assert_eq!(world.counter(Counter::Malformed), 6);
    assert_eq!(world.core.port_mut().live(), 0);
}

#[test]
fn inject_is_as_if_received() {
    let mut world = World::new();
    world.prepare(1);
    let first = world.from_peer(1, b"early data").encode();
    world.receive_frame(first.clone());
    assert_eq!(world.report_ops(), [to_slow::PACKET]);
    assert!(world.to_fast.push(KernelEntry { op: to_fast::INSTALL, reason: 0, flow: 1, value: 0 }.encode()));
    world.ask_with_frame(to_fast::INJECT, &first);
    assert_eq!(world.received(1, RCV_START, RCV_START + 10), b"early data");
}

#[test]
fn acknowledge_and_probe() {
    let mut world = World::connected();
    let sent = world.ask(to_fast::ACKNOWLEDGE, 1, 0);
    assert_eq!(
        (sent.len(), sent[0].seq, sent[0].ack, sent[0].flags),
        (1, SND_START as u32, RCV_START as u32, ACK)
    );
    let mut closed = world.from_peer(1, b"");
    closed.window = 0;
    world.receive(&closed);
    assert!(world.write(1, b"waits").is_empty());
    assert_eq!(world.report_ops(), [to_slow::ACTIVE], "the slow path must learn of it to probe");
    let sent = world.ask(to_fast::PROBE, 1, 0);
    assert_eq!((sent.len(), sent[0].seq, sent[0].payload.len()), (1, SND_START as u32 - 1, 0));
    assert_eq!(world.counter(Counter::WindowProbes), 1);
    let mut open = world.from_peer(1, b"");
    open.window = 1000;
    assert_eq!(world.receive(&open)[0].payload, b"waits");
    // The window closes with data in flight: a timeout asks for it instead of sending into it.
    let mut world = World::connected();
    world.write(1, b"data");
    let mut closed = world.from_peer(1, b"");
    closed.ack = SND_START as u32;
    closed.window = 0;
    closed.seq += 0;
    world.hot(1).snd_wnd.store(0, Relaxed);
    let sent = world.ask(to_fast::RETRANSMIT, 1, 1428);
    assert_eq!((sent.len(), sent[0].payload.len(), sent[0].seq), (1, 0, SND_START as u32 - 1));
}

#[test]
fn finish_sends_the_fin() {
    let mut world = World::connected();
    let sent = world.ask(to_fast::FINISH, 1, 0);
    assert_eq!((sent.len(), sent[0].flags), (1, ACK | FIN));
    assert!(world.ask(to_fast::FINISH, 1, 0).is_empty(), "said twice");
    assert_eq!(world.hot(1).snd_max.load(Relaxed), SND_START + 1);
}

#[test]
fn remove_forgets_the_flow_and_its_slot_can_be_used_again() {
    let mut world = World::connected();
    world.receive(&world.from_peer(1, b"unread"));
    let mut beyond = world.from_peer(1, b"out of order");
    beyond.seq += 5000;
    world.receive(&beyond);
    world.write(1, b"in flight");
    world.reports();
    let used = world.chunks_in_use();
    assert!(used >= 2);
    world.ask(to_fast::REMOVE, 1, 0);
    assert_eq!(world.report_ops(), [to_slow::REMOVED]);
    assert_eq!(world.chunks_in_use(), 0);
    assert!(world.tables.recovery.iter().all(|block| block.flow.load(Relaxed) == 0));
    world.receive(&world.from_peer(1, b"late"));
    assert_eq!(world.report_ops(), [to_slow::PACKET]);
    assert!(world.after(1000).is_empty(), "no delayed acknowledgement of a dead flow");
    // Said twice: answered twice, as entries are idempotent.
    world.ask(to_fast::REMOVE, 1, 0);
    assert_eq!(world.report_ops(), [to_slow::REMOVED]);
    world.install(1);
    world.receive(&world.from_peer(1, b"new life"));
    assert_eq!(world.received(1, RCV_START, RCV_START + 8), b"new life");
    assert_eq!(world.after(100).len(), 1);
}

#[test]
fn any_operation_on_any_flow_is_survived() {
    let mut world = World::connected();
    let mut random = Random::new(3);
    for _ in 0..5000 {
        let flow = [1, 2, 7, 8, u32::MAX][random.below(5) as usize];
        let value = [0, 1, 100, 2048, random.next()][random.below(5) as usize];
        let op = random.below(13) as u8;
        if op != to_fast::TRANSMIT {
            assert!(world.to_fast.push(KernelEntry { op, reason: 0, flow, value }.encode()));
        }
        world.core.poll(world.now_us);
        world.core.port_mut().outgoing.clear();
        world.reports();
        world.events();
        world.now_us += 50;
    }
}

#[test]
fn the_slow_path_is_woken_if_it_sleeps() {
    let mut world = World::connected();
    assert!(!world.core.slow_path_needs_wake());
    world.receive_frame(world.from_peer(2, b"").encode());
    assert!(!world.core.slow_path_needs_wake(), "it is awake");
    world.receive_frame(world.from_peer(2, b"").encode());
    world.tables.clock.slowpath_waiting.store(1, Relaxed);
    assert!(world.core.slow_path_needs_wake());
    assert!(!world.core.slow_path_needs_wake(), "once per push");
}

/// A flow of the other family with the same ports, and addresses that are the same once folded, is another flow.
#[test]
fn the_families_are_not_mistaken_for_each_other() {
    let mut world = World::connected();
    let hot = world.hot(1);
    let folded = [hot.remote_ip.load(Relaxed), hot.local_ip.load(Relaxed)];
    let mut segment = world.from_peer(1, b"for another");
    let address = |word: u32| -> std::net::IpAddr {
        if World::TCP == 54 {
            std::net::Ipv4Addr::from_bits(word).into()
        } else {
            // Words that fold to the flow's own.
            std::net::Ipv6Addr::from_bits(u128::from(word)).into()
        }
    };
    segment.source_ip = address(folded[0]);
    segment.destination_ip = address(folded[1]);
    assert!(world.receive(&segment).is_empty());
    assert_eq!(world.reports()[0].0.reason, reason::NO_FLOW);
    assert_eq!(hot.rcv_nxt.load(Relaxed), RCV_START);
}

/// Flows that differ in one bit of an address are told apart, also while others are removed.
#[test]
fn neighbours_are_told_apart() {
    let mut world = World::with(64, crate::Config::default());
    for flow in 1..=33u32 {
        world.prepare(flow);
        let (hot, cold) = (world.hot(flow), &world.tables.cold[flow as usize]);
        hot.ports.store(6379 << 16 | 40_000, Relaxed);
        let bit = 1u32.checked_shl(flow - 1).unwrap_or(0);
        let word = if World::TCP == 54 { flow as usize % 4 } else { 0 };
        cold.remote_address[word].fetch_xor(bit, Relaxed);
        hot.remote_ip.fetch_xor(bit, Relaxed);
        world.ask(to_fast::INSTALL, flow, 0);
    }
    for flow in 1..=33u32 {
        let cold = &world.tables.cold[flow as usize];
        let words: Vec<u32> = cold.remote_address.iter().map(|word| word.load(Relaxed)).collect();
        let mut segment = world.from_peer(flow, b"mine");
        segment.source_port = 40_000;
        segment.source_ip = if World::TCP == 54 {
            let bits = words.iter().fold(0u128, |bits, word| bits << 32 | u128::from(*word));
            std::net::Ipv6Addr::from_bits(bits).into()
        } else {
            std::net::Ipv4Addr::from_bits(words[0]).into()
        };
        world.receive(&segment);
        for other in 1..=33u32 {
            let taken = world.hot(other).rcv_nxt.load(Relaxed) - RCV_START;
            assert_eq!(taken, if other == flow { 4 } else { 0 }, "segment of {flow} at {other}");
        }
        world.ask(to_fast::REMOVE, flow, 0);
        world.hot(flow).rcv_nxt.store(RCV_START, Relaxed);
    }
}

/// A dead connection's application may still read from it; its four-tuple is another's by now.
#[test]
fn a_detached_flow_gets_no_segments_and_stays_readable() {
    let mut world = World::connected();
    world.receive(&world.from_peer(1, b"last words"));
    world.report_ops();
    world.tables.cold[1].control.store(control_flags::DETACHED, Relaxed);
    for restarted in [false, true] {
        if restarted {
            world.restart();
        } else {
            world.ask(to_fast::UPDATE, 1, 0);
        }
        world.receive(&world.from_peer(1, b"more"));
        let reports = world.reports();
        assert_eq!((reports.len(), reports[0].0.reason), (1, reason::NO_FLOW), "restarted: {restarted}");
        assert_eq!(world.received(1, RCV_START, RCV_START + 10), b"last words");
    }
    world.ask(to_fast::REMOVE, 1, 0);
    assert_eq!(world.report_ops(), [to_slow::REMOVED]);
}

/// A flood of segments of no flow does not drown the answer to what the slow path has sent.
#[test]
fn an_answer_to_the_slow_path_passes_in_a_flood() {
    let mut world = World::connected();
    let mut stranger = world.from_peer(2, b"x");
    for port in 1..3000 {
        stranger.source_port = port;
        world.receive(&stranger);
        world.reports();
    }
    assert!(world.counter(Counter::StrangersRefused) > 0);
    stranger.source_port = 5000;
    let mut ours = stranger.clone();
    std::mem::swap(&mut ours.source_ip, &mut ours.destination_ip);
    std::mem::swap(&mut ours.source_port, &mut ours.destination_port);
    assert_eq!(world.ask_with_frame(to_fast::TRANSMIT, &ours.encode()).len(), 1);
    world.receive(&stranger);
    assert_eq!(world.reports().len(), 1);
    stranger.source_port = 5001;
    world.receive(&stranger);
    assert_eq!(world.reports().len(), 0, "another four-tuple is refused");
}
