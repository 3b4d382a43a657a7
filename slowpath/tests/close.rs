// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Every way to close.

mod common;

use abi::{
    event::kernel_event,
    flow::hot_flags,
    kernel_ring::{to_fast, to_slow},
    limits::{CONTEXT_ENTRIES_PER_LOOP, CONTEXT_RING_ENTRIES},
    message::{option, tcp_state},
};
use common::{frames::*, *};
use slowpath::counters::Counter;
use std::sync::atomic::Ordering::Relaxed;

const PAUSE: u64 = 20_000;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    /// shutdown(SHUT_WR) on our side.
    Shutdown,
    /// close() on our side.
    Release,
    /// The peer's FIN arrives.
    PeerFin,
    /// The peer acknowledges everything, our FIN too if it was sent.
    Acknowledge,
}
use Step::*;

/// Runs the steps on a new connection; the world and its flow.
fn run(steps: &[Step]) -> (World, u32, u32) {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    let info = world.accepted(listener, 8080, 4000);
    for step in steps {
        match step {
            Shutdown => world.shutdown(info.socket, 1, 0).unwrap(),
            Release => world.release(info.socket),
            PeerFin => world.peer_fin(info.flow),
            Acknowledge => world.acknowledged(info.flow),
        }
        world.advance(PAUSE);
    }
    world.frames.clear();
    (world, info.flow, info.socket)
}

#[test]
fn states_follow_rfc_9293_in_every_order() {
    use tcp_state::*;
    for (steps, state) in [
        (&[Shutdown][..], FIN_WAIT1),
        (&[Shutdown, Acknowledge], FIN_WAIT2),
        (&[Shutdown, PeerFin], CLOSING),
        (&[Shutdown, PeerFin, Acknowledge], TIME_WAIT),
        (&[Shutdown, Acknowledge, PeerFin], TIME_WAIT),
        (&[PeerFin], CLOSE_WAIT),
        (&[PeerFin, Shutdown], LAST_ACK),
        (&[PeerFin, Shutdown, Acknowledge], CLOSED),
        (&[Release], FIN_WAIT1),
        (&[Release, Acknowledge], FIN_WAIT2),
        (&[Release, PeerFin], CLOSING),
        (&[PeerFin, Release], LAST_ACK),
        (&[Shutdown, Release], FIN_WAIT1),
    ] {
        let (world, flow, _) = run(steps);
        assert_eq!(world.state(flow), state, "{steps:?}");
    }
}

/// Every order of the three or four things that happen ends with nothing left, and with TIME-WAIT
/// exactly if we closed first.
#[test]
fn every_order_ends_clean() {
    let all = [Shutdown, Release, PeerFin, Acknowledge];
    let mut orders = vec![vec![]];
    for _ in 0..4 {
        orders = orders
            .into_iter()
            .flat_map(|order: Vec<Step>| {
                all.into_iter()
                    .filter(|s| !order.contains(s))
                    .map(|s| [&order[..], &[s]].concat())
                    .collect::<Vec<_>>()
            })
            .collect();
    }
    for order in orders {
        // Acknowledged before it was sent: the ACK comes at the end.
        let mut steps: Vec<Step> = order
            .iter()
            .copied()
            .filter(|s| {
                !(*s == Shutdown
                    && order.iter().position(|x| x == &Release) < order.iter().position(|x| x == &Shutdown))
            })
            .collect();
        steps.push(Acknowledge);
        let (mut world, flow, _) = run(&steps);
        let first = steps.iter().find(|s| **s != Acknowledge).unwrap();
        let status = world.status();
        assert_eq!(status.flows_used, 0, "{steps:?} state {}", world.state(flow));
        assert_eq!(status.time_wait, u32::from(*first != PeerFin), "{steps:?}");
        assert_eq!(world.stack.counter(Counter::ResetsSent), 0);
        world.advance(61_000_000);
        assert_eq!(world.status().time_wait, 0);
        world.assert_clean();
    }
}

