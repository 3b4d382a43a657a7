// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sleeping, run time, the status page.

use super::World;
use crate::testing::*;
use abi::event::{event_flags, FlowEvent};
use std::sync::atomic::Ordering::Relaxed;

#[test]
fn sleep_is_announced_and_refused_if_anything_is_there() {
    let mut world = World::connected();
    world.poll();
    assert!(world.core.may_sleep());
    assert!(world.core.prepare_sleep());
    assert_eq!(world.memory.status.waiting.load(Relaxed), 1);
    world.core.finish_sleep(world.now_us);
    assert_eq!(world.memory.status.waiting.load(Relaxed), 0);
    // An entry that came before the flag was up.
    let tx = world.place(1, b"x");
    assert!(world.to_core.push(
        FlowEvent { flow: 1, flags: event_flags::TX, generation: 5, rx: 0, tx, ..FlowEvent::default() }
            .encode()
    ));
    assert!(!world.core.prepare_sleep());
    assert_eq!(world.memory.status.waiting.load(Relaxed), 0);
    world.poll();
    assert!(world.to_fast.push([0, 0]));
    assert!(!world.core.prepare_sleep());
}

#[test]
fn a_delayed_acknowledgement_bounds_the_sleep() {
    let mut world = World::connected();
    assert_eq!(world.core.next_deadline_us(), None);
    world.receive(&world.from_peer(1, b"x"));
    assert_eq!(world.core.next_deadline_us(), Some(world.now_us + 100));
    world.after(30);
    assert_eq!(world.core.next_deadline_us(), Some(world.now_us + 70));
    world.after(70);
    assert_eq!(world.core.next_deadline_us(), None);
}

#[test]
fn preemption_is_no_run_time_and_sleep_is() {
    let mut world = World::connected();
    let status = world.memory.status;
    let (run, loops) = (status.run_us.load(Relaxed), status.loops.load(Relaxed));
    world.after(400);
    world.after(1000);
    assert_eq!(status.run_us.load(Relaxed) - run, 1400);
    world.after(1001);
    world.after(5_000_000);
    assert_eq!(status.run_us.load(Relaxed) - run, 1400, "the core did not run");
    assert!(world.core.prepare_sleep());
    world.now_us += 70_000;
    world.core.finish_sleep(world.now_us);
    assert_eq!(status.run_us.load(Relaxed) - run, 71_400);
    assert_eq!(status.loops.load(Relaxed) - loops, 5);
    assert_eq!(status.now_us.load(Relaxed), world.now_us);
    assert_eq!(status.running.load(Relaxed), 1);
    world.core.stop();
    assert_eq!(status.running.load(Relaxed), 0);
}

#[test]
fn a_clock_that_goes_back_stands_still() {
    let mut world = World::connected();
    world.receive(&world.from_peer(1, b"x"));
    world.now_us -= 1_000_000;
    assert!(world.poll().is_empty());
    assert_eq!(world.memory.status.now_us.load(Relaxed), START_US);
    world.now_us += 1_000_100;
    assert_eq!(world.poll().len(), 1);
}
