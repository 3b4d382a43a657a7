// SPDX-License-Identifier: MIT OR Apache-2.0
//! Segmentation, small segments, back-pressure.

use super::{Random, World};
use crate::testing::*;
use crate::Config;
use abi::{
    core_status::Counter,
    event::{event_flags, FlowEvent},
    flow::{control_flags, hot_flags, mss_scale},
    kernel_ring::{to_fast, to_slow},
};
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn a_stream_is_cut_at_the_mss_across_chunks() {
    let mut world = World::connected();
    let mut random = Random::new(9);
    let stream: Vec<u8> = (0..10_000).map(|_| random.next() as u8).collect();
    let mut sent = world.write(1, &stream);
    sent.extend(world.poll());
    assert_eq!(
        sent.iter().map(|s| s.payload.len()).collect::<Vec<_>>(),
        [1428, 1428, 1428, 1428, 1428, 1428, 1428, 4]
    );
    assert_eq!(sent.iter().flat_map(|s| s.payload.clone()).collect::<Vec<_>>(), stream);
    for (index, segment) in sent.iter().enumerate() {
        assert_eq!(segment.flags & PSH != 0, index == 7, "PSH at the end of the write only");
        assert_eq!(u64::from(segment.seq), (SND_START + 1428 * index as u64) & 0xffff_ffff);
    }
    assert_eq!(world.report_ops(), [to_slow::ACTIVE], "told once");
    assert_eq!(world.counter(Counter::TxPayloadBytes), 10_000);
    assert_eq!(world.core.port_mut().live(), 0);
}

#[test]
fn any_mss_from_the_slow_path_is_survived() {
    for mss in [0u16, 1, 536, 1460, 9000, u16::MAX] {
        let mut world = World::new();
        world.prepare(1);
        world.hot(1).mss_scale.store(mss_scale(mss, 255, 255), Relaxed);
        world.ask(to_fast::INSTALL, 1, 0);
        let sent = world.write(1, &[1; 1428]);
        assert!(
            !sent.is_empty() && sent.iter().all(|s| (1..=World::MSS_MAX as usize).contains(&s.payload.len())),
            "mss {mss}"
        );
    }
}

#[test]
fn small_segments_wait_unless_told_otherwise() {
    let mut world = World::connected();
    assert_eq!(world.write(1, b"first").len(), 1);
    assert!(world.write(1, b"second").is_empty(), "Nagle");
    assert!(world.write(1, b"third").is_empty());
    let sent = world.receive(&world.from_peer(1, b""));
    assert_eq!((sent.len(), sent[0].payload.as_slice()), (1, &b"secondthird"[..]));
    // A full segment in flight holds no small one back (Minshall).
    let mut world = World::connected();
    world.write(1, &[0; 1428]);
    assert_eq!(world.write(1, b"tail").len(), 1);
    // TCP_NODELAY.
    let mut world = World::connected();
    world.tables.cold[1].control.store(control_flags::NODELAY, Relaxed);
    world.ask(to_fast::UPDATE, 1, 0);
    for _ in 0..3 {
        assert_eq!(world.write(1, b"x").len(), 1);
    }
}

#[test]
fn the_congestion_window_is_obeyed() {
    let mut world = World::connected();
    world.tables.cold[1].cwnd_bytes.store(3000, Relaxed);
    world.ask(to_fast::UPDATE, 1, 0);
    let sent: usize = world.write(1, &[1; 20_000]).iter().chain(&world.poll()).map(|s| s.payload.len()).sum();
    assert_eq!(sent, 2856);
    let mut ack = world.from_peer(1, b"");
    ack.ack = (SND_START + 1428) as u32;
    let sent = world.receive(&ack);
    assert_eq!(sent.iter().map(|s| s.payload.len()).sum::<usize>(), 1428);
}

