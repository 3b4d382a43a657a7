// SPDX-License-Identifier: MIT OR Apache-2.0
//! Urgent data (RFC 9293 §3.8.5).

use super::World;
use crate::testing::*;
use abi::{
    core_status::Counter,
    event::{event_flags, FlowEvent},
    flow::hot_flags,
    kernel_ring::to_fast,
};
use std::sync::atomic::Ordering::Relaxed;

/// A segment from the peer whose urgent pointer is `urgent`.
fn urgent(world: &World, payload: &[u8], urgent: u16) -> TestSegment {
    TestSegment { flags: ACK | URG, urgent, ..world.from_peer(1, payload) }
}

/// The urgent byte that the last event tells of: its distance from the start of the stream, and itself.
fn told(world: &mut World) -> Option<(u32, Option<u8>)> {
    let event = world.events().pop()?;
    let byte = event.flags & event_flags::URGENT_BYTE != 0;
    (event.flags & event_flags::URGENT != 0)
        .then(|| (event.urgent.wrapping_sub(RCV_START as u32), byte.then_some(event.urgent_byte)))
}

/// The application writes `bytes`, urgent up to their end.
fn write_urgent(world: &mut World, bytes: &[u8]) -> Vec<TestSegment> {
    let tx = world.place(1, bytes);
    let flags = event_flags::TX | event_flags::URGENT;
    world.application(FlowEvent {
        flow: 1,
        flags,
        generation: 5,
        tx,
        urgent: tx as u32,
        ..FlowEvent::default()
    })
}

#[test]
fn the_urgent_byte_is_the_one_before_the_pointer() {
    for (pointer, expected) in
        [(1, (0, Some(b'a'))), (4, (3, Some(b'd'))), (5, (4, None)), (0, (0, Some(b'a')))]
    {
        let mut world = World::connected();
        world.receive(&urgent(&world, b"abcd", pointer));
        assert_eq!(told(&mut world), Some(expected), "pointer {pointer}");
        assert_eq!(world.received(1, RCV_START, RCV_START + 4), b"abcd", "it stays where it is");
        // The next segment is an ordinary one, and its event too.
        world.receive(&world.from_peer(1, b"efgh"));
        assert_eq!(told(&mut world), None);
    }
}

#[test]
fn urgent_data_is_told_though_the_window_is_closed_or_data_is_missing() {
    // Out of order.
    let mut world = World::connected();
    let mut segment = urgent(&world, b"later!", 6);
    segment.seq += 100;
    world.receive(&segment);
    assert_eq!(told(&mut world), Some((105, Some(b'!'))));
    assert_eq!(world.hot(1).rcv_nxt.load(Relaxed), RCV_START);

    // RFC 9293 MUST-66: a closed window takes the URG.
    let mut world = World::connected();
    world.hot(1).rcv_adv.store(RCV_START as u32, Relaxed);
    world.receive(&urgent(&world, b"x", 1));
    assert_eq!(told(&mut world), Some((0, Some(b'x'))));
    assert_eq!(world.hot(1).rcv_nxt.load(Relaxed), RCV_START, "the data is not taken");
    world.receive(&urgent(&world, b"", 3));
    assert_eq!(told(&mut world), Some((2, None)));
}

#[test]
fn what_cannot_be_the_peers_is_not_believed() {
    let change: [fn(&mut TestSegment); 4] = [
        |segment| segment.seq = segment.seq.wrapping_add(100_000),
        |segment| segment.seq = segment.seq.wrapping_sub(100),
        |segment| segment.ack = segment.ack.wrapping_add(1),
        |segment| segment.options = TestSegment::timestamps(1, 1),
    ];
    for (number, change) in change.iter().enumerate() {
        let mut world = World::connected();
        let mut segment = urgent(&world, b"forged", 3);
        change(&mut segment);
        world.receive(&segment);
        assert_eq!(told(&mut world), None, "change {number}");
    }
    // What was received already is no news.
    let mut world = World::connected();
    let again = urgent(&world, b"a", 1);
    world.receive(&again);
    assert_eq!(told(&mut world), Some((0, Some(b'a'))));
    world.receive(&again);
    assert_eq!(told(&mut world), None);
}

