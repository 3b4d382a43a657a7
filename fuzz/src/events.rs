// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole slow path: segments, timers, requests, what the fast path reports, in any order. What it sends is
//! well-formed, what it asks of the fast path makes sense, timers come to rest, and in the end nothing is left.

use crate::{
    frames::{self, Segment, ACK, FIN, RST, SYN},
    slow_world::{Memory, World, CONTEXT},
};
use abi::{
    flow::hot_flags,
    kernel_ring::to_slow,
    message::{Accept, Connect, Endpoint, Message, Name, Op, Option_, Shutdown, Socket},
};
use arbitrary::Arbitrary;
use std::sync::atomic::Ordering::Relaxed;

/// What the corpus covers.
pub const COVERS: &[&str] = &[
    "slowpath/src/tcp/close.rs",
    "slowpath/src/tcp/connect.rs",
    "slowpath/src/tcp/cookies.rs",
    "slowpath/src/tcp/established.rs",
    "slowpath/src/tcp/flows.rs",
    "slowpath/src/tcp/half_open.rs",
    "slowpath/src/tcp/input.rs",
    "slowpath/src/tcp/install.rs",
    "slowpath/src/tcp/keepalive.rs",
    "slowpath/src/tcp/limits.rs",
    "slowpath/src/tcp/listen.rs",
    "slowpath/src/tcp/path.rs",
    "slowpath/src/tcp/reply.rs",
    "slowpath/src/tcp/rtt.rs",
    "slowpath/src/tcp/sample.rs",
    "slowpath/src/tcp/sampling.rs",
    "slowpath/src/tcp/time_wait.rs",
    "slowpath/src/timers/mod.rs",
    "slowpath/src/timers/wheel.rs",
    "slowpath/src/events.rs",
    "slowpath/src/queues.rs",
    "slowpath/src/fastpath.rs",
    "slowpath/src/icmp.rs",
];

/// One step.
#[allow(missing_docs)]
#[derive(Debug, Clone, Arbitrary)]
pub enum Operation {
    Socket,
    Bind {
        socket: u8,
        port: u8,
    },
    Listen {
        socket: u8,
        backlog: u8,
    },
    Connect {
        socket: u8,
        port: u8,
        far: bool,
    },
    Accept(u8),
    Shutdown {
        socket: u8,
        how: u8,
    },
    SetOption {
        socket: u8,
        option: u8,
        value: u16,
        more: u8,
    },
    Release(u8),
    ResetFlow(u8),
    /// A new connection from the peer.
    Syn {
        port: u8,
        from: u8,
        options: u8,
    },
    /// The next segment of a connection, as it should be.
    Reply {
        of: u8,
        kind: Reply,
    },
    /// Any segment of a connection.
    Segment {
        of: u8,
        flags: u8,
        seq: i16,
        ack: i16,
        window: u16,
        options: u8,
        payload: u8,
    },
    /// To no connection.
    Stranger {
        port: u8,
        flags: u8,
        seq: u32,
        ack: u32,
    },
    Frame(Vec<u8>),
    Arp {
        request: bool,
        from: u8,
    },
    /// About a frame of ours.
    Icmp {
        kind: u8,
        code: u8,
        mtu: u16,
        about: u8,
    },
    /// Microseconds, as this times itself.
    Advance(u16),
    Leap {
        seconds: u8,
    },
    Flow {
        flow: u8,
        change: Change,
    },
    Report {
        flow: u8,
        op: u8,
        value: u8,
    },
    Room(u8),
    Removes(bool),
    Preempted(bool),
    AnswersArp(bool),
    Detach,
    Attach,
    Die,
    /// The fast path writes a lie into the table.
    Lie {
        flow: u8,
        word: u8,
        value: u64,
        shift: u8,
    },
}

/// A segment that fits.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Reply {
    SynAck,
    Ack,
    FinAck,
    Rst,
    Data,
}

/// What an honest fast path makes of a flow.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Change {
    Written(u16),
    Acknowledged(u16),
    Received(u16),
    Read,
    FinReceived,
    Rtt(u16),
    Recoveries(u8),
    Marked(u16),
    Window(u16),
    Timeouts(u8),
}

