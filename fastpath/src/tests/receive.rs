// SPDX-License-Identifier: MIT OR Apache-2.0
//! Acceptability, trimming, acknowledgement of data (RFC 9293 §3.10.7.4).

use super::World;
use crate::testing::*;
use abi::{core_status::Counter, flow::hot_flags, kernel_ring::to_fast};
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn data_in_order_reaches_the_application_and_is_acknowledged_after_the_delay() {
    let mut world = World::connected();
    let sent = world.receive(&world.from_peer(1, b"hello"));
    assert!(sent.is_empty(), "{sent:?}");
    let events = world.events();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].flow, events[0].generation, events[0].rx), (1, 5, RCV_START + 5));
    assert_eq!(world.received(1, RCV_START, RCV_START + 5), b"hello");
    assert!(world.after(99).is_empty());
    let sent = world.after(1);
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].flags, sent[0].ack, sent[0].payload.len()), (ACK, RCV_START as u32 + 5, 0));
    assert_eq!((sent[0].destination_mac, sent[0].source_mac), (REMOTE_MAC, LOCAL_MAC));
    assert_eq!((sent[0].source_port, sent[0].destination_port), (6379, 40_001));
    assert!(world.after(1000).is_empty(), "acknowledged once");
    assert_eq!(world.core.port_mut().live(), 0, "every packet went back");
    assert_eq!(world.hot(1).rcv_nxt.load(Relaxed), RCV_START + 5);
    assert_eq!(world.counter(Counter::RxPayloadBytes), 5);
}

#[test]
fn every_second_full_segment_is_acknowledged_at_once() {
    let mut world = World::connected();
    assert!(world.receive(&world.from_peer(1, &[1; 1428])).is_empty());
    let sent = world.receive(&world.from_peer(1, &[2; 1428]));
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].ack, RCV_START as u32 + 2856);
    assert!(world.receive(&world.from_peer(1, &[3; 1428])).is_empty());
    assert_eq!(world.after(100).len(), 1);
}

#[test]
fn a_burst_is_worked_on_before_it_is_acknowledged() {
    let mut world = World::connected();
    for number in 0..7u32 {
        let mut segment = world.from_peer(1, &[number as u8; 1448]);
        segment.seq += number * 1448;
        world.core.port_mut().incoming.push_back(segment.encode());
    }
    let sent = world.poll();
    assert_eq!(sent.len(), 1, "one for the whole burst");
    assert_eq!(sent[0].ack, RCV_START as u32 + 7 * 1448);
    // What is out of order is told segment by segment (RFC 5681 §4.2).
    for number in 8..11u32 {
        let mut segment = world.from_peer(1, &[9; 1448]);
        segment.seq = RCV_START as u32 + number * 1448;
        world.core.port_mut().incoming.push_back(segment.encode());
    }
    assert_eq!(world.poll().len(), 3);
}

#[test]
fn data_takes_the_acknowledgement_along() {
    let mut world = World::connected();
    assert!(world.receive(&world.from_peer(1, b"request")).is_empty());
    let sent = world.write(1, b"reply");
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].payload.as_slice(), sent[0].ack), (&b"reply"[..], RCV_START as u32 + 7));
    assert!(world.after(1000).is_empty(), "nothing left to acknowledge");
    // A later request's delay counts from its own arrival.
    let mut request = world.from_peer(1, b"again");
    request.ack = world.hot(1).snd_max.load(Relaxed) as u32;
    assert!(world.receive(&request).is_empty());
    assert!(world.after(99).is_empty());
    assert_eq!(world.after(1).len(), 1);
}

#[test]
fn the_delay_is_counted_anew_for_each_acknowledgement_owed() {
    let mut world = World::connected();
    world.receive(&world.from_peer(1, b"one"));
    world.now_us += 60;
    assert_eq!(world.write(1, b"reply").len(), 1);
    assert!(world.receive(&world.from_peer(1, b"two")).is_empty());
    // The first one's entry comes due at 100, when the second has waited for 40.
    assert!(world.after(45).is_empty());
    assert!(world.after(54).is_empty());
    assert_eq!(world.after(1).len(), 1);
}

