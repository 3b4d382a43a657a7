// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Blind RST, SYN and ACK (RFC 5961), and how often they are answered.

mod common;

use abi::{
    event::kernel_event,
    flow::hot_flags,
    kernel_ring::{to_fast, to_slow},
    message::{option, tcp_state, FlowInfo},
};
use common::{frames::*, *};
use slowpath::counters::Counter;
use std::sync::atomic::Ordering::Relaxed;

const SECOND: u64 = 1_000_000;

fn established() -> (World, FlowInfo) {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    let info = world.accepted(listener, 8080, 4000);
    (world, info)
}

#[test]
fn reset_in_the_window_is_challenged_and_only_the_exact_one_counts() {
    let (mut world, info) = established();
    let window = 65_535u32;
    for (offset, challenged) in [(1, true), (window - 1, true), (window, false), (u32::MAX, false)] {
        world.peer(Tcp::new(4000, 8080, 5001u32.wrapping_add(offset), 0, RST));
        let expected: &[u8] = if challenged { &[to_fast::ACKNOWLEDGE] } else { &[] };
        assert_eq!(world.ops(), expected, "{offset}");
        world.advance(SECOND);
    }
    assert_eq!(world.state(info.flow), tcp_state::ESTABLISHED);
    assert_eq!(world.stack.counter(Counter::ChallengeAcks), 2);
    world.peer(Tcp::new(4000, 8080, 5001, 0, RST));
    assert_eq!(world.kinds(), [kernel_event::FAILED]);
    assert_eq!(world.get_option(info.socket, option::ERROR), Ok(104));
}

#[test]
fn a_reset_numbered_like_the_fin_before_it_counts() {
    let (mut world, info) = established();
    world.peer_fin(info.flow);
    assert_eq!(world.state(info.flow), tcp_state::CLOSE_WAIT);
    world.peer(Tcp::new(4000, 8080, 5001, 0, RST));
    assert_eq!(world.get_option(info.socket, option::ERROR), Ok(32));
}

#[test]
fn a_syn_in_any_synchronized_state_is_challenged() {
    for seq in [5001, 5000, 900_000, 0x8000_0000] {
        let (mut world, info) = established();
        world.peer(Tcp::syn(4000, 8080, seq));
        assert_eq!(world.ops(), [to_fast::ACKNOWLEDGE], "{seq}");
        assert!(world.sent().is_empty());
        assert_eq!(world.state(info.flow), tcp_state::ESTABLISHED);
    }
}

#[test]
fn one_connection_answers_twice_a_second() {
    let (mut world, _) = established();
    for _ in 0..1000 {
        world.peer(Tcp::syn(4000, 8080, 77));
        world.peer(Tcp::new(4000, 8080, 5002, 0, RST));
        world.advance(10_000);
    }
    let answers = world.ops().iter().filter(|op| **op == to_fast::ACKNOWLEDGE).count();
    assert_eq!(answers, 20, "ten seconds");
    assert_eq!(world.stack.counter(Counter::RateLimited), 1980);
}

#[test]
fn all_connections_together_are_limited_and_the_limit_cannot_be_counted_on() {
    let mut world = World::with(slowpath::Config { flows: 4096, ..config() });
    let listener = world.listener(8080, 4096);
    for from in 0..2500u16 {
        world.accepted(listener, 8080, 4000 + from);
    }
    let mut counts = vec![];
    for _ in 0..6 {
        world.advance(SECOND);
        world.ops();
        for from in 0..2500u16 {
            world.peer(Tcp::syn(4000 + from, 8080, 77));
        }
        counts.push(world.ops().iter().filter(|op| **op == to_fast::ACKNOWLEDGE).count());
    }
    assert!(counts.iter().all(|count| (500..=1500).contains(count)), "{counts:?}");
    counts.sort_unstable();
    counts.dedup();
    assert!(counts.len() > 3, "CVE-2016-5696: {counts:?}");
}

