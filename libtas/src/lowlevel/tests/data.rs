// SPDX-License-Identifier: MIT OR Apache-2.0
//! Bytes, positions, and what becomes of chunks.

use super::fake::{World, RX_BUFFER_BYTES, TX_BUFFER_BYTES};
use crate::lowlevel::{
    event::{self, Event},
    Close, Context, Socket,
};
use abi::{
    event::{event_flags, kernel_event, FlowEvent, KernelEvent},
    message::{Endpoint, Op},
    pool::{CHUNK_BYTES, MAP_ENTRIES},
};
use std::{io::IoSlice, sync::atomic::Ordering::*};

/// High half 1, as the slow path starts streams; the chunk's edge is 100 bytes away.
const START: u64 = (1 << 32) + CHUNK_BYTES as u64 * 7 - 100;

fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|index| (index as u8).wrapping_mul(31) ^ seed ^ (index >> 8) as u8).collect()
}

fn poll(context: &Context) -> Vec<Event> {
    let mut events = [Event::default(); 64];
    let count = context.poll(&mut events);
    events[..count].to_vec()
}

/// Chunks that are neither in the depot nor in the context's cache.
fn held_chunks(world: &World) -> usize {
    world.context.lock().settled = usize::MAX / 2;
    world.context.flush_cache();
    let (all, free) = world.application.transmit_chunks();
    all - free
}

#[test]
fn reads_across_chunk_borders_and_reports_what_was_read() {
    let mut world = World::new(1, 64, 1);
    let (_socket, connection) = world.open(5, START);
    let sent = pattern(10_000, 1);
    assert_eq!(world.fast.receive(5, &sent), 10_000);
    world.fast.announce(5, event_flags::RX);
    assert_eq!(poll(&world.context), [Event { token: 1005, flags: event::READABLE, error: 0 }]);
    assert_eq!(connection.readable_bytes(), 10_000);
    {
        let readable = connection.readable();
        let [first, second] = readable.slices();
        assert_eq!((first.len(), second.len()), (100, CHUNK_BYTES as usize));
        assert_eq!([first, second].concat(), sent[..100 + CHUNK_BYTES as usize]);
    }
    let mut peeked = [0; 300];
    assert_eq!(connection.peek(50, &mut peeked), 300);
    assert_eq!(peeked, sent[50..350]);
    let mut got = vec![0; 20_000];
    assert_eq!(connection.read(&mut got), 10_000);
    assert_eq!(got[..10_000], sent);
    // Nothing is announced before the next poll, then it is.
    world.fast.drain();
    assert_eq!(world.fast.flows[&5].rcv_read, START);
    poll(&world.context);
    world.fast.drain();
    assert_eq!(world.fast.flows[&5].rcv_read, START + 10_000);
}

/// What was told of TCP_CORK and of a close, in order.
#[test]
fn intentions_are_told_once() {
    let mut world = World::new(1, 64, 1);
    let (socket, connection) = world.open(5, START);
    let told = |world: &mut World| {
        world.fast.drain();
        world.fast.flows.get_mut(&5).map(|flow| std::mem::take(&mut flow.told)).unwrap()
    };
    const TX: u16 = event_flags::TX;
    connection.write(&[1; 10]);
    connection.hold(true);
    connection.write(&[2; 10]);
    connection.write(&[3; 10]);
    assert_eq!(told(&mut world), [TX, TX | event_flags::MORE, TX | event_flags::MORE]);
    connection.release();
    connection.release();
    assert_eq!(told(&mut world), [TX], "an end without news, once");
    connection.hold(true);
    connection.write(&[4; 10]);
    connection.hold(false);
    connection.write(&[5; 10]);
    assert_eq!(told(&mut world), [TX | event_flags::MORE, TX]);
    connection.finish();
    assert_eq!(told(&mut world), [TX | event_flags::FIN]);
    connection.close(&socket, Close::Finish);
    assert_eq!(told(&mut world), [event_flags::CLOSED], "while data is unacknowledged");
}

