// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames with a tag of IEEE 802.1Q.

use super::World;
use crate::testing::*;
use abi::{core_status::Counter, kernel_ring::reason};
use std::sync::atomic::Ordering::Relaxed;

/// `frame` with a tag.
fn tagged(frame: &[u8], word: u16) -> Vec<u8> {
    let [high, low] = word.to_be_bytes();
    [&frame[..12], &[0x81, 0, high, low], &frame[12..]].concat()
}

#[test]
fn a_priority_tag_changes_nothing() {
    let mut world = World::connected();
    for (number, priority) in [0u16, 0x2000, 0xf000].into_iter().enumerate() {
        let segment = world.from_peer(1, b"priority");
        world.receive_frame(tagged(&segment.encode(), priority));
        let received = RCV_START + 8 * (number as u64 + 1);
        assert_eq!(world.hot(1).rcv_nxt.load(Relaxed), received, "{priority:#x}");
    }
    assert_eq!(world.after(100).len(), 1, "and is acknowledged");
    // Whom it concerns gets it without the tag, too.
    let mut arp = vec![0xff; 60];
    arp[12..14].copy_from_slice(&[8, 6]);
    world.receive_frame(tagged(&arp, 0xe000));
    let reports = world.reports();
    assert_eq!((reports.len(), reports[0].0.reason), (1, reason::NOT_TCP));
    assert_eq!(reports[0].1, arp);
    assert_eq!(world.counter(Counter::OtherVlan), 0);
}

#[test]
fn frames_of_a_vlan_are_dropped_and_counted() {
    let mut world = World::connected();
    let frame = world.from_peer(1, b"other").encode();
    for word in [1, 0xe007, 0x0fff] {
        assert!(world.receive_frame(tagged(&frame, word)).is_empty());
    }
    assert_eq!((world.counter(Counter::OtherVlan), world.hot(1).rcv_nxt.load(Relaxed)), (3, RCV_START));
    // A tag within a tag: neither taken nor looked into for ever.
    let nested = (0..300).fold(frame, |frame, _| tagged(&frame, 0));
    assert!(world.receive_frame(nested).is_empty());
    // Cut off within the tag, and just behind it.
    for bytes in 12..18 {
        world.receive_frame([&[2; 12][..], &[0x81, 0, 0, 0, 8, 0][..bytes - 12]].concat());
    }
    assert!(world.reports().is_empty());
    assert_eq!(world.hot(1).rcv_nxt.load(Relaxed), RCV_START);
    assert_eq!(world.core.port_mut().live(), 0, "no packet is kept");
}