#[test]
fn half_open_connections_answer_within_the_same_limits() {
    let mut world = World::new();
    world.listener(8080, 5);
    world.peer(Tcp::syn(4000, 8080, 5000));
    let next = world.sent().pop().unwrap().seq.wrapping_add(1);
    let beyond = Tcp::ack(4000, 8080, 5001 + 70_000, next);
    for segment in
        [beyond, Tcp::new(4000, 8080, 5003, 0, RST), Tcp::syn(4000, 8080, 6000), Tcp::syn(4000, 8080, 4999)]
    {
        world.advance(SECOND / 2);
        world.frames.clear();
        for _ in 0..5 {
            world.peer(segment.clone());
        }
        let sent = world.sent();
        assert_eq!(sent.len(), 1, "{segment:?}: {sent:?}");
        assert_eq!((sent[0].flags, sent[0].seq, sent[0].ack), (ACK, next, 5001));
        assert_eq!(world.status().half_open, 1);
    }
    // Repeated as it was, it is answered again, but not each time.
    world.advance(SECOND / 2);
    world.frames.clear();
    for _ in 0..5 {
        world.peer(Tcp::syn(4000, 8080, 5000));
    }
    assert_eq!(world.sent().len(), 1);
}

#[test]
fn syn_received_after_a_simultaneous_open_answers_within_the_same_limits() {
    let mut world = World::new();
    let socket = world.socket();
    world.bind(socket, 0, 5555).unwrap();
    world.connect(socket, PEER, 80);
    let iss = world.sent().pop().unwrap().seq;
    world.peer(Tcp::syn(80, 5555, 700));
    world.frames.clear();
    for segment in [
        Tcp::new(80, 5555, 705, 0, RST),
        Tcp::ack(80, 5555, 700 + 80_000, iss + 1),
        Tcp::new(80, 5555, 701, 0, SYN),
        Tcp { options: linux_options(70, 0), ..Tcp::ack(80, 5555, 701, iss + 1) },
    ] {
        world.advance(SECOND / 2);
        world.frames.clear();
        for _ in 0..4 {
            world.peer(segment.clone());
        }
        let sent = world.sent();
        assert_eq!(sent.len(), 1, "{segment:?}");
        assert_eq!((sent[0].flags, sent[0].ack), (ACK, 701));
        assert!(world.events.is_empty());
    }
    assert_eq!(world.stack.counter(Counter::PawsRejected), 4);
    world.peer(Tcp::new(80, 5555, 701, 0, RST));
    assert_eq!(world.get_option(socket, option::ERROR), Ok(111));
}

/// RFC 7323 §5.3: an old duplicate does not complete a handshake, a current one does.
#[test]
fn an_old_timestamp_does_not_complete_a_handshake() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    world.peer(Tcp::syn(4000, 8080, 5000));
    let next = world.sent().pop().unwrap().seq.wrapping_add(1);
    let final_ack = |value| Tcp { options: stamps(value, 0), ..Tcp::ack(4000, 8080, 5001, next) };
    world.peer(final_ack(76));
    assert_eq!(world.accept(listener).map(|_| ()), Err(11));
    assert_eq!(world.stack.counter(Counter::PawsRejected), 1);
    assert_eq!(world.sent().pop().unwrap().flags, ACK);
    // RST needs no timestamp, and an old one does not matter (RFC 7323 §5.2).
    world.peer(final_ack(77));
    let info = world.accept(listener).unwrap();
    assert_eq!(world.hot[info.flow as usize].ts_recent.load(Relaxed), 77);
}

/// RFC 7323 §2.2: only the window of a SYN is not scaled. Found by a simulated world: the peer took that of an ACK for up to
/// 2^shift times as large, and saw it move back.
#[test]
fn the_window_of_an_ack_during_the_handshake_is_scaled() {
    let mut world = World::new();
    world.listener(8080, 5);
    world.peer(Tcp::syn(4000, 8080, 5000));
    let syn_ack = world.sent().pop().unwrap();
    let shift = syn_ack.option(3).unwrap()[0];
    assert!(shift > 0);
    // Beyond the window, so that it is answered.
    world.peer(Tcp::ack(4000, 8080, 1_005_001, syn_ack.seq.wrapping_add(1)));
    let answer = world.sent().pop().unwrap();
    assert_eq!((answer.flags, answer.window), (ACK, syn_ack.window >> shift));
}