/// A read after its batch is over costs no entry of its own either.
#[test]
fn a_late_read_is_announced_by_the_next_poll() {
    let mut world = World::new(1, 64, 1);
    let (_socket, connection) = world.open(5, START);
    world.fast.receive(5, &[7; 128]);
    world.fast.announce(5, event_flags::RX);
    poll(&world.context);
    poll(&world.context);
    for read in [64, 128] {
        assert_eq!(connection.read(&mut [0; 64]), 64);
        world.fast.drain();
        assert_eq!(world.fast.flows[&5].rcv_read, START + read - 64);
        poll(&world.context);
        world.fast.drain();
        assert_eq!(world.fast.flows[&5].rcv_read, START + read);
    }
}

/// The peer may wait for this window, and the reader for something else.
#[test]
fn a_read_from_a_buffer_that_is_nearly_full_is_announced_at_once() {
    let mut world = World::new(1, 64, 1);
    let (_socket, connection) = world.open(5, START);
    world.fast.receive(5, &pattern(RX_BUFFER_BYTES as usize - 100, 1));
    world.fast.announce(5, event_flags::RX);
    poll(&world.context);
    connection.read(&mut [0; 64]);
    world.fast.drain();
    assert_eq!(world.fast.flows[&5].rcv_read, START + 64);
}

#[test]
fn a_reply_announces_what_was_read_in_the_same_event() {
    let mut world = World::new(1, 64, 1);
    let (_socket, connection) = world.open(5, START);
    world.fast.receive(5, &[7; 64]);
    world.fast.announce(5, event_flags::RX);
    poll(&world.context);
    let mut request = [0; 64];
    connection.read(&mut request);
    assert_eq!(connection.write(&request), 64);
    let words = world.fast.from_application[0].pop().unwrap();
    let event = FlowEvent::decode(words);
    assert_eq!(event.flags, event_flags::RX | event_flags::TX);
    assert_eq!((event.rx, event.tx), (START + 64, (START ^ 0x5555) + 64));
    assert!(world.fast.from_application[0].pop().is_none());
    poll(&world.context);
    assert!(world.fast.from_application[0].pop().is_none(), "told twice");
}

#[test]
fn a_quarter_of_the_buffer_is_reported_at_once() {
    let mut world = World::new(1, 64, 1);
    let (_socket, connection) = world.open(5, START);
    let quarter = RX_BUFFER_BYTES as usize / 4;
    world.fast.receive(5, &pattern(quarter, 0));
    world.fast.announce(5, event_flags::RX);
    poll(&world.context);
    connection.read(&mut vec![0; quarter]);
    world.fast.drain();
    assert_eq!(world.fast.flows[&5].rcv_read, START + quarter as u64);
}

#[test]
fn writes_in_every_way_and_frees_on_acknowledgement() {
    let mut world = World::new(1, 64, 1);
    let (_socket, connection) = world.open(5, START);
    let data = pattern(9_000, 3);
    assert_eq!(connection.write(&data[..10]), 10);
    assert_eq!(
        connection.write_vectored(&[
            IoSlice::new(&data[10..20]),
            IoSlice::new(&[]),
            IoSlice::new(&data[20..6000])
        ]),
        5990
    );
    let mut writable = connection.writable(3000);
    assert_eq!(writable.len(), 3000);
    let mut done = 0;
    while done < 3000 {
        let piece = writable.piece(done);
        let count = piece.len();
        piece.copy_from_slice(&data[6000 + done..6000 + done + count]);
        done += count;
    }
    writable.commit(3000);
    // Without a further call the fast path knows it all.
    world.fast.drain();
    assert_eq!(world.fast.outstanding(5), data);
    assert_eq!(connection.unacknowledged_bytes(), 9000);
    world.fast.acknowledge(5, 8999);
    poll(&world.context);
    assert_eq!(held_chunks(&world), 1);
    world.fast.acknowledge(5, 1);
    poll(&world.context);
    assert_eq!(held_chunks(&world), 0);
    // An unused reservation is given back too.
    drop(connection.writable(5000));
    assert_eq!(held_chunks(&world), 0);
}

