// SPDX-License-Identifier: MIT OR Apache-2.0
//! Entries of applications: honest, stale and garbage; full rings; wake-ups.

use super::{Random, World};
use crate::testing::*;
use crate::Command;
use abi::{
    core_status::Counter,
    event::{event_flags, FlowEvent},
    flow::{hot_flags, owner},
    kernel_ring::{to_fast, to_slow, KernelEntry},
    pool::BUFFER_BYTES_MAX,
};
use std::sync::atomic::Ordering::Relaxed;

const BOTH: u16 = event_flags::RX | event_flags::TX;

fn positions(world: &World, flow: u32) -> [u64; 6] {
    let hot = world.hot(flow);
    [&hot.rcv_nxt, &hot.rcv_read, &hot.snd_una, &hot.snd_nxt, &hot.snd_end, &hot.snd_max]
        .map(|word| word.load(Relaxed))
}

#[test]
fn entries_for_foreign_flows_are_refused() {
    let mut world = World::connected();
    world.install(2);
    world.tables.cold[2].owner.store(owner(APPLICATION + 1, CONTEXT + 1), Relaxed);
    world.ask(to_fast::UPDATE, 2, 0);
    world.reports();
    let before = positions(&world, 2);
    for (flow, generation, fault) in
        [(2, 5, true), (8, 5, true), (u32::MAX, 5, true), (1, 4, false), (3, 0, false)]
    {
        world.application(FlowEvent {
            flow,
            flags: BOTH | event_flags::FIN,
            generation,
            rx: RCV_START,
            tx: SND_START + 10,
            ..FlowEvent::default()
        });
        let reports = world.reports();
        assert_eq!(reports.len(), usize::from(fault), "flow {flow} generation {generation}");
        if fault {
            assert_eq!((reports[0].0.op, reports[0].0.value), (to_slow::FAULT, u64::from(CONTEXT)));
        }
    }
    assert_eq!(positions(&world, 2), before);
    assert_eq!(world.counter(Counter::RefusedEntries), 5);
    assert_eq!(world.hot(1).flags.load(Relaxed) & hot_flags::FIN_QUEUED, 0);
}

#[test]
fn another_context_of_the_application_may_speak_for_a_flow() {
    // Accepted or moved: the application writes before the core has seen the new owner.
    for context in [CONTEXT + 1, abi::flow::CONTEXT_NONE] {
        let mut world = World::connected();
        world.tables.cold[1].owner.store(owner(APPLICATION, context), Relaxed);
        world.ask(to_fast::UPDATE, 1, 0);
        world.application(FlowEvent {
            flow: 1,
            flags: event_flags::FIN,
            generation: 5,
            ..FlowEvent::default()
        });
        assert_eq!(world.counter(Counter::RefusedEntries), 0);
        assert_ne!(world.hot(1).flags.load(Relaxed) & hot_flags::FIN_QUEUED, 0);
    }
}

#[test]
fn an_entry_that_overtakes_install_is_not_lost() {
    let mut world = World::new();
    world.prepare(1);
    // Both come while the core is between the slow path's ring and the application's.
    assert!(world.to_fast.push(KernelEntry { op: to_fast::INSTALL, reason: 0, flow: 1, value: 0 }.encode()));
    world.application(FlowEvent { flow: 1, flags: event_flags::FIN, generation: 5, ..FlowEvent::default() });
    assert_eq!(world.counter(Counter::RefusedEntries), 0);
    assert_ne!(world.hot(1).flags.load(Relaxed) & hot_flags::FIN_QUEUED, 0);
}

#[test]
fn positions_are_bounded_and_repetition_is_harmless() {
    let mut world = World::connected();
    world.receive(&world.from_peer(1, b"0123456789"));
    for (rx, fine) in [
        (RCV_START + 11, false),
        (u64::MAX, false),
        (RCV_START + 4, true),
        (RCV_START + 4, true),
        (RCV_START, true),
        (0, true),
    ] {
        let refused = world.counter(Counter::RefusedEntries);
        world.read_to(1, rx);
        assert_eq!(world.counter(Counter::RefusedEntries) == refused, fine, "{rx:#x}");
    }
    assert_eq!(world.hot(1).rcv_read.load(Relaxed), RCV_START + 4, "never back");
    let limit = SND_START + u64::from(BUFFER_BYTES_MAX);
    for (tx, fine) in [(limit + 1, false), (u64::MAX, false), (0, true), (SND_START, true)] {
        let refused = world.counter(Counter::RefusedEntries);
        world.application(FlowEvent {
            flow: 1,
            flags: event_flags::TX,
            generation: 5,
            rx: 0,
            tx,
            ..FlowEvent::default()
        });
        assert_eq!(world.counter(Counter::RefusedEntries) == refused, fine, "{tx:#x}");
    }
    assert_eq!(world.hot(1).snd_end.load(Relaxed), SND_START);
    // Announced, within the bound, but never put into the map: nothing leaves, the application is at fault.
    world.reports();
    let sent = world.application(FlowEvent {
        flow: 1,
        flags: event_flags::TX,
        generation: 5,
        rx: 0,
        tx: limit,
        ..FlowEvent::default()
    });
    assert!(sent.is_empty());
    assert!(world.report_ops().contains(&to_slow::FAULT));
    assert!(world.core.may_sleep(), "and it costs nothing further");
}