#[test]
fn half_close_waits_for_what_was_written() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    let info = world.accepted(listener, 8080, 4000);
    let hot = &world.hot[info.flow as usize];
    world.preempted = true; // the core has not looked at its rings
    world.shutdown(info.socket, 1, info.tx_start + 100).unwrap();
    world.advance(PAUSE);
    assert!(!world.ops().contains(&to_fast::FINISH), "100 bytes are still in the ring");
    hot.snd_end.store(info.tx_start + 100, Relaxed);
    world.advance(PAUSE);
    assert!(world.ops().contains(&to_fast::FINISH));
    assert_eq!(world.state(info.flow), tcp_state::FIN_WAIT1);
    assert_eq!(world.info(info.socket).unwrap().tcp_state, tcp_state::FIN_WAIT1, "reading goes on");
}

#[test]
fn a_bogus_end_does_not_hold_up_the_fin() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    let info = world.accepted(listener, 8080, 4000);
    world.shutdown(info.socket, 1, u64::MAX).unwrap();
    world.advance(PAUSE);
    assert!(world.ops().contains(&to_fast::FINISH), "the core has looked at every ring");
}

#[test]
fn close_waits_until_the_core_has_seen_the_rings() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    let info = world.accepted(listener, 8080, 4000);
    world.received(info.flow, 10, false);
    world.preempted = true;
    world.release(info.socket);
    world.advance(PAUSE);
    assert_eq!(world.ops(), [to_fast::UPDATE]);
    // The library's last entry says that everything was read.
    let hot = &world.hot[info.flow as usize];
    hot.rcv_read.store(hot.rcv_nxt.load(Relaxed), Relaxed);
    world.preempted = false;
    world.advance(PAUSE);
    assert!(world.ops().contains(&to_fast::FINISH));
    assert_eq!(world.stack.counter(Counter::ResetsSent), 0);
    assert_eq!(world.cold[info.flow as usize].owner.load(Relaxed), APP << 16 | 0xffff);
}

#[test]
fn unread_data_resets() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    let info = world.accepted(listener, 8080, 4000);
    world.received(info.flow, 10, false);
    world.release(info.socket);
    world.advance(PAUSE);
    let rst = world.sent().pop().unwrap();
    assert_eq!((rst.flags, rst.seq, rst.ack), (RST | ACK, info.tx_start as u32, info.rx_start as u32 + 10));
    assert!(world.ops().contains(&to_fast::REMOVE));
    assert_eq!(world.status().time_wait, 0);
    world.assert_clean();
}

#[test]
fn linger_zero_resets_at_once() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    let info = world.accepted(listener, 8080, 4000);
    world.set_option(info.socket, option::LINGER, 1, 0).unwrap();
    world.write(info.flow, 500);
    world.release(info.socket);
    let rst = world.sent().pop().unwrap();
    assert_eq!((rst.flags, rst.seq), (RST | ACK, info.tx_start as u32 + 500));
    world.assert_clean();
}

#[test]
fn data_after_close_resets() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    let info = world.accepted(listener, 8080, 4000);
    world.report(0, to_slow::DATA_AFTER_CLOSE, info.flow);
    world.pump();
    assert!(world.sent().is_empty(), "a socket that is still held is not reset");
    world.release(info.socket);
    world.advance(PAUSE);
    world.report(0, to_slow::DATA_AFTER_CLOSE, info.flow);
    world.pump();
    assert_eq!(world.sent().pop().unwrap().flags, RST | ACK);
    world.assert_clean();
}

/// Simulated world 7614: an application wrote garbage in its buffer maps and died. Its peer must not wait for ten minutes.
#[test]
fn an_orphan_whose_bytes_cannot_be_found_is_reset() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    let info = world.accepted(listener, 8080, 4000);
    world.write(info.flow, 1000);
    world.report(0, to_slow::FAULT, info.flow);
    world.pump();
    assert!(world.sent().is_empty(), "its application may still put it right");
    world.release(info.socket);
    world.advance(PAUSE);
    world.report(0, to_slow::FAULT, info.flow);
    world.pump();
    assert_eq!(world.sent().pop().unwrap().flags, RST | ACK);
    world.assert_clean();
}

/// Found by a simulated world: an application wrote a ring full of small pieces and closed. The close was judged before the
/// core had taken all of them.
#[test]
fn a_close_waits_until_the_core_has_seen_a_whole_ring() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    let info = world.accepted(listener, 8080, 4000);
    // The core's loops are counted here.
    world.preempted = true;
    world.release(info.socket);
    let loops = CONTEXT_RING_ENTRIES / CONTEXT_ENTRIES_PER_LOOP;
    world.core.loops.fetch_add(loops.into(), Relaxed);
    world.advance(PAUSE);
    assert!(!world.ops().contains(&to_fast::FINISH));
    world.core.loops.fetch_add(1, Relaxed);
    world.advance(PAUSE);
    assert!(world.ops().contains(&to_fast::FINISH));
}