#[test]
fn kept_memory_survives_an_acknowledgement() {
    let mut world = World::new(1, 64, 1);
    let (_socket, connection) = world.open(5, START);
    connection.write(b"first");
    let mut writable = connection.writable(6000);
    writable.piece(0)[..4].copy_from_slice(b"kept");
    writable.keep();
    world.fast.drain();
    world.fast.acknowledge(5, 5);
    poll(&world.context);
    assert_eq!(held_chunks(&world), 2 + usize::from(6005 > 4096 + 100 - 5));
    assert_eq!(connection.commit(4), 4);
    world.fast.drain();
    assert_eq!(world.fast.outstanding(5), b"kept");
    world.fast.acknowledge(5, 4);
    poll(&world.context);
    assert_eq!((held_chunks(&world), connection.commit(10)), (0, 0));
}

#[test]
fn a_full_buffer_is_refused_and_room_is_told_once() {
    let mut world = World::new(1, 64, 1);
    let (_socket, connection) = world.open(5, START);
    let data = pattern(100_000, 9);
    let buffer = TX_BUFFER_BYTES as usize;
    assert_eq!(connection.write(&data), buffer);
    assert_eq!((connection.write(&data), connection.writable_bytes()), (0, 0));
    world.fast.drain();
    assert_eq!(world.fast.outstanding(5), data[..buffer]);
    world.fast.acknowledge(5, 1000);
    assert_eq!(poll(&world.context), []);
    world.fast.acknowledge(5, u64::from(TX_BUFFER_BYTES) / 3);
    assert_eq!(poll(&world.context), [Event { token: 1005, flags: event::WRITABLE, error: 0 }]);
    world.fast.acknowledge(5, 100);
    assert_eq!(poll(&world.context), []);
}

#[test]
fn positions_pass_the_end_of_32_bits() {
    let mut world = World::new(1, 64, 1);
    let start = (1 << 33) - 300;
    let (_socket, connection) = world.open(5, start);
    let mut buffer = vec![0; 4096];
    for round in 0..400u32 {
        let data = pattern(1 + round as usize * 7, round as u8);
        assert_eq!(world.fast.receive(5, &data), data.len());
        world.fast.announce(5, event_flags::RX);
        poll(&world.context);
        assert_eq!(connection.read(&mut buffer), data.len());
        assert_eq!(buffer[..data.len()], data);
        assert_eq!(connection.write(&data), data.len());
        world.fast.drain();
        assert_eq!(world.fast.outstanding(5), data);
        world.fast.acknowledge(5, data.len() as u64);
    }
    poll(&world.context);
    assert!(world.fast.flows[&5].rcv_nxt > 1 << 33);
    assert_eq!(held_chunks(&world), 0);
}

#[test]
fn a_full_ring_takes_nothing_and_loses_nothing() {
    let mut world = World::new(1, 8, 1);
    let (_socket, connection) = world.open(5, START);
    let (_other_socket, other) = world.open(6, START);
    let taken = (0..20).map(|_| connection.write(b"x")).sum::<usize>();
    assert_eq!(taken, 8, "as many as the ring has entries");
    assert_eq!(other.write(b"y"), 0);
    other.finish();
    assert!(!world.context.prepare_wait(), "there is work while a ring is full");
    world.fast.drain();
    let events = poll(&world.context);
    assert!(events.iter().any(|event| event.token == 1005 && event.flags == event::WRITABLE), "{events:?}");
    assert!(events.iter().any(|event| event.token == 1006 && event.flags == event::WRITABLE), "{events:?}");
    world.fast.drain();
    assert!(world.fast.flows[&6].fin, "a FIN that found the ring full is sent later");
    assert_eq!(connection.write(b"zz"), 2);
    world.fast.drain();
    assert_eq!(world.fast.outstanding(5), b"xxxxxxxxzz");
    assert!(world.context.prepare_wait());
    world.context.finish_wait();
}