fn options(kind: u8, value: u32) -> Vec<u8> {
    match kind % 6 {
        0 => vec![],
        1 => vec![2, 4, 2, 24],
        2 => vec![2, 4, 0, kind, 3, 3, kind, 1],
        3 => frames::linux_options(value, 0)[..18].to_vec(),
        _ => frames::linux_options(value, value),
    }
}

fn pick<T: Copy>(from: &[T], number: u8) -> Option<T> {
    let index = usize::from(number).checked_rem(from.len())?;
    from.get(index).copied()
}

const PORTS: u16 = 8080;

/// Runs the operations.
pub fn check(operations: &[Operation]) {
    Memory::with(|memory| {
        let mut world = World::new(memory);
        for operation in operations {
            step(&mut world, operation);
            world.pump();
        }
        world.finish();
        still_works(&mut world);
    });
}

pub(crate) fn step(world: &mut World<'_>, operation: &Operation) {
    match operation {
        Operation::Socket => {
            let body = Socket { opaque: 9, family: 2, context: CONTEXT, ..Socket::default() };
            world.call(None, &mut Message::with(Op::Socket, 0, &body));
        }
        Operation::Bind { socket, port } => {
            let endpoint = Endpoint::ipv4(0, if *port == 0 { 0 } else { PORTS + u16::from(port % 3) });
            on_socket(world, *socket, Message::with(Op::Bind, 0, &Name { endpoint, reserved: 0 }));
        }
        Operation::Listen { socket, backlog } => {
            let mut message = Message::new(Op::Listen, 0);
            message.flags = (*backlog).into();
            on_socket(world, *socket, message);
        }
        Operation::Connect { socket, port, far } => {
            let address = if *far { 0x0808_0808 } else { frames::PEER };
            let remote = Endpoint::ipv4(address, 80 + u16::from(port % 2));
            let body = Connect { remote, context: CONTEXT, ..Connect::default() };
            on_socket(world, *socket, Message::with(Op::Connect, 0, &body));
        }
        Operation::Accept(socket) => {
            let body = Accept { opaque: 5, context: CONTEXT, ..Accept::default() };
            on_socket(world, *socket, Message::with(Op::Accept, 0, &body));
        }
        Operation::Shutdown { socket, how } => {
            let mut message = Message::with(Op::Shutdown, 0, &Shutdown::default());
            message.flags = (how % 4).into();
            on_socket(world, *socket, message);
        }
        Operation::SetOption { socket, option, value, more } => {
            let body = Option_ {
                option: u32::from(*option) % 20,
                value: (*value).into(),
                value2: (*more).into(),
                ..Option_::default()
            };
            on_socket(world, *socket, Message::with(Op::SetOption, 0, &body));
        }
        Operation::Release(socket) => {
            if let Some(socket) = pick(&world.sockets, *socket) {
                world.release(socket);
            }
        }
        Operation::ResetFlow(flow) => {
            world.call(None, &mut Message::new(Op::ResetFlow, u32::from(*flow) % 64));
        }
        Operation::Frame(bytes) => world.receive(bytes.clone()),
        Operation::Arp { request, from } => {
            world.receive(frames::arp(if *request { 1 } else { 2 }, frames::PEER + u32::from(*from)));
        }
        Operation::Advance(root) => world.advance(u64::from(*root) * u64::from(*root)),
        Operation::Leap { seconds } => world.advance(u64::from(*seconds) * 1_000_000),
        Operation::Room(room) => world.room = if *room > 20 { usize::MAX } else { (*room).into() },
        Operation::Removes(removes) => world.removes = *removes,
        Operation::Preempted(preempted) => world.preempted = *preempted,
        Operation::AnswersArp(answers) => world.answers_arp = *answers,
        Operation::Detach => world.detach(),
        Operation::Attach => world.attach(),
        Operation::Die => world.die(),
        Operation::Syn { .. }
        | Operation::Reply { .. }
        | Operation::Segment { .. }
        | Operation::Stranger { .. }
        | Operation::Icmp { .. } => from_peer(world, operation),
        Operation::Flow { .. } | Operation::Report { .. } | Operation::Lie { .. } => {
            if world.attached {
                from_fast_path(world, operation);
            }
        }
    }
}

fn on_socket(world: &mut World<'_>, socket: u8, mut message: Message) {
    if let Some(socket) = pick(&world.sockets, socket) {
        world.call(Some(socket), &mut message);
    }
}