#[test]
fn resets_are_validated() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    let info = world.accepted(listener, 8080, 4000);
    let next = info.rx_start as u32;
    // Outside the window: nothing. Inside, and any SYN: a challenge ACK, two a second.
    world.peer(Tcp::new(4000, 8080, next.wrapping_sub(1), 0, RST));
    world.peer(Tcp::new(4000, 8080, next + 66_000, 0, RST));
    assert!(world.ops().is_empty());
    for _ in 0..20 {
        world.peer(Tcp::new(4000, 8080, next + 1, 0, RST));
        world.peer(Tcp::syn(4000, 8080, next));
    }
    assert_eq!(world.ops(), [to_fast::ACKNOWLEDGE]);
    assert_eq!(world.state(info.flow), tcp_state::ESTABLISHED);
    world.peer(Tcp::new(4000, 8080, next, 0, RST));
    assert_eq!(world.events.pop().unwrap().1.error, 104);
    assert_eq!(world.get_option(info.socket, option::ERROR), Ok(104));
    assert_eq!(world.ops(), [to_fast::UPDATE]);
    assert_eq!(world.cold[info.flow as usize].rate_kbps.load(Relaxed), 0, "zero stops");
    assert_eq!(world.shutdown(info.socket, 1, 0), Err(107));
    assert!(world.info(info.socket).is_ok(), "what was received stays readable");
    world.release(info.socket);
    assert!(world.sent().is_empty());
    world.assert_clean();
}

#[test]
fn reset_in_close_wait_is_a_broken_pipe() {
    let (mut world, flow, socket) = run(&[PeerFin]);
    let next = world.hot[flow as usize].rcv_nxt.load(Relaxed) as u32;
    world.peer(Tcp::new(4000, 8080, next, 0, RST));
    assert_eq!(world.get_option(socket, option::ERROR), Ok(32));
}

#[test]
fn a_connection_reset_before_accept_is_accepted_with_its_error() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    world.peer(Tcp::syn(4000, 8080, 5000));
    let syn_ack = world.sent().pop().unwrap();
    world.peer(Tcp::ack(4000, 8080, 5001, syn_ack.seq.wrapping_add(1)));
    world.peer(Tcp::new(4000, 8080, 5001, 0, RST));
    let info = world.accept(listener).unwrap();
    assert_eq!(info.tcp_state, tcp_state::CLOSED);
    assert_eq!(world.get_option(info.socket, option::ERROR), Ok(104));
    world.release(info.socket);
    world.assert_clean();
}

#[test]
fn closing_a_listener_resets_what_waits() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    let mut numbers = vec![];
    for from in 4000..4003 {
        world.peer(Tcp::syn(from, 8080, 5000));
        numbers.push(world.sent().pop().unwrap().seq.wrapping_add(1));
    }
    world.peer(Tcp::ack(4000, 8080, 5001, numbers[0]));
    world.peer(Tcp::ack(4001, 8080, 5001, numbers[1]));
    world.release(listener);
    assert_eq!(world.sent().iter().filter(|s| s.has(RST)).count(), 2);
    world.peer(Tcp::ack(4002, 8080, 5001, numbers[2]));
    assert_eq!(world.sent().pop().unwrap().flags, RST, "half-open, and nobody listens");
    world.assert_clean();
    assert_eq!(world.status().listeners, 0);
    world.listener(8080, 5);
}

#[test]
fn fin_wait_2_of_an_orphan_ends() {
    let (mut world, flow, _) = run(&[Release, Acknowledge]);
    assert_eq!(world.state(flow), tcp_state::FIN_WAIT2);
    world.advance(50_000_000);
    assert_eq!(world.status().flows_used, 1);
    world.advance(15_000_000);
    world.assert_clean();
    assert!(world.sent().iter().all(|segment| !segment.has(RST)));
    let (mut world, _, _) = run(&[Shutdown, Acknowledge]);
    world.advance(100_000_000);
    assert_eq!(world.status().flows_used, 1, "with a socket it may last");
}