#[test]
fn finishes_after_the_data() {
    let mut world = World::new(1, 64, 1);
    let (socket, connection) = world.open(5, START);
    connection.write(b"bye");
    connection.finish();
    assert_eq!(connection.write(b"more"), 0);
    world.fast.drain();
    assert!(world.fast.flows[&5].fin);
    assert_eq!(world.fast.outstanding(5), b"bye");
    // The fast path counts the FIN as one position.
    let flow = world.fast.flows.get_mut(&5).unwrap();
    flow.snd_una = flow.snd_end + 1;
    world.fast.announce(5, event_flags::TX | event_flags::FIN_ACKED);
    assert_eq!(poll(&world.context), [Event { token: 1005, flags: event::FINISHED, error: 0 }]);
    assert!(connection.is_finish_acknowledged());
    world.fast.announce(5, event_flags::RX | event_flags::FIN);
    assert_eq!(poll(&world.context), [Event { token: 1005, flags: event::END_OF_STREAM, error: 0 }]);
    assert!(connection.has_peer_finished());
    connection.close(&socket, Close::Finish);
    assert_eq!(world.context.statistics(), (0, 0));
    assert_eq!(held_chunks(&world), 0);
}

#[test]
fn a_closed_connection_stays_until_its_data_is_acknowledged() {
    let mut world = World::new(1, 64, 1);
    let (socket, connection) = world.open(5, START);
    connection.write(&pattern(5000, 1));
    connection.close(&socket, Close::Finish);
    drop((connection, socket));
    world.fast.drain();
    assert!(world.fast.flows[&5].fin);
    assert_eq!(world.fast.outstanding(5), pattern(5000, 1));
    assert_eq!(world.context.statistics().0, 1);
    world.fast.acknowledge(5, 4999);
    assert_eq!(poll(&world.context), []);
    assert_eq!(world.context.statistics().0, 1);
    world.fast.acknowledge(5, 1);
    assert_eq!(poll(&world.context), []);
    assert_eq!(world.context.statistics().0, 0);
    assert_eq!(held_chunks(&world), 0);
}

#[test]
fn chunks_of_a_reset_connection_wait_for_the_core() {
    let mut world = World::new(1, 64, 1);
    let (socket, connection) = world.open(5, START);
    connection.write(&pattern(5000, 1));
    let reset = KernelEvent {
        kind: kernel_event::FAILED,
        error: libc::ECONNRESET as u32,
        socket: 1,
        flow: 5,
        opaque: 1005,
    };
    world.fast.tell(reset);
    let failed = Event { token: 1005, flags: event::FAILED, error: libc::ECONNRESET };
    assert_eq!(poll(&world.context), [failed]);
    assert_eq!((connection.error(), connection.write(b"x")), (libc::ECONNRESET, 0));
    connection.close(&socket, Close::Abort);
    poll(&world.context);
    assert_eq!(held_chunks(&world), 2, "the core may still send from them");
    world.fast.status(0).loops.fetch_add(10_000, SeqCst);
    poll(&world.context);
    assert_eq!(held_chunks(&world), 0);
}

