// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fast open, RFC 7413: a flow that is installed before the peer has acknowledged our SYN.

use super::World;
use crate::testing::*;
use abi::{
    flow::hot_flags,
    kernel_ring::{to_fast, to_slow},
};
use std::sync::atomic::Ordering::Relaxed;

/// Flow 0 as the slow path makes it of a SYN, and the SYN with `data`.
fn opened(data: &[u8]) -> (World, Vec<u8>) {
    let mut world = World::new();
    world.prepare(0);
    world.hot(0).flags.fetch_or(hot_flags::SYN_RECEIVED, Relaxed);
    assert_eq!(world.ask(to_fast::INSTALL, 0, 0), []);
    world.events();
    let mut syn = world.from_peer(0, data);
    (syn.seq, syn.ack, syn.flags) = (syn.seq.wrapping_sub(1), 0, SYN);
    (world, syn.encode())
}

fn is_pending(world: &World) -> bool {
    world.hot(0).flags.load(Relaxed) & hot_flags::SYN_RECEIVED != 0
}

#[test]
fn data_of_a_syn_is_taken_once_and_not_acknowledged_here() {
    let (mut world, syn) = opened(b"hello");
    for _ in 0..2 {
        assert_eq!(world.ask_with_frame(to_fast::SYN_DATA, &syn), []);
        assert_eq!(world.report_ops(), [to_slow::SYN_DATA]);
        assert_eq!(world.hot(0).rcv_nxt.load(Relaxed), RCV_START + 5);
    }
    assert_eq!(world.received(0, RCV_START, RCV_START + 5), b"hello");
    assert_eq!(world.events().last().map(|event| event.rx), Some(RCV_START + 5));
    assert_eq!(world.after(1_000_000), [], "the SYN-ACK does it");
    assert!(is_pending(&world));
}

#[test]
fn what_cannot_be_taken_is_reported_all_the_same() {
    // No chunk is free.
    let (mut world, syn) = opened(b"hello");
    world.hot(0).owner.store(abi::flow::owner(7, 7), Relaxed);
    world.ask_with_frame(to_fast::SYN_DATA, &syn);
    assert_eq!(world.report_ops(), [to_slow::SYN_DATA]);
    assert_eq!(world.hot(0).rcv_nxt.load(Relaxed), RCV_START);
    // No frame, and a window that is smaller than the data.
    let (mut world, syn) = opened(b"hello");
    world.ask(to_fast::SYN_DATA, 0, 5000);
    assert_eq!(world.report_ops(), [to_slow::SYN_DATA]);
    world.hot(0).rcv_adv.store((RCV_START + 3) as u32, Relaxed);
    world.ask_with_frame(to_fast::SYN_DATA, &syn);
    assert_eq!(world.hot(0).rcv_nxt.load(Relaxed), RCV_START + 3);
}

/// The application writes, then our SYN-ACK leaves: all that is sent.
fn answer(world: &mut World, data: &[u8]) -> Vec<TestSegment> {
    assert_eq!(world.write(0, data), [], "before the SYN-ACK");
    let mut syn_ack = world.from_peer(0, b"");
    syn_ack.flags = SYN | ACK;
    world.ask_with_frame(to_fast::TRANSMIT, &syn_ack.encode())
}

#[test]
fn nothing_leaves_before_the_syn_ack() {
    let (mut world, syn) = opened(b"hello");
    world.ask_with_frame(to_fast::SYN_DATA, &syn);
    // An update in between does not start it, nor does a rate.
    assert_eq!(world.write(0, b"wel"), []);
    assert_eq!(world.ask(to_fast::UPDATE, 0, 0), []);
    let sent = answer(&mut world, b"come");
    let flags: Vec<u8> = sent.iter().map(|segment| segment.flags).collect();
    assert_eq!(flags, [SYN | ACK, ACK | PSH]);
    assert_eq!(sent[1].payload, b"welcome");
    // A core that took over does not know whether it has left: the peer's answer tells.
    world.restart();
    assert_eq!(world.write(0, b"!"), []);
    let ack = world.from_peer(0, b"");
    assert!(!world.receive(&ack).is_empty());
}

#[test]
fn the_first_acknowledgement_ends_the_handshake() {
    let (mut world, syn) = opened(b"hello");
    world.ask_with_frame(to_fast::SYN_DATA, &syn);
    world.reports();
    // The server may answer before; an old acknowledgement tells nothing.
    assert_eq!(answer(&mut world, b"welcome").len(), 2);
    assert_eq!(world.report_ops(), [to_slow::ACTIVE]);
    let mut old = world.from_peer(0, b"");
    old.ack = (SND_START - 1) as u32;
    world.receive(&old);
    assert!(is_pending(&world));
    let mut ack = world.from_peer(0, b"");
    ack.ack = SND_START as u32;
    world.receive(&ack);
    assert_eq!(world.report_ops(), [to_slow::HANDSHAKE_DONE]);
    assert!(!is_pending(&world));
    let flags = world.hot(0).flags.load(Relaxed);
    assert_eq!(flags & hot_flags::DISORDER, 0, "the hot path again");
    // It was no duplicate, and is said once.
    assert_eq!(world.hot(0).loss_counts.load(Relaxed), 0);
    let ack = world.from_peer(0, b"");
    world.receive(&ack);
    assert_eq!((world.hot(0).snd_una.load(Relaxed), world.report_ops()), (SND_START + 7, vec![]));
}

#[test]
fn a_restarted_core_still_waits_for_it() {
    let (mut world, syn) = opened(b"hello");
    world.ask_with_frame(to_fast::SYN_DATA, &syn);
    world.restart();
    world.reports();
    let data = world.from_peer(0, b"more");
    world.receive(&data);
    assert_eq!(world.report_ops(), [to_slow::HANDSHAKE_DONE]);
    assert_eq!(world.received(0, RCV_START, RCV_START + 9), b"hellomore");
}
