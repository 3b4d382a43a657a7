// SPDX-License-Identifier: MIT OR Apache-2.0
//! Readers, writers, a poller and the fast path at once: a lost wake-up or a race shows as a hang or
//! as wrong bytes.

use super::fake::{FakeFast, World};
use crate::{
    lowlevel::{event, Connection, Context, Event},
    sys,
};
use abi::{context::ContextHeader, event::event_flags};
use ring::WakeFlag;
use std::{
    collections::HashSet,
    os::fd::{AsFd, OwnedFd},
    sync::{
        atomic::{AtomicBool, Ordering::*},
        Arc, Condvar, Mutex,
    },
    thread,
};

const CONNECTIONS: u32 = 3;
const BYTES: usize = 400_000;

/// What a thread waits for: events of its connection.
#[derive(Default)]
struct Bell {
    rung: Mutex<u16>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self, flags: u16) {
        *self.rung.lock().unwrap() |= flags;
        self.changed.notify_all();
    }
    /// Waits until one of `flags` was rung, and takes it.
    fn wait(&self, flags: u16) {
        let mut rung = self.rung.lock().unwrap();
        while *rung & flags == 0 {
            rung = self.changed.wait(rung).unwrap();
        }
        *rung &= !flags;
    }
}

struct Stream {
    connection: Connection,
    bell: Bell,
}

fn byte(index: usize) -> u8 {
    (index.wrapping_mul(0x9e37_79b1) >> 13) as u8
}

fn write_all(stream: &Stream) {
    let data: Vec<u8> = (0..BYTES).map(byte).collect();
    let mut sent = 0;
    while sent < BYTES {
        let count = stream.connection.write(&data[sent..BYTES.min(sent + 1 + sent % 30_000)]);
        sent += count;
        if count == 0 {
            stream.bell.wait(event::WRITABLE);
        }
    }
    stream.connection.finish();
}

fn read_all(stream: &Stream) {
    let (mut got, mut into) = (0, [0; 5000]);
    while got < BYTES {
        let count = stream.connection.read(&mut into);
        for (index, value) in into[..count].iter().enumerate() {
            assert_eq!(*value, byte(got + index), "at {}", got + index);
        }
        got += count;
        if count == 0 {
            stream.bell.wait(event::READABLE);
        }
    }
}

fn poll(context: &Context, streams: &[Stream], over: &AtomicBool) {
    let mut events = [Event::default(); 8];
    while !over.load(SeqCst) {
        let count = context.poll(&mut events);
        for event in &events[..count] {
            streams[event.token as usize - 1000].bell.ring(event.flags);
        }
        if count == 0 {
            context.wait(None).unwrap();
        }
    }
}

/// Sends back what it gets, until every connection has finished.
fn echo(mut fast: FakeFast, eventfd: &OwnedFd) {
    let mut owed = HashSet::new();
    let mut echoed = vec![0; CONNECTIONS as usize];
    while echoed.iter().any(|count| *count < BYTES) || !owed.is_empty() {
        fast.drain();
        for id in 0..CONNECTIONS {
            let bytes = fast.outstanding(id);
            let count = fast.receive(id, &bytes);
            fast.flows.get_mut(&id).unwrap().snd_una += count as u64;
            echoed[id as usize] += count;
            if count > 0 {
                owed.insert(id);
            }
        }
        owed.retain(|id| !fast.announce(*id, event_flags::RX | event_flags::TX));
        // SAFETY: made of atomics, mapped as long as `fast`.
        let header: &ContextHeader = unsafe { &ring::table(fast.region.start(), 1)[0] };
        if WakeFlag::new(&header.waiting).take() {
            sys::eventfd_signal(eventfd.as_fd()).unwrap();
        }
        thread::yield_now();
    }
}

#[test]
fn readers_writers_and_poller_at_once() {
    let mut world = World::new(1, 16, 1);
    let opened: Vec<_> = (0..CONNECTIONS).map(|id| world.open(id, (1 << 32) - 10_000)).collect();
    let (sockets, connections): (Vec<_>, Vec<_>) = opened.into_iter().unzip();
    let streams: Arc<Vec<Stream>> = Arc::new(
        connections.into_iter().map(|connection| Stream { connection, bell: Bell::default() }).collect(),
    );
    let World { fast, context, application, channel } = world;
    let over = AtomicBool::new(false);
    let eventfd = channel.eventfds.lock().unwrap().remove(0);
    thread::scope(|scope| {
        let poller = scope.spawn(|| poll(&context, &streams, &over));
        let others: Vec<_> = streams
            .iter()
            .flat_map(|stream| [scope.spawn(|| write_all(stream)), scope.spawn(|| read_all(stream))])
            .chain([scope.spawn(|| echo(fast, &eventfd))])
            .collect();
        others.into_iter().for_each(|thread| thread.join().unwrap());
        over.store(true, SeqCst);
        context.wake();
        poller.join().unwrap();
    });
    drop((streams, sockets));
    context.poll(&mut [Event::default(); 8]);
    context.flush_cache();
    let (all, free) = application.transmit_chunks();
    assert_eq!(all, free);
}