#[test]
fn nonsense_is_refused_and_counted() {
    let mut world = World::new(1, 64, 1);
    let (_socket, connection) = world.open(5, START);
    connection.write(b"12345");
    let good = FlowEvent {
        flow: 5,
        flags: event_flags::RX,
        generation: 105,
        rx: START,
        tx: START ^ 0x5555,
        ..FlowEvent::default()
    };
    let far = u64::from(MAP_ENTRIES * CHUNK_BYTES);
    let nonsense = [
        FlowEvent { flow: 6, rx: START + 10, ..good },
        FlowEvent { flow: u32::MAX, ..good },
        FlowEvent { generation: 104, rx: START + 10, ..good },
        FlowEvent { rx: START + far, ..good },
        FlowEvent { rx: START - 10, ..good },
        FlowEvent { rx: u64::MAX, ..good },
        FlowEvent { flags: event_flags::TX, tx: (START ^ 0x5555) + 7, ..good },
        FlowEvent { flags: event_flags::TX, tx: (START ^ 0x5555) - 1, ..good },
        FlowEvent { flags: event_flags::TX | event_flags::FIN_ACKED, tx: 0, ..good },
    ];
    for event in nonsense {
        assert!(world.fast.to_application[0].push(event.encode()));
    }
    assert_eq!(poll(&world.context), []);
    assert_eq!((connection.readable_bytes(), connection.unacknowledged_bytes()), (0, 5));
    assert!(!connection.is_finish_acknowledged());
    // The rest is taken for late, as it lies behind (modulo 2^64) or names others.
    assert_eq!(world.context.statistics(), (1, 2));
    // Data without a chunk: the connection fails, nothing is read out of nowhere.
    world.fast.flows.get_mut(&5).unwrap().rcv_nxt += 10;
    world.fast.announce(5, event_flags::RX);
    poll(&world.context);
    world.fast.record(5)[0].store(u32::MAX, SeqCst);
    assert_eq!(connection.read(&mut [0; 10]), 0);
    assert_eq!(connection.error(), libc::EIO);
}

#[test]
fn events_that_come_before_accept_returns_are_not_lost() {
    let mut world = World::new(2, 64, 1);
    let socket = Socket::new(&world.context, 9, 0).unwrap();
    socket.connect(&world.context, &Endpoint::ipv4(0x0a00_0001, 80)).unwrap();
    // The server speaks first, and its bytes arrive before we asked for the flow.
    let info = World::info(7, START, 1);
    world.know(info);
    world.fast.receive(7, b"220 hello");
    world.fast.announce(7, event_flags::RX);
    world.fast.tell(KernelEvent { kind: kernel_event::CONNECTED, error: 0, socket: 0, flow: 7, opaque: 9 });
    assert_eq!(poll(&world.context), [Event { token: 9, flags: event::CONNECTED, error: 0 }]);
    world.channel.accepts.lock().unwrap().push_back(info);
    let connection = socket.established().unwrap();
    assert_eq!(connection.readable_bytes(), 9);
    assert_eq!(poll(&world.context), [Event { token: 9, flags: event::READABLE, error: 0 }]);
    assert!(socket.established().is_err());
    // With nothing expected, events of strangers are not kept.
    assert!(world.fast.to_application[0].push(FlowEvent { flow: 8, ..FlowEvent::default() }.encode()));
    poll(&world.context);
    assert!(world.context.lock().early.is_empty());
}

#[test]
fn a_connection_that_fails_before_accept_returns_knows_it() {
    let mut world = World::new(1, 64, 1);
    let listener = Socket::new(&world.context, 1, 0).unwrap();
    world.context.expect();
    let failed = KernelEvent {
        kind: kernel_event::FAILED,
        error: libc::ECONNRESET as u32,
        socket: 4,
        flow: 5,
        opaque: 1005,
    };
    world.fast.tell(failed);
    assert_eq!(poll(&world.context), [Event { token: 1005, flags: event::FAILED, error: libc::ECONNRESET }]);
    let (_socket, connection) = world.open(5, START);
    world.context.expect_no_more();
    assert_eq!((connection.error(), connection.write(b"x")), (libc::ECONNRESET, 0));
    assert!(listener.accept(&world.context, 2, 0).is_err());
}

#[test]
fn closing_with_a_full_ring_ends_when_the_ring_has_room() {
    let mut world = World::new(1, 8, 1);
    let (_busy_socket, busy) = world.open(4, START);
    let (socket, connection) = world.open(5, START);
    (0..8).for_each(|_| assert_eq!(busy.write(b"x"), 1));
    connection.close(&socket, Close::Finish);
    assert_eq!(world.context.statistics().0, 2);
    world.fast.drain();
    poll(&world.context);
    world.fast.drain();
    assert!(world.fast.flows[&5].fin);
    assert_eq!(world.context.statistics().0, 1);
}

