// SPDX-License-Identifier: MIT OR Apache-2.0
//! Small segments held back for what the application will write soon (TCP_CORK, MSG_MORE), and its leaving.

use super::World;
use crate::testing::*;
use abi::{
    event::{event_flags, FlowEvent},
    flow::hot_flags,
    kernel_ring::to_fast,
};
use std::sync::atomic::Ordering::Relaxed;

/// Writes, with `flags` beside TX.
fn write(world: &mut World, bytes: &[u8], flags: u16) -> Vec<usize> {
    let tx = world.place(1, bytes);
    let event =
        FlowEvent { flow: 1, flags: event_flags::TX | flags, generation: 5, tx, ..FlowEvent::default() };
    let sent = world.application(event);
    sent.into_iter().chain(world.poll()).map(|segment| segment.payload.len()).collect()
}

#[test]
fn full_segments_leave_and_the_rest_waits_for_more() {
    let mut world = World::connected();
    assert_eq!(write(&mut world, &[1; 100], event_flags::MORE), [0; 0]);
    assert_eq!(write(&mut world, &[2; 1500], event_flags::MORE), [MSS]);
    assert_eq!(world.receive(&world.from_peer(1, b"")).len(), 0, "no acknowledgement releases it");
    assert_eq!(write(&mut world, &[3; 8], 0), [1608 - MSS]);
    assert_eq!(write(&mut world, &[], event_flags::MORE), [0; 0]);
}

#[test]
fn an_entry_without_news_releases_what_waits() {
    let mut world = World::connected();
    assert_eq!(write(&mut world, &[1; 100], event_flags::MORE), [0; 0]);
    assert_eq!(write(&mut world, &[], 0), [100]);
}

/// Everything is acknowledged, and `window` offered. Returns the bytes of the segments that this lets go.
fn offer(world: &mut World, window: u16) -> Vec<usize> {
    let segment = TestSegment { window, ..world.from_peer(1, b"") };
    let sent = world.receive(&segment);
    sent.into_iter().chain(world.poll()).map(|segment| segment.payload.len()).collect()
}

#[test]
fn a_window_smaller_than_a_segment_does_not_wait_for_more() {
    let mut world = World::connected();
    assert_eq!(offer(&mut world, 500), [0; 0]);
    assert_eq!(write(&mut world, &[1; 1200], event_flags::MORE), [500]);
    assert_eq!(offer(&mut world, 500), [500]);
    assert_eq!(offer(&mut world, 500), [0; 0], "the end of it waits");
    assert_eq!(world.after(200_000)[0].payload.len(), 200);
}

#[test]
fn the_end_of_much_waits_no_longer_than_200_ms_either() {
    let mut world = World::connected();
    assert_eq!(offer(&mut world, 1000), [0; 0]);
    assert_eq!(write(&mut world, &[1; 2100], event_flags::MORE), [1000]);
    // The time passes while nothing is acknowledged.
    assert!(world.after(200_000).is_empty());
    assert_eq!(offer(&mut world, 1000), [1000]);
    assert_eq!(offer(&mut world, 1000), [0; 0]);
    assert_eq!(world.after(200_000)[0].payload.len(), 100);
}

#[test]
fn nothing_waits_longer_than_200_ms() {
    let mut world = World::connected();
    assert_eq!(write(&mut world, &[1; 100], event_flags::MORE), [0; 0]);
    let due = world.core.next_deadline_us().unwrap();
    assert_eq!(due, world.now_us + 200_000);
    assert!(world.after(199_999).is_empty());
    assert_eq!(world.after(1).len(), 1);
    assert_eq!(world.core.next_deadline_us(), None);
    // What comes after it waits anew.
    assert_eq!(write(&mut world, &[2; 10], event_flags::MORE), [0; 0]);
    assert!(world.after(199_999).is_empty());
    assert_eq!(world.after(1)[0].payload, [2; 10]);
    // Nothing waits: nothing leaves, and the next small segment is no hurry either.
    assert_eq!(write(&mut world, &[], event_flags::MORE), [0; 0]);
    assert!(world.after(200_000).is_empty());
    assert_eq!(write(&mut world, &[3; 10], event_flags::MORE), [0; 0]);
}

#[test]
fn a_fin_takes_along_what_waits() {
    let mut world = World::connected();
    assert_eq!(write(&mut world, &[1; 100], event_flags::MORE), [0; 0]);
    let sent = world.finish(1);
    assert_eq!((sent.len(), sent[0].payload.len(), sent[0].flags & FIN), (1, 100, FIN));
}

#[test]
fn a_reused_slot_holds_nothing_back() {
    let mut world = World::connected();
    write(&mut world, &[1; 100], event_flags::MORE);
    world.ask(to_fast::REMOVE, 1, 0);
    world.install(1);
    assert_eq!(world.write(1, &[2; 10]).len(), 1);
    assert!(world.after(200_000).is_empty());
}

#[test]
fn the_slow_path_sees_that_the_application_left() {
    let mut world = World::connected();
    assert_eq!(write(&mut world, &[1; 100], event_flags::FIN | event_flags::CLOSED), [100]);
    assert_ne!(world.hot(1).flags.load(Relaxed) & hot_flags::ABANDONED, 0);
}