#[test]
fn flows_take_turns() {
    let mut world = World::new();
    (1..=3).for_each(|flow| world.install(flow));
    for flow in 1..=3 {
        let tx = world.place(flow, &[flow as u8; 14_480]);
        assert!(world.to_core.push(
            FlowEvent { flow, flags: event_flags::TX, generation: 5, rx: 0, tx, ..FlowEvent::default() }
                .encode()
        ));
    }
    let sent = world.poll();
    let ports: Vec<u16> = sent.iter().map(|s| s.destination_port - 40_000).collect();
    assert_eq!(ports[..12], [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
}

#[test]
fn a_full_port_loses_nothing() {
    let mut world = World::connected();
    world.core.port_mut().tx_room = 3;
    let stream: Vec<u8> = (0..30_000u32).map(|i| (i / 7) as u8).collect();
    let mut sent = world.write(1, &stream);
    for _ in 0..30 {
        assert!(sent.len() % 3 == 0 || sent.len() == 22);
        sent.extend(world.poll());
    }
    assert_eq!(sent.iter().flat_map(|s| s.payload.clone()).collect::<Vec<_>>(), stream);
    assert!(world.counter(Counter::TxFull) > 0);
    // And while it is stuck, it does not sleep and takes no more than it can answer.
    world.core.port_mut().tx_room = 0;
    world.write(1, &[0; 1428 * 21]);
    world.poll();
    assert!(!world.core.may_sleep());
}

#[test]
fn no_packet_buffers_means_later() {
    let mut world = World::connected();
    world.core.port_mut().packets = 0;
    assert!(world.write(1, b"data").is_empty());
    assert!(world.counter(Counter::NoBuffer) > 0);
    assert!(!world.core.may_sleep());
    world.core.port_mut().packets = 100;
    assert_eq!(world.poll().len(), 1);
}

#[test]
fn checksums_are_left_to_a_port_that_offers() {
    let mut world = World::connected();
    world.core.offload = true;
    // `sent` verifies what the port computed from the request.
    assert_eq!(world.write(1, b"offloaded")[0].payload, b"offloaded");
    world.receive(&world.from_peer(1, b"x"));
    assert_eq!(world.after(100).len(), 1);
}

#[test]
fn an_unresolved_next_hop_sends_nothing() {
    let mut world = World::connected();
    world.tables.adjacencies[1].mac.store(0, Relaxed);
    assert!(world.write(1, b"data").is_empty());
    assert_eq!(world.core.port_mut().live(), 0);
    // An index beyond the table neither.
    world.tables.cold[1].adjacency.store(u32::MAX, Relaxed);
    world.ask(to_fast::UPDATE, 1, 0);
    assert!(world.poll().is_empty());
}

#[test]
fn active_is_reported_even_if_nothing_may_be_sent() {
    let mut world = World::connected();
    world.tables.cold[1].rate_kbps.store(0, Relaxed);
    world.ask(to_fast::UPDATE, 1, 0);
    assert!(world.write(1, b"stopped").is_empty());
    assert_eq!(world.report_ops(), [to_slow::ACTIVE]);
    assert!(world.core.may_sleep(), "a stopped flow costs nothing");
    world.tables.cold[1].rate_kbps.store(1_000_000, Relaxed);
    assert_eq!(world.ask(to_fast::UPDATE, 1, 0).len(), 1);
    // IDLE with work left: reported again.
    world.ask(to_fast::IDLE, 1, 0);
    assert_eq!(world.report_ops(), [to_slow::ACTIVE]);
    world.receive(&world.from_peer(1, b""));
    world.ask(to_fast::IDLE, 1, 0);
    assert!(world.report_ops().is_empty());
    world.write(1, b"again");
    assert_eq!(world.report_ops(), [to_slow::ACTIVE]);
}

#[test]
fn a_poll_is_bounded() {
    let mut world = World::with(8, Config { batch: 4, ..Config::default() });
    world.install(1);
    let tx = world.place(1, &[1; 40_000]);
    let sent = world.application(FlowEvent {
        flow: 1,
        flags: event_flags::TX,
        generation: 5,
        rx: 0,
        tx,
        ..FlowEvent::default()
    });
    assert!(sent.len() <= 8);
    for _ in 0..10 {
        world.core.port_mut().incoming.push_back(vec![0; 20]);
    }
    assert_eq!(world.core.poll(world.now_us).received, 4);
}

#[test]
fn chosen_tos_and_ttl_are_in_every_segment() {
    let mut world = World::connected();
    world.hot(1).flags.fetch_or(hot_flags::ECN, Relaxed);
    let service = |world: &mut World| -> Vec<(u8, u8)> {
        let frames: Vec<Vec<u8>> = world.core.port_mut().outgoing.drain(..).collect();
        // `decode` checks the checksums.
        frames.iter().for_each(|frame| drop(TestSegment::decode(frame)));
        frames
            .iter()
            .map(|frame| match World::TCP {
                54 => (frame[14] << 4 | frame[15] >> 4, frame[21]),
                _ => (frame[15], frame[22]),
            })
            .collect()
    };
    let poll = |world: &mut World| world.core.poll(world.now_us);
    world.tables.cold[1].service.store(0xb8 | 9 << 8, Relaxed);
    world.ask(to_fast::UPDATE, 1, 0);
    let tx = world.place(1, b"data");
    let event = FlowEvent { flow: 1, flags: event_flags::TX, generation: 5, tx, ..FlowEvent::default() };
    assert!(world.to_core.push(event.encode()));
    poll(&mut world);
    assert_eq!(service(&mut world), [(0xb8 | 2, 9)], "ECT(0) stays");
    assert!(world.to_fast.push(
        abi::kernel_ring::KernelEntry { op: to_fast::ACKNOWLEDGE, flow: 1, ..Default::default() }.encode()
    ));
    poll(&mut world);
    poll(&mut world);
    assert_eq!(service(&mut world), [(0xb8, 9)], "a pure acknowledgement");
    // Back to the default.
    world.tables.cold[1].service.store(0, Relaxed);
    world.ask(to_fast::UPDATE, 1, 0);
    let tx = world.place(1, b"more");
    assert!(world.to_core.push(FlowEvent { tx, ..event }.encode()));
    poll(&mut world);
    world.receive(&world.from_peer(1, b""));
    assert!(service(&mut world).iter().all(|chosen| *chosen == (2, 64)));
}
