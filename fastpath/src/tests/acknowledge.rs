// SPDX-License-Identifier: MIT OR Apache-2.0
//! Acceptance of acknowledgements, RTT, events.

use super::World;
use crate::testing::*;
use abi::{core_status::Counter, event::event_flags, kernel_ring::to_slow};
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn an_acknowledgement_frees_the_senders_chunks_and_measures_rtt() {
    let mut world = World::connected();
    world.write(1, b"12345");
    world.events();
    let mut partial = world.from_peer(1, b"");
    partial.ack = (SND_START + 2) as u32;
    world.now_us += 80;
    world.receive(&partial);
    let events = world.events();
    assert_eq!((events.len(), events[0].tx), (1, SND_START + 2));
    assert_ne!(events[0].flags & event_flags::TX, 0);
    assert_eq!(world.hot(1).rtt_sample.load(Relaxed) >> 24, 0, "the timed segment is not acknowledged whole");
    world.now_us += 40;
    world.receive(&world.from_peer(1, b""));
    assert_eq!(world.events()[0].tx, SND_START + 5);
    assert_eq!(world.hot(1).acked_bytes.load(Relaxed), 5);
    assert_eq!(world.hot(1).rtt_sample.load(Relaxed), 1 << 24 | 120);
}

#[test]
fn acknowledgements_of_what_was_never_sent_are_refused() {
    let mut world = World::connected();
    world.write(1, b"12345");
    let mut future = world.from_peer(1, b"data");
    future.ack += 1;
    let sent = world.receive(&future);
    assert_eq!(sent.len(), 1, "answered");
    assert_eq!(world.hot(1).snd_una.load(Relaxed), SND_START);
    assert_eq!(world.hot(1).rcv_nxt.load(Relaxed), RCV_START, "its data is not taken");
    assert_eq!(world.counter(Counter::Unacceptable), 1);
}

#[test]
fn old_acknowledgements_are_ignored_and_ancient_ones_refused() {
    let mut world = World::connected();
    world.write(1, b"12345");
    world.receive(&world.from_peer(1, b""));
    let mut old = world.from_peer(1, b"data");
    old.ack -= 3;
    world.receive(&old);
    assert_eq!(world.hot(1).snd_una.load(Relaxed), SND_START + 5);
    assert_eq!(world.hot(1).rcv_nxt.load(Relaxed), RCV_START + 4, "its data counts");
    let mut ancient = world.from_peer(1, b"more");
    ancient.ack = ancient.ack.wrapping_sub(70_000);
    let sent = world.receive(&ancient);
    assert_eq!(sent.len(), 1);
    assert_eq!(world.hot(1).rcv_nxt.load(Relaxed), RCV_START + 4);
    assert_eq!(world.counter(Counter::Unacceptable), 1);
}

/// RFC 5961 §5.2: what counts is the largest window that was offered, not what its scale would allow.
#[test]
fn an_old_acknowledgement_is_within_the_largest_window_offered() {
    for (window, distance, taken) in
        [(1000u16, 65_472u32, true), (1000, 65_536, false), (2000, 128_000, true), (2000, 128_064, false)]
    {
        let mut world = World::connected();
        world.hot(1).mss_scale.store(abi::flow::mss_scale(MSS as u16, 6, 0), Relaxed);
        world.restart();
        let mut offer = world.from_peer(1, b"a");
        offer.window = window;
        world.receive(&offer);
        // A smaller window does not take it back.
        let mut offer = world.from_peer(1, b"b");
        offer.window = 10;
        world.receive(&offer);
        let mut old = world.from_peer(1, b"data");
        old.ack = old.ack.wrapping_sub(distance);
        world.receive(&old);
        let got = world.hot(1).rcv_nxt.load(Relaxed) - RCV_START;
        assert_eq!(got, if taken { 6 } else { 2 }, "{window} {distance}");
    }
}

#[test]
fn our_fin_is_sent_after_the_data_and_its_acknowledgement_reported() {
    let mut world = World::connected();
    let sent = world.write(1, b"last words");
    assert_eq!(sent[0].flags, ACK | PSH);
    let sent = world.finish(1);
    assert_eq!((sent.len(), sent[0].flags, sent[0].seq), (1, ACK | FIN, SND_START as u32 + 10));
    assert_eq!(world.report_ops(), [to_slow::ACTIVE]);
    let mut data_only = world.from_peer(1, b"");
    data_only.ack -= 1;
    world.receive(&data_only);
    assert!(world.report_ops().is_empty());
    world.events();
    world.receive(&world.from_peer(1, b""));
    assert_eq!(world.report_ops(), [to_slow::FIN_ACKED]);
    let events = world.events();
    assert_eq!(events[0].tx, SND_START + 10, "the FIN is not data");
    assert_ne!(events[0].flags & event_flags::FIN_ACKED, 0);
    // Half-close: the peer goes on sending.
    world.receive(&world.from_peer(1, b"still here"));
    assert_eq!(world.hot(1).rcv_nxt.load(Relaxed), RCV_START + 10);
    // Nothing can be written behind the FIN.
    let end = world.place(1, b"x");
    world.application(abi::event::FlowEvent {
        flow: 1,
        flags: event_flags::TX,
        generation: 5,
        rx: 0,
        tx: end,
        ..abi::event::FlowEvent::default()
    });
    assert_eq!(world.counter(Counter::RefusedEntries), 1);
    assert_eq!(world.hot(1).snd_end.load(Relaxed), SND_START + 10);
}

#[test]
fn fin_rides_on_the_last_segment() {
    let mut world = World::connected();
    let tx = world.place(1, b"bye");
    let sent = world.application(abi::event::FlowEvent {
        flow: 1,
        flags: event_flags::TX | event_flags::FIN,
        generation: 5,
        rx: 0,
        tx,
        ..abi::event::FlowEvent::default()
    });
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].flags, sent[0].payload.as_slice()), (ACK | FIN | PSH, &b"bye"[..]));
    assert_eq!(world.hot(1).snd_max.load(Relaxed), SND_START + 4);
}
