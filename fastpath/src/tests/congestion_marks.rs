// SPDX-License-Identifier: MIT OR Apache-2.0
//! ECN: marks echoed (RFC 8257 §3.2, RFC 3168 §6.1.3), echoes counted, CWR.

use super::World;
use crate::testing::*;
use abi::{
    flow::{control_flags, hot_flags},
    kernel_ring::to_fast,
};
use std::sync::atomic::Ordering::Relaxed;

fn world() -> World {
    let mut world = World::new();
    world.prepare(1);
    world.hot(1).flags.fetch_or(hot_flags::ECN, Relaxed);
    world.ask(to_fast::INSTALL, 1, 0);
    world
}

fn data(world: &World, ecn: u8) -> TestSegment {
    TestSegment { ecn, ..world.from_peer(1, b"d") }
}

#[test]
fn a_change_of_the_mark_is_acknowledged_at_once_with_the_state_before() {
    let mut world = world();
    assert!(world.receive(&data(&world, 2)).is_empty());
    let sent = world.receive(&data(&world, 3));
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert_eq!((sent[0].flags & ECE, sent[0].ack), (0, RCV_START as u32 + 1));
    assert_eq!((sent[1].flags & ECE, sent[1].ack), (ECE, RCV_START as u32 + 2));
    assert!(world.receive(&data(&world, 3)).is_empty(), "no change: delayed");
    let sent = world.receive(&data(&world, 2));
    assert_eq!((sent[0].flags & ECE, sent[0].ack), (ECE, RCV_START as u32 + 3));
    assert_eq!((sent[1].flags & ECE, sent[1].ack), (0, RCV_START as u32 + 4));
    assert_eq!(world.counter(abi::core_status::Counter::CongestionExperienced), 2);
}

#[test]
fn without_dctcp_the_echo_goes_on_until_cwr() {
    let mut world = world();
    world.tables.cold[1].control.store(control_flags::ECHO_UNTIL_CWR, Relaxed);
    let sent = world.receive(&data(&world, 3));
    assert_eq!((sent.len(), sent[0].flags & ECE), (1, ECE));
    // Neither the missing mark nor CWR on a marked segment ends it.
    assert!(world.receive(&data(&world, 2)).is_empty());
    assert_eq!(world.after(1_000_000)[0].flags & ECE, ECE);
    let marked = data(&world, 3);
    world.receive(&TestSegment { flags: ACK | CWR, ..marked });
    assert_eq!(world.after(1_000_000)[0].flags & ECE, ECE);
    let plain = data(&world, 2);
    world.receive(&TestSegment { flags: ACK | CWR, ..plain });
    assert_eq!(world.after(1_000_000)[0].flags & ECE, 0);
}

#[test]
fn echoes_are_counted_and_answered_by_cwr_once() {
    let mut world = world();
    let sent = world.write(1, &[1; 1428]);
    assert_eq!((sent[0].ecn, sent[0].flags & CWR), (2, 0));
    let mut ack = world.from_peer(1, b"");
    ack.flags |= ECE;
    assert!(world.receive(&ack).is_empty());
    assert_eq!(world.hot(1).ecn_bytes.load(Relaxed), 1428);
    let sent = world.write(1, &[2; 2000]);
    assert_eq!(sent.iter().map(|s| s.flags & CWR).collect::<Vec<_>>(), [CWR, 0]);
    world.receive(&world.from_peer(1, b""));
    assert_eq!((world.hot(1).ecn_bytes.load(Relaxed), world.hot(1).acked_bytes.load(Relaxed)), (1428, 3428));
}

#[test]
fn neither_acknowledgements_nor_retransmissions_are_ecn_capable() {
    let mut world = world();
    world.write(1, b"data");
    let sent = world.ask(to_fast::RETRANSMIT, 1, 14_480);
    assert_eq!((sent.len(), sent[0].ecn), (1, 0));
    let sent = world.ask(to_fast::ACKNOWLEDGE, 1, 0);
    assert_eq!((sent.len(), sent[0].ecn), (1, 0));
}

#[test]
fn without_ecn_marks_mean_nothing() {
    let mut world = World::connected();
    world.receive(&data(&world, 3));
    let sent = world.after(100);
    assert_eq!(sent[0].flags, ACK);
    let sent = world.write(1, b"x");
    assert_eq!(sent[0].ecn, 0);
}
