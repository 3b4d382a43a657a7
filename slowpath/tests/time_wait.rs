// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! TIME-WAIT: what ends it (RFC 6191), what must not (RFC 1337), and what it answers.

mod common;

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
