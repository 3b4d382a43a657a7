// SPDX-License-Identifier: MIT OR Apache-2.0
//! The whole slow path: segments, timers, requests, what the fast path reports, in any order. What it sends is
//! well-formed, what it asks of the fast path makes sense, timers come to rest, and in the end nothing is left.

use crate::{
    frames::{self, Family, Segment, ACK, FIN, RST, SYN},
    slow_world::{Known, Memory, World, CONTEXT, LINK_LOCAL},
};
use abi::{
    flow::hot_flags,
    kernel_ring::to_slow,
    message::{Accept, Connect, Message, Name, Op, Option_, Shutdown, Socket, SynData, SYN_DATA_BYTES},
};
use arbitrary::Arbitrary;
use std::sync::atomic::Ordering::Relaxed;

/// What the corpus covers.
pub const COVERS: &[&str] = &[
    "slowpath/src/tcp/close.rs",
    "slowpath/src/tcp/connect.rs",
    "slowpath/src/tcp/cookies.rs",
    "slowpath/src/tcp/established.rs",
    "slowpath/src/tcp/fast_connect.rs",
    "slowpath/src/tcp/fast_open.rs",
    "slowpath/src/tcp/flood.rs",
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
    "slowpath/src/icmpv6.rs",
    "slowpath/src/discovery.rs",
    "slowpath/src/wire/discovery.rs",
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
    /// A connection with fast open (RFC 7413), and data to go with its SYN.
    FastConnect {
        socket: u8,
        port: u8,
        /// Of CONNECT.
        flags: u8,
        bytes: u8,
    },
    /// A SYN with a fast-open option and data.
    FastSyn {
        port: u8,
        from: u8,
        cookie: u8,
        payload: u8,
    },
    /// Room for the data of SYNs; 255: the fast path does not answer.
    SynDataRoom(u8),
    /// The key of a listener's cookies, and another that is still good.
    Key {
        socket: u8,
        backup: bool,
        value: u8,
    },
    /// About a segment of a connection, which the fast path may have sent.
    IcmpAbout {
        of: u8,
        kind: u8,
        code: u8,
        mtu: u16,
        offset: i16,
    },
    /// SYNs of many peers.
    Flood {
        port: u8,
        count: u8,
    },
    /// Neighbor Discovery; over IPv4 nothing.
    Discovery {
        solicitation: bool,
        from: u8,
        about: u8,
        flags: u8,
        link: Option<u8>,
    },
    /// A segment of a connection, with IP options or an extension header, or as a fragment.
    Laden {
        of: u8,
        kind: u8,
        fragment: bool,
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
    /// With a cookie.
    SynAckCookie,
    /// Of the SYN alone, not of the data that came with it.
    SynAckOnly,
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
    HandshakeDone,
}

fn options(kind: u8, value: u32) -> Vec<u8> {
    match kind % 8 {
        0 => vec![],
        1 => vec![2, 4, 2, 24],
        2 => vec![2, 4, 0, kind, 3, 3, kind, 1],
        3 => frames::linux_options(value, 0)[..18].to_vec(),
        6 => [frames::linux_options(value, 0), frames::fast_open_option(&[kind; 8])].concat(),
        7 => frames::fast_open_option(&[kind; 8][..usize::from(kind / 8 % 9)]),
        _ => frames::linux_options(value, value),
    }
}

fn pick<T: Copy>(from: &[T], number: u8) -> Option<T> {
    let index = usize::from(number).checked_rem(from.len())?;
    from.get(index).copied()
}

const PORTS: u16 = 8080;
/// The first port of those who flood.
const FLOOD_PORTS: u16 = 20_000;
/// What an ICMP error quotes: either IP header and the first eight bytes behind it.
const QUOTED_BYTES: usize = 48;
/// One more than the highest option of a socket.
pub(crate) const OPTIONS: u32 = abi::message::option::FAST_OPEN_BACKUP_KEY + 1;

/// In a world of IPv6 the peer's SYNs from here on come over IPv4: to sockets of both families.
const FROM_V4: u8 = 192;

/// Runs the operations, over IPv4 and over IPv6.
pub fn check(operations: &[Operation]) {
    for family in Family::BOTH {
        Memory::with(|memory| {
            let mut world = World::new(memory, family);
            for operation in operations {
                step(&mut world, operation);
                world.pump();
            }
            world.finish();
            still_works(&mut world);
        });
    }
}

pub(crate) fn step(world: &mut World<'_>, operation: &Operation) {
    match operation {
        Operation::Socket => {
            let family = world.family.number();
            let body = Socket { opaque: 9, family, context: CONTEXT, ..Socket::default() };
            world.call(None, &mut Message::with(Op::Socket, 0, &body));
        }
        Operation::Bind { socket, port } => {
            let port = if *port == 0 { 0 } else { PORTS + u16::from(port % 3) };
            let endpoint = world.family.endpoint(0, port);
            on_socket(world, *socket, Message::with(Op::Bind, 0, &Name { endpoint, reserved: 0 }));
        }
        Operation::Listen { socket, backlog } => {
            let mut message = Message::new(Op::Listen, 0);
            message.flags = (*backlog).into();
            on_socket(world, *socket, message);
        }
        Operation::Connect { socket, port, far } => {
            let address = if *far { 0x0808_0808 } else { frames::PEER };
            let remote = world.family.endpoint(address, 80 + u16::from(port % 2));
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
                option: u32::from(*option) % OPTIONS,
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
            let operation = if *request { 1 } else { 2 };
            world.receive(frames::neighbor(world.family, operation, frames::PEER + u32::from(*from)));
        }
        Operation::Discovery { solicitation, from, about, flags, link } => {
            if world.family == Family::V6 {
                world.disputed |= *about < 2;
                let frame = discovery(*solicitation, *from, *about, *flags, *link);
                world.receive(frame);
            }
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
        Operation::SynDataRoom(room) => world.syn_data_room = (*room < 255).then_some(u64::from(*room) * 8),
        Operation::FastConnect { .. } | Operation::Key { .. } => fast_open(world, operation),
        Operation::Syn { .. }
        | Operation::Reply { .. }
        | Operation::Segment { .. }
        | Operation::Stranger { .. }
        | Operation::FastSyn { .. }
        | Operation::Flood { .. }
        | Operation::Laden { .. }
        | Operation::IcmpAbout { .. }
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

fn fast_open(world: &mut World<'_>, operation: &Operation) {
    match operation {
        Operation::FastConnect { socket, port, flags, bytes } => {
            let mut data = Message::with(Op::SynData, 0, &SynData { bytes: [*bytes; SYN_DATA_BYTES] });
            data.flags = (*bytes).into();
            on_socket(world, *socket, data);
            let remote = world.family.endpoint(frames::PEER, 80 + u16::from(port % 2));
            let body = Connect { remote, context: CONTEXT, ..Connect::default() };
            let mut connect = Message::with(Op::Connect, 0, &body);
            connect.flags = u32::from(*flags) % 4;
            on_socket(world, *socket, connect);
        }
        Operation::Key { socket, backup, value } => {
            let value = u32::from(*value);
            let option = OPTIONS - 2 + u32::from(*backup);
            let body = Option_ { option, value, value2: value, more: [value; 2], ..Option_::default() };
            on_socket(world, *socket, Message::with(Op::SetOption, 0, &body));
        }
        _ => {}
    }
}

/// Of the peer, of another neighbour or of nobody; about us, about our other address or about a neighbour.
fn discovery(solicitation: bool, from: u8, about: u8, flags: u8, link: Option<u8>) -> Vec<u8> {
    let family = Family::V6;
    let discovery = frames::Discovery {
        solicitation,
        from: if from == 0 { 0 } else { frames::PEER + u32::from(from) - 1 },
        about: match about {
            0 => family.words(frames::LOCAL),
            1 => LINK_LOCAL,
            other => family.words(frames::PEER + u32::from(other) - 2),
        },
        flags: flags & 0xe0,
        link,
        hop_limit: if flags & 1 == 0 { 255 } else { 64 },
        to_group: from == 0 || flags & 2 != 0,
    };
    discovery.encode()
}

/// The fast-open option of a SYN: a request, our own cookie, one that only looks like it, or none.
fn shown(world: &World<'_>, cookie: u8) -> Vec<u8> {
    match cookie % 5 {
        0 => frames::fast_open_option(&[]),
        1 => vec![],
        2 => frames::fast_open_option(&vec![cookie; usize::from(cookie / 5 % 18)]),
        _ => frames::fast_open_option(&world.cookie),
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
            let family = if *from >= FROM_V4 { Family::V4 } else { world.family };
            world.peer(&Segment {
                family,
                ports,
                seq,
                flags: SYN,
                window: 1000,
                options: options(*kind, value),
                ..Segment::default()
            });
        }
        Operation::FastSyn { port, from, cookie, payload } => {
            let ports = (PORTS + u16::from(port % 3), 40_000 + u16::from(*from));
            world.peer(&Segment {
                family: if *from >= FROM_V4 { Family::V4 } else { world.family },
                ports,
                seq: 5000 + u32::from(*from),
                flags: SYN,
                window: 1000,
                options: [frames::linux_options(value, 0), shown(world, *cookie)].concat(),
                payload: vec![7; usize::from(*payload)],
                ..Segment::default()
            });
        }
        Operation::Flood { port, count } => {
            for number in 0..u16::from(*count) * 2 {
                world.peer(&Segment {
                    family: world.family,
                    ports: (PORTS + u16::from(port % 3), FLOOD_PORTS + number),
                    seq: 9000,
                    flags: SYN,
                    window: 500,
                    options: options(number as u8, value),
                    ..Segment::default()
                });
            }
        }
        Operation::Laden { of, kind, fragment } => {
            let Some(known) = pick(&world.known, *of) else { return };
            let Known { family, ports, next: seq, expected: ack, .. } = known;
            let segment = Segment { family, ports, seq, ack, flags: ACK, window: 900, ..Segment::default() };
            let mut frame = frames::laden(&segment.encode(), *kind);
            if *fragment && family == Family::V4 {
                // More fragments, in a field that the checksum counts with the reserved bit's complement.
                frame[20] ^= 0x20;
                let sum = u16::from_be_bytes([frame[24], frame[25]]);
                let sum = sum.checked_sub(0x2000).unwrap_or_else(|| sum.wrapping_sub(0x2001));
                frame[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            world.receive(frame);
        }
        Operation::IcmpAbout { of, kind, code, mtu, offset } => {
            let Some(known) = pick(&world.known, *of) else { return };
            let seq = known.expected.wrapping_add_signed((*offset).into());
            let quoted = frames::quote(known.family, known.ports, seq, 1500);
            let mtu = mtu.to_be_bytes();
            let rest = [&[0, 0], &mtu[..], &quoted].concat();
            world.receive(frames::icmp(known.family, *kind % 13, *code % 16, &rest));
        }
        Operation::Reply { of, kind } => {
            let Some(known) = pick(&world.known, *of) else { return };
            let (flags, options, payload) = match kind {
                Reply::SynAck => (SYN | ACK, frames::linux_options(value, 0), vec![]),
                Reply::Ack => (ACK, vec![], vec![]),
                Reply::FinAck => (FIN | ACK, vec![], vec![]),
                Reply::Rst => (RST | ACK, vec![], vec![]),
                Reply::Data => (ACK, vec![], vec![1; 9]),
                Reply::SynAckCookie | Reply::SynAckOnly => {
                    let cookie = frames::fast_open_option(&[*of; 8]);
                    (SYN | ACK, [frames::linux_options(value, 0), cookie].concat(), vec![])
                }
            };
            let ack = match kind {
                Reply::SynAckOnly => known.first.wrapping_add(1),
                _ => known.expected,
            };
            let Known { family, ports, next: seq, .. } = known;
            world.peer(&Segment { family, ports, seq, ack, flags, window: 1000, options, payload });
        }
        Operation::Segment { of, flags, seq, ack, window, options: kind, payload } => {
            let Some(known) = pick(&world.known, *of) else { return };
            world.peer(&Segment {
                family: known.family,
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
                family: world.family,
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
            let quoted = index.and_then(|index| world.sent[index].get(14..)).unwrap_or(&[0x45; 28]).to_vec();
            let quoted = &quoted[..quoted.len().min(QUOTED_BYTES)];
            let rest = [&[0, 0], &mtu.to_be_bytes()[..], quoted].concat();
            world.receive(frames::icmp(world.family, *kind % 13, *code % 16, &rest));
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
            slowpath::testing::lie(hot, world.core, (*word).into(), value >> (shift % 64));
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
        Change::HandshakeDone if flags & hot_flags::SYN_RECEIVED != 0 => {
            hot.flags.fetch_and(!hot_flags::SYN_RECEIVED, Relaxed);
            world.report(to_slow::HANDSHAKE_DONE, flow, 0);
        }
        Change::Written(_) | Change::Received(_) | Change::FinReceived | Change::HandshakeDone => {}
    }
}

/// After all that a peer can connect.
fn still_works(world: &mut World<'_>) {
    if world.lied && world.dead {
        // A lying fast path may keep its own application's flows; nobody else's.
        return;
    }
    world.known.clear();
    let family = world.family;
    let body = Socket { family: family.number(), context: CONTEXT, ..Socket::default() };
    world.call(None, &mut Message::with(Op::Socket, 0, &body));
    let endpoint = family.endpoint(0, 7000);
    on_socket(world, 0, Message::with(Op::Bind, 0, &Name { endpoint, reserved: 0 }));
    let mut listen = Message::new(Op::Listen, 0);
    listen.flags = 5;
    on_socket(world, 0, listen);
    let ports = (7000, 60_000);
    // A socket takes both families; an address that is somebody else's too is not used (RFC 4862 §5.4.5).
    let family = if world.disputed { Family::V4 } else { family };
    world.peer(&Segment { family, ports, seq: 77, flags: SYN, window: 99, ..Segment::default() });
    // An ARP request that was lost is repeated, and so is the SYN-ACK.
    world.advance(2_000_000);
    let known = world.known.iter().find(|known| known.ports == ports).copied().expect("a SYN-ACK");
    world.peer(&Segment {
        family,
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