#[test]
fn an_orphan_goes_on_sending_and_is_bounded() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    let info = world.accepted(listener, 8080, 4000);
    world.write(info.flow, 10_000);
    world.release(info.socket);
    world.advance(PAUSE);
    assert_eq!(world.stack.counter(Counter::Orphans), 1);
    assert!(world.ops().contains(&to_fast::FINISH));
    // The peer says nothing more.
    world.advance(400_000_000);
    assert_eq!(world.stack.counter(Counter::Timeouts), 8);
    assert_eq!(world.stack.counter(Counter::OrphansEnded), 1);
    world.assert_clean();
}

#[test]
fn orphans_are_bounded_in_number() {
    let mut world = World::with(slowpath::Config { flows: 512, ..config() });
    let listener = world.listener(8080, 500);
    let mut flows = vec![];
    for from in 0..200u16 {
        flows.push(world.accepted(listener, 8080, 4000 + from));
    }
    world.frames.clear();
    for info in &flows {
        world.write(info.flow, 10);
        world.release(info.socket);
    }
    assert_eq!(world.sent().iter().filter(|s| s.has(RST)).count(), 200 - 128);
}

#[test]
fn time_wait_answers_reuses_and_expires() {
    let (mut world, _, _) = run(&[Release, Acknowledge, PeerFin]);
    assert_eq!(world.status().time_wait, 1);
    world.frames.clear();
    // The peer's FIN again: our ACK again.
    world.peer(Tcp::new(4000, 8080, 5001, 1, FIN | ACK));
    let ack = world.sent().pop().unwrap();
    assert_eq!((ack.flags, ack.ack), (ACK, 5002));
    let ours = ack.seq;
    // RST is ignored (RFC 1337), an old SYN is not taken for a new one.
    world.peer(Tcp::new(4000, 8080, 5002, 0, RST));
    world.advance(600_000);
    world.peer(Tcp { options: vec![], ..Tcp::syn(4000, 8080, 4000) });
    assert_eq!(world.sent().pop().unwrap().flags, ACK);
    assert_eq!(world.status().time_wait, 1);
    // A newer one is, with a number of ours behind the old ones.
    world.peer(Tcp::syn(4000, 8080, 6000));
    let syn_ack = world.sent().pop().unwrap();
    assert_eq!(syn_ack.flags, SYN | ACK);
    assert!((syn_ack.seq.wrapping_sub(ours) as i32) >= 65_536);
    assert_eq!(world.status().time_wait, 0);

    let (mut world, _, _) = run(&[Release, Acknowledge, PeerFin]);
    world.advance(30_000_000);
    world.peer(Tcp::new(4000, 8080, 5001, 1, FIN | ACK));
    world.advance(59_000_000);
    assert_eq!(world.status().time_wait, 1, "the FIN began it anew");
    world.advance(2_000_000);
    assert_eq!(world.status().time_wait, 0);
    assert_eq!(world.stack.counter(Counter::TimeWaitsEarly), 0);
}

#[test]
fn a_full_time_wait_table_loses_its_oldest() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    for from in 0..100u16 {
        let info = world.accepted(listener, 8080, 4000 + from);
        world.release(info.socket);
        world.advance(PAUSE);
        world.acknowledged(info.flow);
        world.peer_fin(info.flow);
    }
    assert_eq!(world.status().time_wait, 64);
    assert_eq!(world.stack.counter(Counter::TimeWaitsEarly), 36);
    world.frames.clear();
    world.peer(Tcp::new(4000, 8080, 5001, 1, FIN | ACK));
    assert_eq!(world.sent().pop().unwrap().flags, RST, "the oldest is forgotten");
    world.peer(Tcp::new(4099, 8080, 5001, 1, FIN | ACK));
    assert_eq!(world.sent().pop().unwrap().flags, ACK);
}