#[test]
fn news_of_urgent_data_waits_for_room_in_the_ring() {
    let mut world = World::connected();
    // Fill the ring with events of a second flow.
    world.install(2);
    let mut count = 0;
    while world.counter(Counter::ContextRingFull) == 0 {
        world.receive(&world.from_peer(2, b"."));
        count += 1;
        assert!(count < 100_000);
    }
    world.receive(&urgent(&world, b"ab", 1));
    world.receive(&urgent(&world, b"cd", 2));
    world.events();
    world.poll();
    assert_eq!(told(&mut world), Some((3, Some(b'd'))), "the latest one");
    assert_eq!(world.hot(1).flags.load(Relaxed) & hot_flags::EVENT_PENDING, 0);
}

/// A simulated world found it (`scripts/sim`): the event was in the old context's ring when the flow moved.
#[test]
fn a_context_that_takes_over_is_told_again() {
    let mut world = World::connected();
    world.receive(&urgent(&world, b"abc", 3));
    assert_eq!(told(&mut world), Some((2, Some(b'c'))));
    for context in [abi::flow::CONTEXT_NONE, CONTEXT] {
        world.tables.cold[1].owner.store(abi::flow::owner(APPLICATION, context), Relaxed);
        world.ask(to_fast::UPDATE, 1, 0);
    }
    assert_eq!(told(&mut world), Some((2, Some(b'c'))));
}

#[test]
fn urgent_data_leaves_at_once_and_says_so_until_it_is_acknowledged() {
    let mut world = World::connected();
    assert_eq!(world.write(1, b"small").len(), 1);
    assert!(world.write(1, b"held back").is_empty(), "Nagle");
    let sent = write_urgent(&mut world, b"!");
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].flags, sent[0].urgent), (ACK | PSH | URG, 10));
    assert_eq!(sent[0].payload, b"held back!");
    // Sent again: from the first byte, the pointer counts from there.
    world.tables.cold[1].cwnd_bytes.store(1 << 20, Relaxed);
    let sent = world.ask(to_fast::RETRANSMIT, 1, 100_000);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].flags & URG, sent[0].urgent, sent[0].payload.len()), (URG, 15, 15));
    // Acknowledged: what follows is ordinary.
    world.receive(&world.from_peer(1, b""));
    let sent = world.write(1, b"after");
    assert_eq!((sent[0].flags & URG, sent[0].urgent), (0, 0));
    let sent = world.write(1, b"");
    assert!(sent.is_empty());
}

#[test]
fn a_closed_window_hears_of_urgent_data() {
    let mut world = World::connected();
    world.hot(1).snd_wnd.store(0, Relaxed);
    assert!(write_urgent(&mut world, b"!").is_empty());
    let sent = world.ask(to_fast::PROBE, 1, 0);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].flags & URG, sent[0].urgent), (URG, 2), "from just left of the window");
    assert_eq!(sent[0].payload.len(), 0);
}

#[test]
fn far_urgent_data_is_announced_when_it_is_in_reach() {
    let mut world = World::connected();
    world.hot(1).snd_wnd.store(200_000, Relaxed);
    let long = vec![7; 66_000];
    let mut sent = write_urgent(&mut world, &long);
    while sent.iter().map(|segment| segment.payload.len()).sum::<usize>() < long.len() {
        sent.extend(world.poll());
    }
    for (number, segment) in sent.iter().enumerate() {
        let left = 66_000 - number * MSS;
        // The first segment cannot reach it: nothing behind its pointer was sent yet, so it may say the most.
        assert_eq!(segment.urgent, left.min(65_535) as u16, "segment {number}");
        assert_eq!(segment.flags & URG, URG);
    }
}

#[test]
fn nonsense_of_the_application_is_refused() {
    let mut world = World::connected();
    let tx = world.place(1, b"abc");
    for urgent in [tx as u32 + 1, SND_START as u32 + 50_000] {
        let flags = event_flags::TX | event_flags::URGENT;
        let event = FlowEvent { flow: 1, flags, generation: 5, tx, urgent, ..FlowEvent::default() };
        assert!(world.application(event).iter().all(|segment| segment.flags & URG == 0));
    }
    assert_eq!(world.counter(Counter::RefusedEntries), 2);
}