#[test]
fn grows_when_the_pool_is_low_and_lives_at_its_limit() {
    let mut world = World::new(1, 1024, 2);
    let connections: Vec<_> = (0..40).map(|id| world.open(id, START)).collect();
    let data = pattern(TX_BUFFER_BYTES as usize, 5);
    let mut written = vec![0; 40];
    for (id, (_, connection)) in connections.iter().enumerate() {
        written[id] = connection.write(&data);
    }
    let grown = world.channel.calls.lock().unwrap().iter().filter(|op| **op == Op::Grow as u32).count();
    assert!(grown >= 2, "asked for more than the limit");
    assert_eq!(world.application.transmit_chunks().0, 512);
    let short = written.iter().position(|count| *count < data.len()).expect("the limit was not felt");
    assert_eq!(written[39], 0);
    world.fast.drain();
    for (id, count) in written.iter().enumerate() {
        assert_eq!(world.fast.outstanding(id as u32), data[..*count]);
    }
    // Memory that comes free is offered to those that found none.
    world.fast.acknowledge(0, data.len() as u64);
    poll(&world.context);
    let woken: Vec<u64> =
        poll(&world.context).iter().filter(|e| e.flags == event::WRITABLE).map(|e| e.token).collect();
    assert!(woken.contains(&(1000 + short as u64)) && woken.contains(&1039), "{woken:?}");
    assert!(connections[39].1.write(&data) > 0);
}

#[test]
fn a_fast_path_that_comes_back_is_told_everything_again() {
    let mut world = World::new(1, 64, 1);
    let (_socket, connection) = world.open(5, START);
    connection.write(b"once");
    connection.finish();
    while world.fast.from_application[0].pop().is_some() {}
    world.fast.from_application[0].commit();
    world.fast.tell(KernelEvent { kind: kernel_event::FASTPATH, error: 1, ..KernelEvent::default() });
    poll(&world.context);
    world.fast.drain();
    assert_eq!(world.fast.outstanding(5), b"once");
    assert!(world.fast.flows[&5].fin);
}

#[test]
fn a_reused_slot_ends_the_connection_that_had_it() {
    let mut world = World::new(1, 64, 1);
    let (_old_socket, old) = world.open(5, START);
    let (_socket, new) = {
        let info = abi::message::FlowInfo { generation: 900, ..World::info(5, START + 99, 0) };
        world.channel.accepts.lock().unwrap().push_back(info);
        world.know(info);
        Socket::new(&world.context, 1, 0).unwrap().accept(&world.context, 77, 0).unwrap()
    };
    assert_eq!(poll(&world.context), [Event { token: 1005, flags: event::FAILED, error: libc::ECONNRESET }]);
    assert_eq!(old.write(b"x"), 0);
    drop(old);
    assert_eq!(new.write(b"x"), 1);
    assert_eq!(world.context.statistics().0, 1);
}

#[test]
fn a_moved_connection_is_served_by_its_new_context() {
    let mut world = World::new(1, 64, 1);
    let (socket, connection) = world.open(5, START);
    connection.write(b"before");
    let second = Context::new(&world.application).unwrap();
    connection.move_to(&second, &socket).unwrap();
    assert_eq!((world.context.statistics().0, second.statistics().0), (0, 1));
    connection.write(b"after");
    world.fast.drain();
    let mut fast = super::fake::FakeFast::new(&world.channel, second.id());
    std::mem::swap(&mut fast.flows, &mut world.fast.flows);
    fast.drain();
    assert_eq!(fast.outstanding(5), b"beforeafter");
    fast.receive(5, b"hi");
    fast.announce(5, event_flags::RX);
    assert_eq!(poll(&second), [Event { token: 1005, flags: event::READABLE, error: 0 }]);
}
