// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! TIME-WAIT: what ends it (RFC 6191), what must not (RFC 1337), and what it answers.

mod common;

use abi::{
    kernel_ring::to_fast,
    message::{option, tcp_state, FlowInfo},
};
use common::{frames::*, *};
use slowpath::counters::Counter;
use std::sync::atomic::Ordering::Relaxed;

const PAUSE: u64 = 20_000;
/// The peer's last timestamp, and the number after its FIN.
const LAST: u32 = 1000;
const NEXT: u32 = 5002;

fn options(value: Option<u32>) -> Vec<u8> {
    let Some(value) = value else { return vec![] };
    let mut options = vec![1, 1, 8, 10];
    options.extend(value.to_be_bytes());
    options.extend([0; 4]);
    options
}

/// A connection of peer port 4000 in TIME-WAIT; our next sequence number.
fn waiting(timestamps: bool) -> (World, u32) {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    world.peer(Tcp { options: options(timestamps.then_some(77)), ..Tcp::syn(4000, 8080, 5000) });
    let iss = world.sent().pop().unwrap().seq;
    world.peer(Tcp {
        options: options(timestamps.then_some(78)),
        ..Tcp::ack(4000, 8080, 5001, iss.wrapping_add(1))
    });
    let info = world.accept(listener).unwrap();
    world.hot[info.flow as usize].ts_recent.store(if timestamps { LAST } else { 0 }, Relaxed);
    world.release(info.socket);
    world.advance(PAUSE);
    world.acknowledged(info.flow);
    world.peer_fin(info.flow);
    world.advance(PAUSE);
    assert_eq!(world.status().time_wait, 1);
    world.frames.clear();
    (world, iss.wrapping_add(2))
}

/// RFC 6191 §2: newer timestamps, or numbers behind the old ones where timestamps say nothing.
#[test]
fn a_syn_reopens_by_timestamp_or_number() {
    let behind = NEXT + 1;
    for (timestamps, value, seq, reopens) in [
        (true, Some(LAST + 1), 4000, true),
        (true, Some(LAST), behind, true),
        (true, Some(LAST), NEXT, false),
        (true, Some(LAST - 1), behind + 100_000, false),
        (true, None, behind, true),
        (true, None, NEXT, false),
        (false, Some(5), 4000, true),
        (false, None, behind, true),
        (false, None, 4000, false),
    ] {
        let (mut world, ours) = waiting(timestamps);
        world.peer(Tcp { options: options(value), ..Tcp::syn(4000, 8080, seq) });
        let answer = world.sent().pop().unwrap();
        let case = (timestamps, value, seq);
        assert_eq!(world.stack.counter(Counter::TimeWaitsReused), u64::from(reopens), "{case:?}");
        if reopens {
            assert_eq!((answer.flags, answer.ack), (SYN | ACK, seq + 1), "{case:?}");
            assert!((answer.seq.wrapping_sub(ours) as i32) >= 65_536, "behind our old numbers");
            assert_eq!(world.status().time_wait, 0);
        } else {
            assert_eq!((answer.flags, answer.seq, answer.ack), (ACK, ours, NEXT), "{case:?}");
            assert_eq!(world.status().time_wait, 1);
        }
    }
}

#[test]
fn without_a_listener_no_syn_ends_it() {
    let (mut world, _) = waiting(true);
    let listener = 0;
    world.release(listener);
    world.peer(Tcp { options: options(Some(LAST + 5)), ..Tcp::syn(4000, 8080, 9000) });
    assert_eq!(world.sent().pop().unwrap().flags, ACK);
    assert_eq!(world.status().time_wait, 1);
}

/// RFC 1337: neither RST nor an old duplicate ends it, whatever its number.
#[test]
fn nothing_assassinates_it() {
    for segment in [
        Tcp::new(4000, 8080, NEXT, 0, RST),
        Tcp::new(4000, 8080, NEXT, 0, RST | ACK),
        Tcp::new(4000, 8080, NEXT + 100, 0, RST),
        Tcp { options: options(Some(LAST + 9)), ..Tcp::new(4000, 8080, NEXT, 0, RST) },
        Tcp { payload: vec![1; 100], ..Tcp::ack(4000, 8080, 4990, 1) },
        Tcp::syn_ack(4000, 8080, NEXT + 10, 1),
    ] {
        let (mut world, _) = waiting(true);
        world.peer(segment.clone());
        let answers = world.sent().len();
        assert_eq!(answers, usize::from(!segment.has(RST)), "{segment:?}");
        assert_eq!(world.status().time_wait, 1);
        world.advance(59_000_000);
        assert_eq!(world.status().time_wait, 1, "{segment:?}");
        world.advance(1_000_000);
        assert_eq!(world.status().time_wait, 0, "and it did not begin anew: {segment:?}");
    }
}