fn from_peer(world: &mut World<'_>, operation: &Operation) {
    if !world.attached {
        return;
    }
    let value = (world.now / 1000) as u32;
    match operation {
        Operation::Syn { port, from, options: kind } => {
            let ports = (PORTS + u16::from(port % 3), 40_000 + u16::from(*from));
            let seq = 5000 + u32::from(*from);
            world.peer(&Segment {
                ports,
                seq,
                flags: SYN,
                window: 1000,
                options: options(*kind, value),
                ..Segment::default()
            });
        }
        Operation::Reply { of, kind } => {
            let Some(known) = pick(&world.known, *of) else { return };
            let (flags, options, payload) = match kind {
                Reply::SynAck => (SYN | ACK, frames::linux_options(value, 0), vec![]),
                Reply::Ack => (ACK, vec![], vec![]),
                Reply::FinAck => (FIN | ACK, vec![], vec![]),
                Reply::Rst => (RST | ACK, vec![], vec![]),
                Reply::Data => (ACK, vec![], vec![1; 9]),
            };
            let (seq, ack) = (known.next, known.expected);
            world.peer(&Segment { ports: known.ports, seq, ack, flags, window: 1000, options, payload });
        }
        Operation::Segment { of, flags, seq, ack, window, options: kind, payload } => {
            let Some(known) = pick(&world.known, *of) else { return };
            world.peer(&Segment {
                ports: known.ports,
                seq: known.next.wrapping_add_signed((*seq).into()),
                ack: known.expected.wrapping_add_signed((*ack).into()),
                flags: *flags,
                window: *window,
                options: options(*kind, value),
                payload: vec![3; usize::from(*payload)],
            });
        }
        Operation::Stranger { port, flags, seq, ack } => {
            let ports = (PORTS + u16::from(port % 4), 39_000);
            world.peer(&Segment {
                ports,
                seq: *seq,
                ack: *ack,
                flags: *flags,
                window: 9,
                ..Segment::default()
            });
        }
        Operation::Icmp { kind, code, mtu, about } => {
            let index = usize::from(*about).checked_rem(world.sent.len());
            let quoted =
                index.and_then(|index| world.sent[index].get(14..42)).unwrap_or(&[0x45; 28]).to_vec();
            let rest = [&[0, 0], &mtu.to_be_bytes()[..], &quoted].concat();
            world.receive(frames::icmp(*kind % 13, *code % 16, &rest));
        }
        _ => {}
    }
}

fn from_fast_path(world: &mut World<'_>, operation: &Operation) {
    let installed: Vec<u32> = world.installed.iter().copied().collect();
    match operation {
        Operation::Flow { flow, change } => {
            if let Some(flow) = pick(&installed, *flow) {
                apply(world, flow, *change);
            }
        }
        Operation::Report { flow, op, value } => {
            // REMOVED is said once, and only when asked.
            if *op != to_slow::REMOVED {
                world.report(op % 12, u32::from(flow % 70), (*value).into());
            }
        }
        Operation::Lie { flow, word, value, shift } => {
            world.lied = true;
            let hot = &world.hot[usize::from(flow % 64)];
            let value = value >> (shift % 64);
            match word % 12 {
                0 => hot.flags.store(value as u32, Relaxed),
                1 => hot.snd_una.store(value, Relaxed),
                2 => hot.snd_max.store(value, Relaxed),
                3 => hot.snd_nxt.store(value, Relaxed),
                4 => hot.snd_end.store(value, Relaxed),
                5 => hot.rcv_nxt.store(value, Relaxed),
                6 => hot.rcv_read.store(value, Relaxed),
                7 => hot.snd_wnd.store(value as u32, Relaxed),
                8 => hot.acked_bytes.store(value as u32, Relaxed),
                9 => hot.rtt_sample.store(value as u32, Relaxed),
                10 => hot.loss_counts.store(value as u32, Relaxed),
                _ => world.core.run_us.store(value, Relaxed),
            }
        }
        _ => {}
    }
}

