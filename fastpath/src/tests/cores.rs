// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames that reach the wrong core.

use super::World;
use crate::testing::*;
use crate::{Batch, Config, Core, Shared, Steer};
use abi::{core_status::Counter, kernel_ring::to_slow};
use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    sync::{atomic::Ordering::Relaxed, Arc},
};

type Queues = Rc<RefCell<Vec<VecDeque<MemoryPacket>>>>;

struct TestSteer {
    me: usize,
    queues: Queues,
    bound: usize,
}

impl Steer<MemoryPacket> for TestSteer {
    fn offer(&mut self, core: usize, packet: MemoryPacket) -> Result<(), MemoryPacket> {
        let queue = &mut self.queues.borrow_mut()[core];
        if queue.len() == self.bound {
            return Err(packet);
        }
        queue.push_back(packet);
        Ok(())
    }
    fn take(&mut self, into: &mut Batch<MemoryPacket>, limit: usize) -> usize {
        let queue = &mut self.queues.borrow_mut()[self.me];
        let before = into.len();
        while into.len() < limit {
            let Some(packet) = queue.pop_front() else {
                break;
            };
            assert!(into.push(packet).is_ok());
        }
        into.len() - before
    }
    fn is_ready(&self) -> bool {
        !self.queues.borrow()[self.me].is_empty()
    }
}

struct Cores {
    world: World,
    cores: Vec<Core<'static, MemoryPort, TestSteer>>,
    memories: Vec<crate::CoreMemory<'static>>,
    queues: Queues,
}

/// Two cores beside the world's own, on its tables. Flow 1 is on core 1.
fn cores(spread: bool) -> Cores {
    let mut world = World::new();
    let queues: Queues = Rc::new(RefCell::new(vec![VecDeque::new(), VecDeque::new()]));
    let shared = Arc::new(Shared::new(&world.tables));
    world.prepare(1);
    world.tables.cold[1].core.store(1, Relaxed);
    world.tables.cold[1].owner.store(abi::flow::owner(APPLICATION, abi::flow::CONTEXT_NONE), Relaxed);
    let mut memories = Vec::new();
    let mut cores = Vec::new();
    for core in 0..2 {
        let memory = core_memory(abi::limits::ETHERNET_MTU);
        let mut port = MemoryPort::default();
        port.capabilities.steer_in_software = spread;
        let steer = TestSteer { me: core, queues: queues.clone(), bound: 3 };
        let config = Config { core: core as u32, cores: 2, mac: LOCAL_MAC, ..Config::default() };
        cores.push(Core::new(config, world.tables, memory, shared.clone(), port, steer, START_US).unwrap());
        memories.push(memory);
    }
    Cores { world, cores, memories, queues }
}

fn counter(cores: &Cores, core: usize, counter: Counter) -> u64 {
    cores.memories[core].status.counters[counter as usize].load(Relaxed)
}

#[test]
fn a_frame_is_handed_to_the_core_that_owns_its_flow() {
    let mut cores = cores(false);
    let mut segment = cores.world.from_peer(1, b"");
    segment.flags |= FIN;
    cores.cores[0].port_mut().incoming.push_back(segment.encode());
    cores.cores[0].poll(START_US);
    assert_eq!(counter(&cores, 0, Counter::Steered), 1);
    assert_eq!(cores.queues.borrow()[1].len(), 1);
    assert!(!cores.cores[1].prepare_sleep());
    cores.cores[1].poll(START_US);
    assert_eq!(cores.world.hot(1).rcv_nxt.load(Relaxed), RCV_START + 1);
    assert_eq!(cores.cores[1].port_mut().outgoing.len(), 1);
}

#[test]
fn a_full_queue_drops_and_a_wrong_hint_goes_to_the_slow_path() {
    let mut cores = cores(false);
    let frame = cores.world.from_peer(1, b"").encode();
    for _ in 0..5 {
        cores.cores[0].port_mut().incoming.push_back(frame.clone());
    }
    cores.cores[0].poll(START_US);
    assert_eq!((counter(&cores, 0, Counter::Steered), counter(&cores, 0, Counter::NoBuffer)), (3, 2));
    // The flow goes away; what is still in the queue finds none and is not sent round again.
    let mut to_fast: ring::Producer<'_, 2> = ring::Producer::attach(cores.memories[1].to_fast, 1024).unwrap();
    to_fast.push(
        abi::kernel_ring::KernelEntry { op: abi::kernel_ring::to_fast::REMOVE, reason: 0, flow: 1, value: 0 }
            .encode(),
    );
    cores.cores[1].poll(START_US);
    cores.cores[0].port_mut().incoming.push_back(frame);
    cores.cores[0].poll(START_US);
    cores.cores[1].poll(START_US);
    let mut to_slow: ring::Consumer<'_, 2> = ring::Consumer::attach(cores.memories[1].to_slow, 1024).unwrap();
    let mut ops = Vec::new();
    while let Some(words) = to_slow.pop() {
        ops.push(abi::kernel_ring::KernelEntry::decode(words).op);
    }
    assert!(ops.contains(&to_slow::REMOVED) && ops.contains(&to_slow::PACKET), "{ops:?}");
    assert_eq!(cores.queues.borrow()[0].len(), 0);
}

#[test]
fn a_port_with_one_queue_spreads_new_flows_by_hash() {
    let mut cores = cores(true);
    for port in 0..64u16 {
        let mut segment = cores.world.from_peer(2, b"");
        segment.source_port = 50_000 + port;
        segment.flags = SYN;
        cores.cores[0].port_mut().incoming.push_back(segment.encode());
        cores.cores[0].poll(START_US);
        cores.cores[1].poll(START_US);
    }
    let (here, there) = (counter(&cores, 0, Counter::ToSlowpath), counter(&cores, 1, Counter::ToSlowpath));
    assert_eq!(here + there, 64);
    assert!(here >= 16 && there >= 16, "{here} and {there}");
}

#[test]
fn a_core_writes_no_other_cores_flow() {
    let mut cores = cores(false);
    let memory = cores.world.context;
    cores.cores[0]
        .command(crate::Command::AddContext { context: CONTEXT, application: APPLICATION, memory })
        .unwrap();
    cores.world.tables.cold[1].owner.store(abi::flow::owner(APPLICATION, CONTEXT), Relaxed);
    cores.world.hot(1).owner.store(abi::flow::owner(APPLICATION, CONTEXT), Relaxed);
    let event = abi::event::FlowEvent {
        flow: 1,
        flags: abi::event::event_flags::TX,
        generation: 5,
        rx: 0,
        tx: SND_START + 9,
        ..abi::event::FlowEvent::default()
    };
    assert!(cores.world.to_core.push(event.encode()));
    cores.cores[0].poll(START_US);
    assert_eq!(cores.world.hot(1).snd_end.load(Relaxed), SND_START);
    assert_eq!(counter(&cores, 0, Counter::RefusedEntries), 1);
}