fn stamps(value: u32, echo: u32) -> Vec<u8> {
    let mut options = vec![1, 1, 8, 10];
    options.extend(value.to_be_bytes());
    options.extend(echo.to_be_bytes());
    options
}

/// A peer that is alive after we gave it up learns so from its next data.
#[test]
fn data_for_a_connection_given_up_is_reset() {
    let (mut world, info) = established();
    world.set_option(info.socket, option::USER_TIMEOUT, 1000, 0).unwrap();
    world.write(info.flow, 10);
    world.advance(5 * SECOND);
    assert_eq!(world.state(info.flow), tcp_state::CLOSED);
    let closed = abi::flow::control_flags::RECEIVE_CLOSED;
    assert_eq!(world.cold[info.flow as usize].control.load(Relaxed) & closed, closed);
    world.frames.clear();
    for _ in 0..5 {
        world.report(0, to_slow::DATA_AFTER_CLOSE, info.flow);
    }
    world.pump();
    let sent = world.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].flags, sent[0].ack), (RST | ACK, 5001));
    world.release(info.socket);
    world.assert_clean();
}

#[test]
fn a_syn_ack_that_comes_again_is_acknowledged() {
    let mut world = World::new();
    let info = world.connected();
    let hot = &world.hot[info.flow as usize];
    let peer = hot.ports.load(Relaxed) >> 16;
    let again = Tcp::syn_ack(80, peer as u16, 9000, info.tx_start as u32);
    for _ in 0..3 {
        world.peer(again.clone());
    }
    assert_eq!(world.ops(), [to_fast::ACKNOWLEDGE]);
    assert!(hot.flags.load(Relaxed) & hot_flags::INSTALLED != 0);
}

/// RFC 9293 MUST-66: with the window closed, the one acceptable RST is still taken.
#[test]
fn a_closed_window_takes_the_exact_reset_only() {
    let (mut world, info) = established();
    world.hot[info.flow as usize].rcv_adv.store(5001, Relaxed);
    world.peer(Tcp::new(4000, 8080, 5002, 0, RST));
    assert!(world.ops().is_empty() && world.events.is_empty());
    world.peer(Tcp::new(4000, 8080, 5001, 0, RST));
    assert_eq!(world.kinds(), [kernel_event::FAILED]);
}

/// RFC 9293 MUST-46, MUST-57, MUST-63. (IPv6's own such addresses: `discovery.rs`.)
#[test]
fn addresses_of_no_single_host_are_refused() {
    if is_v6() {
        return;
    }
    let mut world = World::new();
    world.listener(8080, 5);
    for address in [LOCAL | 0xff, LOCAL & !0xff, LOCAL, 0, 0x7f00_0001, 0xe000_0001, 0xffff_ffff] {
        world.peer(Tcp { from: address, ..Tcp::syn(4000, 8080, 5000) });
        assert!(world.frames.is_empty(), "{address:#x}");
        let socket = world.socket();
        assert_eq!(world.connect(socket, address, 80), 101, "{address:#x}");
    }
    // To a group on the wire, to us in the header.
    for group in [[0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
        let mut frame = Tcp::syn(4000, 8080, 5000).frame();
        frame[..6].copy_from_slice(&group);
        world.receive(frame);
        world.pump();
        assert!(world.frames.is_empty());
    }
    for segment in [Tcp { to: LOCAL | 0xff, ..Tcp::syn(4000, 8080, 5000) }, Tcp::syn(4000, 8080, 5000)] {
        let for_us = segment.to == LOCAL;
        world.peer(segment);
        assert_eq!(!world.sent().is_empty(), for_us);
    }
}