/// What RFC 9293 §3.10.7.4 does with every position of a segment relative to the window, against the plain rules.
#[test]
fn window_edges() {
    let window = 32_768i64;
    for (offset, len) in [
        (-10, 5),
        (-10, 10),
        (-10, 11),
        (-1, 1),
        (-1, 2),
        (0, 1),
        (0, 1428),
        (window - 1, 1),
        (window - 1, 2),
        (window, 1),
        (window + 1, 1),
        (i64::from(i32::MAX) - 5, 3),
        (-i64::from(i32::MAX) + 5, 3),
    ] {
        let mut world = World::connected();
        let mut segment = world.from_peer(1, &vec![7; len as usize]);
        segment.seq = segment.seq.wrapping_add(offset as u32);
        let sent = world.receive(&segment);
        let acceptable = offset + len > 0 && offset < window;
        let fresh = if offset <= 0 && acceptable { offset + len } else { 0 };
        assert_eq!(world.hot(1).rcv_nxt.load(Relaxed), RCV_START + fresh as u64, "offset {offset} len {len}");
        assert_eq!(world.counter(Counter::Unacceptable) == 0, acceptable, "offset {offset} len {len}");
        if !acceptable || offset != 0 {
            assert_eq!(sent.len(), 1, "answered at once: offset {offset} len {len}");
            assert_eq!(sent[0].ack, (RCV_START + fresh as u64) as u32);
        }
    }
}

#[test]
fn overlapping_data_is_trimmed_on_both_sides() {
    let mut world = World::connected();
    world.receive(&world.from_peer(1, b"abcdef"));
    let mut segment = world.from_peer(1, b"XXXghi");
    segment.seq -= 3;
    let sent = world.receive(&segment);
    assert_eq!(sent.len(), 1, "partly old: acknowledged at once");
    assert_eq!(world.received(1, RCV_START, RCV_START + 9), b"abcdefghi");

    // Beyond the right edge: what fits is taken, the rest and the FIN are not.
    let mut world = World::connected();
    world.hot(1).rcv_adv.store((RCV_START + 4) as u32, Relaxed);
    let mut segment = world.from_peer(1, b"123456");
    segment.flags |= FIN;
    let sent = world.receive(&segment);
    assert_eq!(sent[0].ack, RCV_START as u32 + 4);
    assert_eq!(world.hot(1).rcv_nxt.load(Relaxed), RCV_START + 4);
    assert!(!world.report_ops().contains(&abi::kernel_ring::to_slow::FIN_RECEIVED));
}

#[test]
fn a_closed_window_answers_probes_and_takes_acknowledgements() {
    let mut world = World::connected();
    world.write(1, b"unacknowledged");
    let hot = world.hot(1);
    hot.rcv_adv.store(RCV_START as u32, Relaxed);
    hot.rcv_read.store(RCV_START - 32_768, Relaxed);
    let probe = world.from_peer(1, b"p");
    let sent = world.receive(&probe);
    assert_eq!((sent.len(), sent[0].window, sent[0].ack), (1, 0, RCV_START as u32));
    assert_eq!(hot.snd_una.load(Relaxed), SND_START + 14, "its acknowledgement counts");
    assert_eq!(hot.rcv_nxt.load(Relaxed), RCV_START);
    // Also a probe from before the window (Linux), without data.
    let mut probe = world.from_peer(1, b"");
    probe.seq -= 1;
    assert_eq!(world.receive(&probe).len(), 1);
}

#[test]
fn unacceptable_segments_without_data_are_answered_at_a_limited_rate() {
    // A probe comes from one before the window; anything else may answer an answer of ours.
    for (before, interval) in [(1, 20_000), (2, 500_000), (u32::MAX / 3, 500_000)] {
        let mut world = World::connected();
        let mut segment = world.from_peer(1, b"");
        segment.seq = segment.seq.wrapping_sub(before);
        assert_eq!(world.receive(&segment).len(), 1);
        assert_eq!(world.receive(&segment).len(), 0);
        world.now_us += interval - 1;
        assert_eq!(world.receive(&segment).len(), 0, "{before}");
        world.now_us += 1;
        assert_eq!(world.receive(&segment).len(), 1, "{before}");
        assert_eq!(world.counter(Counter::Unacceptable), 4);
    }
}

#[test]
fn unacceptable_acknowledgements_are_answered_at_a_limited_rate() {
    for (payload, ack) in [(&b"data"[..], 1u32), (b"", 1), (b"data", 0x8000_0000)] {
        let mut world = World::connected();
        let mut segment = world.from_peer(1, payload);
        segment.ack = segment.ack.wrapping_add(ack);
        assert_eq!(world.receive(&segment).len(), 1, "RFC 5961 5");
        assert_eq!(world.receive(&segment).len(), 0);
        world.now_us += 500_000;
        assert_eq!(world.receive(&segment).len(), 1);
        assert_eq!(world.hot(1).rcv_nxt.load(Relaxed), RCV_START, "its data is not taken");
    }
}

#[test]
fn retransmitted_data_is_answered_each_time() {
    let mut world = World::connected();
    let segment = world.from_peer(1, b"once");
    world.receive(&segment);
    for _ in 0..5 {
        assert_eq!(world.receive(&segment).len(), 1);
    }
}

