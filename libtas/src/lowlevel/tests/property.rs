// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random operations against a model: no byte is lost, changed or reordered, no chunk leaks, and
//! garbage in the shared memory does nothing worse than fail.

use super::fake::{World, TX_BUFFER_BYTES};
use crate::lowlevel::{event::Event, Close, Connection, Socket};
use abi::event::event_flags;
use std::collections::{BTreeMap, VecDeque};

/// Seeds of a run; TAS_TEST_SEED chooses one to replay.
fn seeds() -> Vec<u64> {
    match std::env::var("TAS_TEST_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (1..=8).collect(),
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
    fn bytes(&mut self, limit: u64) -> Vec<u8> {
        let len = 1 + self.below(limit);
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// One connection and what must be in flight.
struct Peer {
    socket: Socket,
    connection: Connection,
    to_read: VecDeque<u8>,
    to_send: VecDeque<u8>,
}

struct Model {
    world: World,
    peers: BTreeMap<u32, Peer>,
    closed: BTreeMap<u32, VecDeque<u8>>,
    next_id: u32,
    random: Random,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let entries = 8 << random.below(4);
        let world = World::new(1 + random.below(3) as u32, entries, 1 + random.below(2) as u32);
        Self { world, peers: BTreeMap::new(), closed: BTreeMap::new(), next_id: 0, random }
    }

    fn pick(&mut self) -> Option<u32> {
        let index = self.random.below(self.peers.len().max(1) as u64) as usize;
        self.peers.keys().nth(index).copied()
    }

    fn open(&mut self) {
        if self.peers.len() < 12 {
            let start = (1 << 32) + self.random.below(1 << 34);
            let (socket, connection) = self.world.open(self.next_id, start);
            let peer = Peer { socket, connection, to_read: VecDeque::new(), to_send: VecDeque::new() };
            self.peers.insert(self.next_id, peer);
            self.next_id += 1;
        }
    }

    fn write(&mut self, id: u32) {
        let data = self.random.bytes(20_000);
        let in_place = self.random.below(3) == 0;
        let peer = self.peers.get_mut(&id).unwrap();
        let taken = if in_place {
            let mut writable = peer.connection.writable(data.len());
            let len = writable.len();
            let mut done = 0;
            while done < len {
                let piece = writable.piece(done);
                let count = piece.len();
                piece.copy_from_slice(&data[done..done + count]);
                done += count;
            }
            let commit = len - self.random.below(len as u64 + 1) as usize / 2;
            writable.commit(commit);
            commit
        } else {
            peer.connection.write(&data)
        };
        peer.to_send.extend(&data[..taken]);
    }

    fn read(&mut self, id: u32) {
        let peer = self.peers.get_mut(&id).unwrap();
        let mut into = vec![0; 1 + self.random.below(9000) as usize];
        let count = peer.connection.read(&mut into);
        let expected: Vec<u8> = peer.to_read.drain(..count).collect();
        assert_eq!(into[..count], expected);
    }

    fn arrive(&mut self, id: u32) {
        let data = self.random.bytes(9000);
        let taken = self.world.fast.receive(id, &data);
        self.peers.get_mut(&id).unwrap().to_read.extend(&data[..taken]);
        self.world.fast.announce(id, event_flags::RX);
    }

    fn acknowledge(&mut self, id: u32) {
        self.world.fast.drain();
        let outstanding = self.world.fast.outstanding(id);
        let expected =
            self.peers.get_mut(&id).map(|peer| &mut peer.to_send).or_else(|| self.closed.get_mut(&id));
        let expected = expected.unwrap();
        // The ring may be full: then the rest is announced later, never something else.
        assert!(outstanding.len() <= expected.len());
        assert_eq!(outstanding, expected.iter().copied().take(outstanding.len()).collect::<Vec<_>>());
        let count = self.random.below(outstanding.len() as u64 + 1);
        expected.drain(..count as usize);
        self.world.fast.acknowledge(id, count);
    }

    fn close(&mut self, id: u32) {
        let peer = self.peers.remove(&id).unwrap();
        peer.connection.close(&peer.socket, Close::Finish);
        self.closed.insert(id, peer.to_send);
    }

    fn poll(&mut self) {
        let mut events = vec![Event::default(); 1 + self.random.below(40) as usize];
        let count = self.world.context.poll(&mut events);
        for event in &events[..count] {
            assert!((1000..1000 + u64::from(self.next_id)).contains(&event.token));
            assert_eq!(event.error, 0);
        }
    }

    fn step(&mut self) {
        let action = self.random.below(100);
        match (action, self.pick()) {
            (0..5, _) | (_, None) => self.open(),
            (5..30, Some(id)) => self.write(id),
            (30..50, Some(id)) => self.read(id),
            (50..70, Some(id)) => self.arrive(id),
            (70..84, Some(id)) => self.acknowledge(id),
            (84..86, Some(id)) => self.close(id),
            _ => self.poll(),
        }
    }

    /// Everything is delivered and closed: nothing may be left.
    fn finish(mut self) {
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            self.close(id);
        }
        // Each round empties at least a ring or a buffer.
        for _ in 0..200 {
            self.poll();
            self.world.fast.drain();
            for id in self.closed.keys().copied().collect::<Vec<_>>() {
                self.acknowledge(id);
                let rest = self.world.fast.outstanding(id).len() as u64;
                assert!(rest <= u64::from(TX_BUFFER_BYTES));
                self.closed.get_mut(&id).unwrap().drain(..rest as usize);
                self.world.fast.acknowledge(id, rest);
                if self.closed[&id].is_empty() && self.world.fast.flows[&id].fin {
                    self.closed.remove(&id);
                }
                self.poll();
            }
        }
        for _ in 0..200 {
            self.poll();
        }
        assert!(self.closed.is_empty(), "data was never announced");
        assert_eq!(self.world.context.statistics(), (0, 0));
        self.world.context.lock().settled = usize::MAX / 2;
        self.world.context.flush_cache();
        let (all, free) = self.world.application.transmit_chunks();
        assert_eq!(all, free, "chunks leaked");
    }
}

#[test]
fn random_traffic_arrives_and_leaks_nothing() {
    for seed in seeds() {
        println!("seed {seed}");
        let mut model = Model::new(seed);
        for _ in 0..3000 {
            model.step();
        }
        model.finish();
    }
}

#[test]
fn garbage_in_the_rings_and_maps_is_survived() {
    for seed in seeds() {
        println!("seed {seed}");
        let mut model = Model::new(seed);
        for _ in 0..200 {
            model.open();
        }
        for _ in 0..100 {
            let random = &mut model.random;
            model.world.fast.scribble(|| random.next() as u8);
            let ids: Vec<u32> = model.peers.keys().copied().collect();
            for id in ids {
                for entry in model.world.fast.record(id) {
                    entry.store(model.random.next() as u32, std::sync::atomic::Ordering::SeqCst);
                }
                let peer = &model.peers[&id];
                peer.connection.read(&mut [0; 500]);
                peer.connection.write(&[1; 500]);
            }
            let mut events = [Event::default(); 64];
            model.world.context.poll(&mut events);
            if model.world.context.prepare_wait() {
                model.world.context.finish_wait();
            }
        }
        let (all, free) = model.world.application.transmit_chunks();
        assert!(free <= all);
    }
}