/// Garbage in all words of the ring, the maps and the payload while another application's flow is under traffic.
#[test]
fn garbage_harms_its_writer_only() {
    for seed in 1..=30u64 {
        let mut random = Random::new(seed);
        let mut world = World::with(4, crate::Config::default());
        world.install(1);
        world.install(2);
        // Flow 2 belongs to another application that has no memory here.
        world.tables.cold[2].owner.store(owner(APPLICATION + 1, CONTEXT + 1), Relaxed);
        world.ask(to_fast::UPDATE, 2, 0);
        let other = positions(&world, 2);
        let hot = world.hot(1);
        for step in 0..300 {
            let mut words = [random.next(), random.next(), random.next(), random.next()];
            match random.below(3) {
                0 => {}
                1 => words = [1 | 7 << 32, random.next(), random.next(), 5],
                _ => {
                    words = FlowEvent {
                        flow: random.below(4) as u32,
                        flags: random.below(64) as u16 & !event_flags::FIN,
                        generation: 5,
                        rx: hot.rcv_read.load(Relaxed) + random.below(3000),
                        tx: hot.snd_end.load(Relaxed) + random.below(300_000),
                        urgent: random.next() as u32,
                        urgent_byte: random.next() as u8,
                    }
                    .encode();
                }
            }
            world.to_core.push(words);
            for _ in 0..4 {
                let word = &world.maps[random.below(512) as usize];
                word.store(
                    if random.below(2) == 0 { random.below(600) as u32 } else { random.next() as u32 },
                    Relaxed,
                );
            }
            let segment = world.from_peer(1, &vec![1; random.below(1428) as usize]);
            world.core.port_mut().incoming.push_back(segment.encode());
            world.after(random.below(200));
            world.reports();
            world.events();
            assert_eq!(positions(&world, 2), other, "seed {seed} step {step}");
            let [rcv_nxt, rcv_read, snd_una, snd_nxt, snd_end, snd_max] = positions(&world, 1);
            assert!(
                rcv_read <= rcv_nxt && rcv_nxt - rcv_read <= u64::from(BUFFER_BYTES_MAX),
                "seed {seed} step {step}"
            );
            assert!(
                snd_una <= snd_nxt && snd_nxt <= snd_max && snd_max <= snd_end + 1,
                "seed {seed} step {step}"
            );
            assert!(snd_end - snd_una <= u64::from(BUFFER_BYTES_MAX), "seed {seed} step {step}");
        }
        // Forged chunk numbers do not make the free list grow beyond what there is.
        assert!(world.core.shared.free_chunks(APPLICATION) <= 256);
        world.core.port_mut().outgoing.clear();
        assert!(world.core.port_mut().live() <= crate::BATCH_MAX);
    }
}

#[test]
fn events_of_a_batch_are_one() {
    let mut world = World::connected();
    world.write(1, b"reply");
    world.events();
    for n in 0..5u64 {
        let mut segment = world.from_peer(1, b"12");
        segment.seq += 2 * n as u32;
        world.core.port_mut().incoming.push_back(segment.encode());
    }
    world.poll();
    let events = world.events();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].rx, events[0].tx), (RCV_START + 10, SND_START + 5));
}

#[test]
fn a_full_ring_keeps_events_pending_and_loses_none() {
    let mut world = World::with(128, crate::Config::default());
    let flows = 1..=100u32;
    for flow in flows.clone() {
        world.prepare(flow);
        world.ask(to_fast::INSTALL, flow, 0);
        if flow % 32 == 0 {
            world.events();
        }
    }
    world.events();
    world.poll();
    world.events();
    for flow in flows.clone() {
        world.receive(&world.from_peer(flow, b"data"));
    }
    assert!(world.counter(Counter::ContextRingFull) >= 36);
    let pending = flows
        .clone()
        .filter(|flow| world.hot(*flow).flags.load(Relaxed) & hot_flags::EVENT_PENDING != 0)
        .count();
    assert_eq!(pending, 36);
    assert!(world.core.may_sleep(), "a ring that nobody reads costs nothing");
    world.after(100);
    assert_eq!(world.core.next_deadline_us(), Some(world.now_us + 1000));
    let mut seen: Vec<u32> = world.events().iter().map(|event| event.flow).collect();
    assert_eq!(seen.len(), 64);
    world.poll();
    seen.extend(world.events().iter().map(|event| event.flow));
    seen.sort_unstable();
    assert_eq!(seen, flows.clone().collect::<Vec<_>>());
    assert!(flows.clone().all(|flow| world.hot(flow).flags.load(Relaxed) & hot_flags::EVENT_PENDING == 0));
}