#[test]
fn refused_data_of_one_burst_gets_one_answer_unless_each_names_what_came_twice() {
    for sack in [false, true] {
        let mut world = World::connected();
        if sack {
            world.hot(1).flags.fetch_or(hot_flags::SACK, Relaxed);
        }
        let segment = world.from_peer(1, b"once");
        world.receive(&segment);
        let outside = segment.seq.wrapping_add(1 << 30);
        for (seq, answers) in [(outside, 1), (segment.seq, if sack { 4 } else { 1 })] {
            for _ in 0..4 {
                let mut refused = world.from_peer(1, b"once");
                refused.seq = seq;
                world.core.port_mut().incoming.push_back(refused.encode());
            }
            let sent = world.poll();
            assert_eq!(sent.len(), answers, "SACK {sack}");
            assert!(sent.iter().all(|answer| answer.ack == RCV_START as u32 + 4));
            assert!(sent.iter().all(|answer| (answer.options.len() > 12) == (sack && seq == segment.seq)));
        }
        assert_eq!(world.counter(Counter::Unacceptable), 8);
    }
}

#[test]
fn fin_in_order_is_reported_and_acknowledged_at_once() {
    let mut world = World::connected();
    let mut segment = world.from_peer(1, b"bye");
    segment.flags |= FIN | PSH;
    let sent = world.receive(&segment);
    assert_eq!((sent.len(), sent[0].ack), (1, RCV_START as u32 + 4));
    assert_eq!(world.report_ops(), [abi::kernel_ring::to_slow::FIN_RECEIVED]);
    let events = world.events();
    assert_eq!(events[0].rx, RCV_START + 3, "the FIN is not data");
    assert_ne!(events[0].flags & abi::event::event_flags::FIN, 0);
    // Again, and data after it: acknowledged, but neither taken nor reported again.
    let sent = world.receive(&segment);
    assert_eq!(sent[0].ack, RCV_START as u32 + 4);
    world.receive(&world.from_peer(1, b"more"));
    assert_eq!(world.hot(1).rcv_nxt.load(Relaxed), RCV_START + 4);
    assert!(world.report_ops().is_empty());
    // The application cannot read the FIN.
    world.read_to(1, RCV_START + 4);
    assert_eq!(world.counter(Counter::RefusedEntries), 1);
}

#[test]
fn segments_without_ack_are_dropped() {
    let mut world = World::connected();
    let mut segment = world.from_peer(1, b"data");
    segment.flags = PSH;
    assert!(world.receive(&segment).is_empty());
    assert_eq!(world.hot(1).rcv_nxt.load(Relaxed), RCV_START);
    assert!(world.report_ops().is_empty());
}

#[test]
fn syn_and_rst_go_to_the_slow_path_and_do_not_stick() {
    let mut world = World::connected();
    for flags in [SYN, RST, SYN | ACK, RST | ACK] {
        let mut segment = world.from_peer(1, b"");
        segment.flags = flags;
        assert!(world.receive(&segment).is_empty());
        let reports = world.reports();
        assert_eq!(reports.len(), 1);
        assert_eq!(
            (reports[0].0.op, reports[0].0.reason, reports[0].0.flow),
            (abi::kernel_ring::to_slow::PACKET, abi::kernel_ring::reason::FLAGS, 1)
        );
        assert_eq!(reports[0].1, segment.encode());
        world.now_us += 500_000;
    }
    world.receive(&world.from_peer(1, b"goes on"));
    assert_eq!(world.hot(1).rcv_nxt.load(Relaxed), RCV_START + 7);
}

/// RFC 5961 §3.2, §7: what changes nothing costs little.
#[test]
fn blind_resets_and_syns_are_filtered() {
    let window = 32_768;
    // Offset from the next number, and how many of ten are handed over.
    for (flags, offset, handed) in [
        (RST, 0i64, 10),
        (RST, -1, 10),
        (RST, -2, 0),
        (RST, 1, 1),
        (RST, window - 1, 1),
        (RST, window, 0),
        (RST, 1 << 30, 0),
        (SYN, 0, 1),
        (SYN, 1 << 30, 1),
        (SYN | ACK, -1, 1),
    ] {
        let mut world = World::connected();
        let mut segment = world.from_peer(1, b"");
        segment.flags = flags;
        segment.seq = segment.seq.wrapping_add(offset as u32);
        for _ in 0..10 {
            assert!(world.receive(&segment).is_empty());
        }
        assert_eq!(world.reports().len(), handed, "flags {flags} offset {offset}");
        assert_eq!(world.counter(Counter::Unacceptable), 10 - handed as u64);
    }
}