#[test]
fn the_peers_fin_begins_it_anew_unless_it_is_an_old_one() {
    for (seq, value, anew) in [
        (5001, Some(LAST), true),
        (5001, None, true),
        (5001, Some(LAST - 1), false),
        (5000, Some(LAST), false),
        (9000, Some(LAST), false),
    ] {
        let (mut world, ours) = waiting(true);
        world.advance(30_000_000);
        world.peer(Tcp { options: options(value), ..Tcp::new(4000, 8080, seq, ours, FIN | ACK) });
        let answer = world.sent().pop().unwrap();
        assert_eq!((answer.flags, answer.seq, answer.ack), (ACK, ours, NEXT));
        assert_eq!(answer.option(8).unwrap()[4..], LAST.to_be_bytes());
        world.advance(45_000_000);
        assert_eq!(world.status().time_wait, u32::from(anew), "{seq} {value:?}");
    }
}

#[test]
fn answers_are_limited() {
    let (mut world, ours) = waiting(true);
    // The acknowledgement of our FIN, again: nothing to say.
    world.peer(Tcp { options: options(Some(LAST)), ..Tcp::ack(4000, 8080, NEXT, ours) });
    assert!(world.sent().is_empty());
    // Of something never sent.
    world.peer(Tcp { options: options(Some(LAST)), ..Tcp::ack(4000, 8080, NEXT, ours + 1) });
    assert_eq!(world.sent().len(), 1);
    for _ in 0..100 {
        world.peer(Tcp::ack(4000, 8080, NEXT + 1000, ours));
        world.advance(10_000);
    }
    assert_eq!(world.sent().len(), 1, "one per half second");
    for _ in 0..100 {
        world.peer(Tcp::new(4000, 8080, 5001, ours, FIN | ACK));
        world.advance(1000);
    }
    assert_eq!(world.sent().len(), 5, "a FIN may come a little more often");
}

/// The same, with the socket still held and something in it unread; its flow.
fn held() -> (World, u32, FlowInfo) {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    let info = world.accepted(listener, 8080, 4000);
    let hot = &world.hot[info.flow as usize];
    hot.ts_recent.store(LAST, Relaxed);
    let ours = hot.snd_una.load(Relaxed) as u32 + 1;
    world.received(info.flow, 100, false);
    world.shutdown(info.socket, 1, 0).unwrap();
    world.advance(PAUSE);
    world.acknowledged(info.flow);
    world.peer_fin(info.flow);
    world.advance(PAUSE);
    assert_eq!(world.state(info.flow), tcp_state::TIME_WAIT);
    world.frames.clear();
    (world, ours, info)
}

fn is_detached(world: &World, flow: u32) -> bool {
    world.cold[flow as usize].control.load(Relaxed) & abi::flow::control_flags::DETACHED != 0
}

/// RFC 9293 §3.10.7.4: it does not matter whether the application has closed its descriptor.
#[test]
fn a_syn_reopens_though_the_socket_is_held() {
    let (old, next) = (LAST - 1, NEXT + 100);
    for (value, seq, reopens) in [(LAST + 1, 4000, true), (old, next + 1, false), (LAST, next, false)] {
        let (mut world, ours, info) = held();
        world.peer(Tcp { options: options(Some(value)), ..Tcp::syn(4000, 8080, seq) });
        let answer = world.sent();
        assert_eq!(world.stack.counter(Counter::TimeWaitsReused), u64::from(reopens), "{value} {seq}");
        assert_eq!(is_detached(&world, info.flow), reopens, "{value} {seq}");
        if !reopens {
            assert!(answer.is_empty() && world.ops().contains(&to_fast::ACKNOWLEDGE), "challenged");
            assert_eq!(world.state(info.flow), tcp_state::TIME_WAIT);
            continue;
        }
        let answer = &answer[0];
        assert_eq!((answer.flags, answer.ack), (SYN | ACK, seq + 1));
        assert!((answer.seq.wrapping_sub(ours) as i32) >= 65_536, "behind our old numbers");
        // As on Linux, whose descriptor is that of a closed connection as soon as it is in TIME-WAIT.
        assert_eq!(world.state(info.flow), tcp_state::CLOSED);
        assert!(world.info(info.socket).is_ok(), "what is unread stays readable");
        world.peer(Tcp {
            options: options(Some(value)),
            ..Tcp::ack(4000, 8080, seq + 1, answer.seq.wrapping_add(1))
        });
        let second = world.accept(0).unwrap();
        assert_ne!(second.flow, info.flow);
        world.release(info.socket);
        world.advance(PAUSE);
        assert_eq!(world.state(second.flow), tcp_state::ESTABLISHED);
        assert_eq!(world.status().time_wait, 0, "the old one is not back");
    }
}

#[test]
fn a_held_one_needs_a_listener_and_is_over_in_time() {
    let (mut world, _, info) = held();
    world.release(0);
    world.peer(Tcp { options: options(Some(LAST + 5)), ..Tcp::syn(4000, 8080, 9000) });
    assert!(world.ops().contains(&to_fast::ACKNOWLEDGE) && !is_detached(&world, info.flow));
    // Nothing that is asked of the socket meanwhile makes it longer.
    world.set_option(info.socket, option::KEEPALIVE, 1, 0).unwrap();
    world.advance(59_000_000);
    assert_eq!(world.state(info.flow), tcp_state::TIME_WAIT);
    world.advance(1_000_000);
    assert_eq!(world.state(info.flow), tcp_state::CLOSED);
    assert!(is_detached(&world, info.flow));
    world.release(info.socket);
    world.advance(PAUSE);
    world.assert_clean();
    assert_eq!(world.status().time_wait, 0);
}
