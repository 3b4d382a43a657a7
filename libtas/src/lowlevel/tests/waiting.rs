// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sleeping and waking, both ways.

use super::fake::World;
use abi::{context::ContextHeader, event::event_flags};
use ring::WakeFlag;
use std::{
    os::fd::AsFd,
    sync::{
        atomic::{AtomicUsize, Ordering::*},
        Arc,
    },
};

/// What the fast path does after a push.
fn wake_if_waiting(world: &World) -> bool {
    // SAFETY: made of atomics, mapped as long as the world.
    let header: &ContextHeader = unsafe { &ring::table(world.fast.region.start(), 1)[0] };
    let wake = WakeFlag::new(&header.waiting).take();
    if wake {
        crate::sys::eventfd_signal(world.channel.eventfds.lock().unwrap()[0].as_fd()).unwrap();
    }
    wake
}

#[test]
fn does_not_sleep_on_events_and_is_woken_by_later_ones() {
    let mut world = World::new(2, 64, 1);
    let _connection = world.open(5, 1 << 32);
    world.fast.receive(5, b"x");
    world.fast.announce(5, event_flags::RX);
    assert!(!world.context.prepare_wait());
    assert!(!wake_if_waiting(&world), "nobody waits");
    let mut events = [Default::default(); 4];
    assert_eq!(world.context.poll(&mut events), 1);
    assert!(world.context.prepare_wait());
    world.fast.receive(5, b"y");
    world.fast.announce(5, event_flags::RX);
    assert!(wake_if_waiting(&world));
    world.context.finish_wait();
    assert_eq!(world.context.poll(&mut events), 1);
    world.context.wait(Some(0)).unwrap();
}

#[test]
fn every_waiting_thread_is_woken() {
    let world = World::new(1, 64, 1);
    let awake = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (context, awake) = (world.context.clone(), awake.clone());
            std::thread::spawn(move || {
                context.wait(None).unwrap();
                awake.fetch_add(1, SeqCst);
            })
        })
        .collect();
    // Each thread sleeps, or finds the eventfd readable; either way one signal is enough, given
    // again because a thread that comes late starts a round of its own.
    while awake.load(SeqCst) < 4 {
        world.context.wake();
        std::thread::yield_now();
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_sleeping_core_is_woken_by_a_write() {
    let mut world = World::new(2, 64, 1);
    let (_socket, connection) = world.open(5, 1 << 32);
    connection.write(b"x");
    assert!(world.channel.core_wakes.lock().unwrap().is_empty());
    world.fast.status(1).waiting.store(1, SeqCst);
    connection.write(b"x");
    connection.finish();
    assert_eq!(*world.channel.core_wakes.lock().unwrap(), [1, 1]);
}

#[test]
fn with_no_fast_path_a_full_ring_does_not_keep_it_awake() {
    let mut world = World::new(1, 8, 1);
    let (_socket, connection) = world.open(5, 1 << 32);
    for _ in 0..9 {
        connection.write(b"x");
    }
    assert!(!world.context.prepare_wait());
    world.fast.clock().fastpath_epoch.store(1, SeqCst);
    assert!(world.context.prepare_wait());
    world.context.finish_wait();
}