fn apply(world: &mut World<'_>, flow: u32, change: Change) {
    let hot = &world.hot[flow as usize];
    let flags = hot.flags.load(Relaxed);
    match change {
        Change::Written(bytes) if flags & hot_flags::FIN_QUEUED == 0 => {
            let end = hot.snd_end.load(Relaxed) + u64::from(bytes);
            [&hot.snd_end, &hot.snd_nxt, &hot.snd_max].into_iter().for_each(|word| word.store(end, Relaxed));
            world.report(to_slow::ACTIVE, flow, 0);
        }
        Change::Acknowledged(bytes) => {
            let (una, max) = (hot.snd_una.load(Relaxed), hot.snd_max.load(Relaxed));
            let ack = max.min(una.saturating_add(bytes.into()));
            hot.acked_bytes.fetch_add(ack.wrapping_sub(una) as u32, Relaxed);
            hot.snd_una.store(ack, Relaxed);
            if ack == max && flags & (hot_flags::FIN_SENT | hot_flags::FIN_ACKED) == hot_flags::FIN_SENT {
                hot.flags.fetch_or(hot_flags::FIN_ACKED, Relaxed);
                world.report(to_slow::FIN_ACKED, flow, 0);
            }
        }
        Change::Received(bytes) if flags & hot_flags::FIN_RECEIVED == 0 => {
            hot.rcv_nxt.fetch_add(bytes.into(), Relaxed);
        }
        Change::Read => {
            let ended = u64::from(flags & hot_flags::FIN_RECEIVED != 0);
            hot.rcv_read.store(hot.rcv_nxt.load(Relaxed).wrapping_sub(ended), Relaxed);
        }
        Change::FinReceived if flags & hot_flags::FIN_RECEIVED == 0 => {
            let first = if flags & hot_flags::FIN_QUEUED == 0 { hot_flags::REMOTE_CLOSED_FIRST } else { 0 };
            hot.flags.fetch_or(hot_flags::FIN_RECEIVED | first, Relaxed);
            hot.rcv_nxt.fetch_add(1, Relaxed);
            world.report(to_slow::FIN_RECEIVED, flow, 0);
        }
        Change::Rtt(us) => {
            let count = (hot.rtt_sample.load(Relaxed) >> 24).wrapping_add(1);
            hot.rtt_sample.store(count << 24 | u32::from(us) * 16, Relaxed);
        }
        Change::Recoveries(by) => {
            let counts = hot.loss_counts.load(Relaxed);
            let low = counts.wrapping_add(by.into()) & 0xffff;
            hot.loss_counts.store(counts & !0xffff | low, Relaxed);
        }
        Change::Marked(bytes) => {
            hot.ecn_bytes.fetch_add(bytes.into(), Relaxed);
        }
        Change::Window(bytes) => hot.snd_wnd.store(bytes.into(), Relaxed),
        Change::Timeouts(by) => {
            hot.loss_counts.fetch_add(u32::from(by) << 24, Relaxed);
        }
        Change::Written(_) | Change::Received(_) | Change::FinReceived => {}
    }
}

/// After all that a peer can connect.
fn still_works(world: &mut World<'_>) {
    if world.lied && world.dead {
        // A lying fast path may keep its own application's flows; nobody else's.
        return;
    }
    world.known.clear();
    world.call(
        None,
        &mut Message::with(Op::Socket, 0, &Socket { family: 2, context: CONTEXT, ..Socket::default() }),
    );
    let endpoint = Endpoint::ipv4(0, 7000);
    on_socket(world, 0, Message::with(Op::Bind, 0, &Name { endpoint, reserved: 0 }));
    let mut listen = Message::new(Op::Listen, 0);
    listen.flags = 5;
    on_socket(world, 0, listen);
    let ports = (7000, 60_000);
    world.peer(&Segment { ports, seq: 77, flags: SYN, window: 99, ..Segment::default() });
    // An ARP request that was lost is repeated, and so is the SYN-ACK.
    world.advance(2_000_000);
    let known = world.known.iter().find(|known| known.ports == ports).copied().expect("a SYN-ACK");
    world.peer(&Segment {
        ports,
        seq: 78,
        ack: known.expected,
        flags: ACK,
        window: 99,
        ..Segment::default()
    });
    let body = Accept { opaque: 5, context: CONTEXT, ..Accept::default() };
    let mut message = Message::with(Op::Accept, 0, &body);
    world.call(Some(world.sockets[0]), &mut message);
    assert_eq!(message.error, 0, "a connection is accepted");
}