#[test]
fn a_sleeping_application_is_woken_once() {
    let mut world = World::connected();
    let mut wakes = Vec::new();
    world.receive(&world.from_peer(1, b"a"));
    world.core.drain_wakes(|id| wakes.push(id));
    assert!(wakes.is_empty(), "it is awake");
    world.context.waiting.store(1, Relaxed);
    world.receive(&world.from_peer(1, b"b"));
    world.receive(&world.from_peer(1, b"c"));
    world.core.drain_wakes(|id| wakes.push(id));
    assert_eq!(wakes, [CONTEXT]);
    assert_eq!(world.context.waiting.load(Relaxed), 0);
    assert_eq!(world.counter(Counter::Wakes), 1);
}

#[test]
fn accept_announces_what_arrived_before() {
    let mut world = World::new();
    world.prepare(1);
    world.tables.cold[1].owner.store(owner(APPLICATION, abi::flow::CONTEXT_NONE), Relaxed);
    world.ask(to_fast::INSTALL, 1, 0);
    world.receive(&world.from_peer(1, b"early"));
    assert!(world.events().is_empty());
    world.tables.cold[1].owner.store(owner(APPLICATION, CONTEXT), Relaxed);
    world.ask(to_fast::UPDATE, 1, 0);
    let events = world.events();
    assert_eq!((events.len(), events[0].rx), (1, RCV_START + 5));
    assert_eq!(world.received(1, RCV_START, RCV_START + 5), b"early");
}

#[test]
fn a_removed_context_is_not_touched_and_a_late_one_is_told() {
    let mut world = World::connected();
    world.core.command(Command::RemoveContext { context: CONTEXT }).unwrap();
    world.receive(&world.from_peer(1, b"data"));
    assert!(world.write(1, b"ignored").is_empty());
    assert!(world.events().is_empty());
    let memory = world.context;
    world.core.command(Command::AddContext { context: CONTEXT, application: APPLICATION, memory }).unwrap();
    world.poll();
    let events = world.events();
    assert_eq!((events.len(), events[0].rx), (1, RCV_START + 4));
}

#[test]
fn commands_with_bad_ids_are_errors() {
    let mut world = World::new();
    let (memory, pool, maps) = (world.context, world.pool, world.maps);
    let short = crate::ContextMemory { to_fast: &memory.to_fast[..10], ..memory };
    for command in [
        Command::AddContext { context: 4096, application: 1, memory },
        Command::AddContext { context: 9, application: 1, memory: short },
        Command::AddPoolSegment { application: 1024, segment: 0, bytes: pool },
        Command::AddPoolSegment { application: 1, segment: 512, bytes: pool },
        Command::AddMapSegment { application: 1, segment: 32, words: maps },
        Command::AddMapSegment { application: 1, segment: 0, words: &maps[..100] },
    ] {
        assert!(world.core.command(command).is_err());
    }
    world.core.command(Command::RemoveApplication { application: 1000 }).unwrap();
}

#[test]
fn a_full_ring_does_not_hold_up_a_flow_that_moves_or_a_context_that_is_replaced() {
    let mut world = World::with(128, crate::Config::default());
    for flow in 1..=70 {
        world.prepare(flow);
        world.ask(to_fast::INSTALL, flow, 0);
    }
    let full = world.context;
    // Flow 70's event is parked; it moves to another context.
    let other = crate::testing::context_memory();
    let mut from_other: ring::Consumer<'_, 4> =
        ring::Consumer::attach(other.to_application, CONTEXT_ENTRIES).unwrap();
    world
        .core
        .command(Command::AddContext { context: CONTEXT + 1, application: APPLICATION, memory: other })
        .unwrap();
    world.tables.cold[70].owner.store(owner(APPLICATION, CONTEXT + 1), Relaxed);
    world.ask(to_fast::UPDATE, 70, 0);
    let words = from_other.pop().expect("told at once");
    assert_eq!(FlowEvent::decode(words).flow, 70);
    // The full one goes and comes back: the rest is announced again.
    world.core.command(Command::RemoveContext { context: CONTEXT }).unwrap();
    world.poll();
    world.events();
    world
        .core
        .command(Command::AddContext { context: CONTEXT, application: APPLICATION, memory: full })
        .unwrap();
    world.poll();
    let mut flows = world.events();
    world.poll();
    flows.extend(world.events());
    let mut flows: Vec<u32> = flows.iter().map(|event| event.flow).collect();
    flows.sort_unstable();
    flows.dedup();
    assert!((65..=69).all(|flow| flows.contains(&flow)), "{flows:?}");
}