#[test]
fn an_application_that_dies_leaves_nothing() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    let first = world.accepted(listener, 8080, 4000);
    let second = world.accepted(listener, 8080, 4001);
    world.received(second.flow, 10, false);
    let idle = world.socket();
    let connecting = world.socket();
    world.connect(connecting, PEER + 9, 80);
    world.frames.clear();
    world.stack.application_died(world.now, APP);
    world.advance(PAUSE);
    assert_eq!(world.status().contexts, 0);
    assert!(world.ops().contains(&to_fast::FINISH));
    assert_eq!(world.sent().iter().filter(|s| s.has(RST)).count(), 1);
    assert!(world.drained.is_empty(), "the first still sends its FIN");
    assert!(!world.stack.remove_application(APP));
    assert_eq!(world.stack.socket_application(idle), None);
    world.acknowledged(first.flow);
    world.peer_fin(first.flow);
    assert_eq!(world.drained, [APP]);
    assert!(world.stack.remove_application(APP));
    assert!(!world.stack.remove_application(APP));
    world.assert_clean();
    assert_eq!(world.status().applications, 0);
    world.stack.add_application(APP, 1, 2, [0; 16]).unwrap();
}

#[test]
fn the_administrator_resets_a_flow() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    let info = world.accepted(listener, 8080, 4000);
    let mut message = abi::message::Message::new(abi::message::Op::ResetFlow, info.flow);
    world.call(None, &mut message);
    assert_eq!(message.error, 0);
    assert_eq!(world.sent().pop().unwrap().flags, RST | ACK);
    assert_eq!(world.kinds(), [kernel_event::FAILED]);
    assert_eq!(world.get_option(info.socket, option::ERROR), Ok(103));
    world.release(info.socket);
    world.assert_clean();
}

/// Both FINs are there when the slow path looks for the first time: the core knows which was first.
#[test]
fn who_closed_first_is_the_cores_word() {
    for (first, waits) in [(hot_flags::REMOTE_CLOSED_FIRST, 0), (0, 1)] {
        let mut world = World::new();
        let listener = world.listener(8080, 5);
        let info = world.accepted(listener, 8080, 4000);
        let hot = &world.hot[info.flow as usize];
        let ends = hot_flags::FIN_QUEUED | hot_flags::FIN_SENT | hot_flags::FIN_RECEIVED | first;
        hot.flags.fetch_or(ends, Relaxed);
        hot.snd_max.fetch_add(1, Relaxed);
        hot.rcv_nxt.fetch_add(1, Relaxed);
        world.report(0, to_slow::FIN_RECEIVED, info.flow);
        world.release(info.socket);
        world.acknowledged(info.flow);
        world.advance(PAUSE);
        assert_eq!(world.status().time_wait, waits);
        world.assert_clean();
    }
}

#[test]
fn the_librarys_own_fin_is_noticed() {
    let mut world = World::new();
    let listener = world.listener(8080, 5);
    let info = world.accepted(listener, 8080, 4000);
    let hot = &world.hot[info.flow as usize];
    hot.flags.fetch_or(hot_flags::FIN_QUEUED | hot_flags::FIN_SENT, Relaxed);
    hot.snd_max.fetch_add(1, Relaxed);
    world.report(0, to_slow::ACTIVE, info.flow);
    world.advance(PAUSE);
    assert_eq!(world.state(info.flow), tcp_state::FIN_WAIT1);
}

/// RFC 9293 §3.10.7.4: after a reset, and after both ends finished, the peer may open the same connection anew although
/// our application has not closed its socket.
#[test]
fn a_dead_connection_that_is_held_keeps_no_four_tuple() {
    for reset in [true, false] {
        let mut world = World::new();
        let listener = world.listener(8080, 5);
        let info = world.accepted(listener, 8080, 4000);
        if reset {
            world.peer(Tcp { flags: RST, ..Tcp::ack(4000, 8080, 5001, 0) });
        } else {
            world.peer_fin(info.flow);
            world.shutdown(info.socket, 1, 0).unwrap();
            world.advance(PAUSE);
            world.acknowledged(info.flow);
        }
        assert_eq!(world.state(info.flow), tcp_state::CLOSED);
        let control = world.cold[info.flow as usize].control.load(Relaxed);
        assert_ne!(control & abi::flow::control_flags::DETACHED, 0);
        let second = world.accepted(listener, 8080, 4000);
        assert_ne!(second.flow, info.flow);
        world.release(info.socket);
        world.advance(PAUSE);
        assert_eq!(world.state(second.flow), tcp_state::ESTABLISHED);
        assert!(world.info(second.socket).is_ok());
    }
}