#[test]
fn bad_checksums_are_dropped_and_counted() {
    let mut world = World::connected();
    let good = world.from_peer(1, b"payload").encode();
    // The IPv4 header's own checksum, or an address; TCP's checksum, options and data.
    for at in [24, World::TCP + 16, World::TCP + 26, good.len() - 1] {
        let mut frame = good.clone();
        frame[at] ^= 0x10;
        assert!(world.receive_frame(frame).is_empty());
    }
    assert_eq!(world.counter(Counter::BadChecksum), 4);
    // A port that has looked is believed, both ways.
    world.core.port_mut().checksum = crate::RxChecksum::Bad;
    world.receive_frame(good.clone());
    assert_eq!(world.counter(Counter::BadChecksum), 5);
    assert_eq!(world.hot(1).rcv_nxt.load(Relaxed), RCV_START);
    world.core.port_mut().checksum = crate::RxChecksum::Good;
    let mut frame = good;
    frame[World::TCP + 16] ^= 1;
    world.receive_frame(frame);
    assert_eq!(world.hot(1).rcv_nxt.load(Relaxed), RCV_START + 7);
}

/// Every option length with random bytes in a live connection: the data arrives.
#[test]
fn any_options_are_survived_and_the_data_is_taken() {
    let mut random = super::Random::new(77);
    for len in (0..=40usize).step_by(4) {
        for _ in 0..50 {
            let mut world = World::with(2, crate::Config::default());
            world.install(1);
            let mut segment = world.from_peer(1, b"x");
            segment.options = (0..len).map(|_| (random.next() as u8) % 16).collect();
            world.receive(&segment);
            let taken = world.hot(1).rcv_nxt.load(Relaxed) == RCV_START + 1;
            let stale = world.counter(Counter::StaleTimestamp) == 1;
            assert!(taken || stale, "{:?}", segment.options);
        }
    }
}

#[test]
fn sequence_numbers_wrap() {
    let mut world = World::new();
    world.prepare(1);
    let hot = world.hot(1);
    let start = 0x1_ffff_ff00u64;
    for word in [&hot.rcv_nxt, &hot.rcv_read, &hot.snd_una, &hot.snd_nxt, &hot.snd_end, &hot.snd_max] {
        word.store(start, Relaxed);
    }
    hot.rcv_adv.store((start + 32_768) as u32, Relaxed);
    world.ask(abi::kernel_ring::to_fast::INSTALL, 1, 0);
    for round in 0..10u64 {
        let sent = world.write(1, &[9; 100]);
        assert_eq!(sent[0].seq, (start + round * 100) as u32);
        world.receive(&world.from_peer(1, &[round as u8; 100]));
        assert_eq!(hot.rcv_nxt.load(Relaxed), start + 100 * (round + 1));
        assert_eq!(hot.snd_una.load(Relaxed), start + 100 * (round + 1));
    }
    assert_eq!(hot.rcv_nxt.load(Relaxed) >> 32, 2);
    assert_eq!(world.received(1, start + 900, start + 1000), vec![9; 100]);
}

#[test]
fn data_for_a_closed_receiver_is_reported() {
    let mut world = World::connected();
    world.tables.cold[1].control.store(abi::flow::control_flags::RECEIVE_CLOSED, Relaxed);
    world.ask(abi::kernel_ring::to_fast::UPDATE, 1, 0);
    world.receive(&world.from_peer(1, b"late"));
    assert_eq!(world.report_ops(), [abi::kernel_ring::to_slow::DATA_AFTER_CLOSE]);
    assert_eq!(world.hot(1).rcv_nxt.load(Relaxed), RCV_START);
    // Its FIN is still taken.
    let mut segment = world.from_peer(1, b"");
    segment.flags |= FIN;
    world.receive(&segment);
    assert_eq!(world.report_ops(), [abi::kernel_ring::to_slow::FIN_RECEIVED]);
}

/// What the slow path needs for keepalive and zero-window probes of a peer without timestamps.
#[test]
fn an_answer_to_a_probe_leaves_a_trace() {
    let heard = |world: &World| world.hot(1).flags.load(Relaxed) & hot_flags::HEARD != 0;
    let mut world = World::connected();
    assert!(!heard(&world));
    let answer = world.from_peer(1, b"");
    let mut probe = answer.clone();
    probe.seq -= 1;
    for segment in [answer, probe] {
        world.receive(&segment);
        assert!(heard(&world), "{segment:?}");
        assert_eq!(world.ask(to_fast::PROBE, 1, 0).len(), 1);
        assert!(!heard(&world));
    }
    // With a closed window and data outstanding too.
    world.write(1, b"data");
    let mut answer = world.from_peer(1, b"");
    answer.ack -= 4;
    world.receive(&answer);
    assert!(heard(&world));
}
