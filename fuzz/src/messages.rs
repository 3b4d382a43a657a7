// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every control call of the slow path, with plausible, damaged and random bodies, by anybody, among what else happens;
//! and what a fast path brings when it attaches. Replies are well-formed, and in the end nothing is left.

use crate::{
    events,
    frames::Family,
    slow_world::{Memory, World, APPLICATION, CONTEXT},
};
use abi::{
    limits::{CORES_MAX, FLOWS_MAX, MTU_MAX, MTU_MIN},
    message::{
        Accept, ApplicationEntry, AttachFast, Connect, FlowEntry, FlowInfo, Message, Name, Names, Op,
        Option_, Shutdown, Socket, Status, SynData, BODY_BYTES, SYN_DATA_BYTES,
    },
    pool::BUFFER_BYTES_MAX,
};
use arbitrary::Arbitrary;
use slowpath::{Caller, Config, Outcome, Sizes};

/// What the corpus covers.
pub const COVERS: &[&str] = &[
    "slowpath/src/request/mod.rs",
    "slowpath/src/request/open.rs",
    "slowpath/src/request/options.rs",
    "slowpath/src/request/release.rs",
    "slowpath/src/request/status.rs",
    "slowpath/src/request/info.rs",
    "slowpath/src/request/readiness.rs",
    "slowpath/src/config.rs",
    "slowpath/src/ports.rs",
    "abi/src/message/mod.rs",
];

/// One step.
#[allow(missing_docs)]
#[derive(Debug, Clone, Arbitrary)]
pub enum Operation {
    /// A call as it should be.
    Call { op: u8, a: u8, b: u8, c: u16 },
    /// The same with something changed, by somebody else.
    Damaged { op: u8, a: u8, b: u8, c: u16, at: u8, value: u8, application: u8 },
    /// Any message.
    Raw { op: u8, object: u32, flags: u32, body: Vec<u8> },
    /// What a fast path asks for; a word of it is any.
    Configure { word: u8, value: u32 },
    /// Something else happens.
    Event(events::Operation),
}

/// Runs the operations, over IPv4 and over IPv6.
pub fn check(operations: &[Operation]) {
    for family in Family::BOTH {
        Memory::with(|memory| {
            let mut world = World::new(memory, family);
            for operation in operations {
                step(&mut world, operation);
                world.pump();
                for socket in world.sockets.clone() {
                    let ready = world.stack.readiness(socket);
                    assert!(!ready.hang_up || ready.writable, "a writer would wait for ever");
                }
            }
            world.finish();
        });
    }
}

fn step(world: &mut World<'_>, operation: &Operation) {
    match operation {
        Operation::Call { op, a, b, c } => {
            let message = plausible(world, *op, *a, *b, *c);
            call(world, Some(message.object), message, APPLICATION);
        }
        Operation::Damaged { op, a, b, c, at, value, application } => {
            let mut message = plausible(world, *op, *a, *b, *c);
            let socket = Some(message.object);
            match usize::from(*at) {
                0 => message.op = (*value).into(),
                1 => message.object = message.object.wrapping_add((*value).into()),
                2 => message.flags = u32::from(*value) << 24,
                at => message.body[(at - 3) % BODY_BYTES] = *value,
            }
            let application = if application % 4 == 0 { (*application).into() } else { APPLICATION };
            call(world, socket, message, application);
        }
        Operation::Raw { op, object, flags, body } => {
            let mut message = Message::new(Op::Status, *object);
            message.op = (*op).into();
            message.flags = *flags;
            let bytes = body.len().min(BODY_BYTES);
            message.body[..bytes].copy_from_slice(&body[..bytes]);
            call(world, None, message, Caller::NO_APPLICATION);
        }
        Operation::Configure { word, value } => configure(*word, *value),
        Operation::Event(event) => events::step(world, event),
    }
}

/// Makes a call; a socket is only given if it is the caller's, as every shell sees to.
fn call(world: &mut World<'_>, socket: Option<u32>, mut message: Message, application: u32) {
    let asked = message;
    let socket = socket.filter(|socket| world.stack.socket_application(*socket) == Some(application));
    let caller = Caller { application, net_bind_service: asked.flags & 1 != 0, net_admin: true };
    let outcome = world.request(&caller, socket, &mut message);
    assert_eq!((message.op, message.object, message.flags), (asked.op, asked.object, asked.flags));
    match outcome {
        Outcome::NotForStack => assert_eq!(message.body, asked.body, "not touched"),
        Outcome::NewSocket { .. } => assert_eq!((message.error, application), (0, APPLICATION)),
        Outcome::Done => {
            assert!(message.error == 0 || message.body == [0; BODY_BYTES], "an error says nothing else");
        }
    }
    // Only the body's own bytes are written.
    let bytes = match Op::from_u32(asked.op).filter(|_| message.error == 0) {
        Some(Op::Socket) => size_of::<Socket>(),
        Some(Op::Bind) => size_of::<Name>(),
        Some(Op::SetOption | Op::GetOption) => size_of::<Option_>(),
        Some(Op::Connect | Op::SynData) => size_of::<Connect>(),
        Some(Op::Accept | Op::FlowInfo) => size_of::<FlowInfo>(),
        Some(Op::Names) => size_of::<Names>(),
        Some(Op::Status) => size_of::<Status>(),
        Some(Op::FlowEntry | Op::ListenEntry) => size_of::<FlowEntry>(),
        Some(Op::ApplicationEntry) => size_of::<ApplicationEntry>(),
        _ => BODY_BYTES,
    };
    assert!(message.body[bytes..].iter().all(|byte| *byte == 0), "bytes behind the body");
}

/// What is taken from a fast path is within its limits.
fn configure(word: u8, value: u32) {
    let mut message = Message::with(
        Op::AttachFast,
        0,
        &AttachFast {
            cores: 1,
            flows: 64,
            mtu_bytes: 1500,
            ipv4: crate::frames::LOCAL,
            prefix: 24,
            ..AttachFast::default()
        },
    );
    let at = usize::from(word) * 4;
    if let Some(bytes) = message.body.get_mut(at..at + 4) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
    let Ok(config) = Config::from_attach(&message.get(), [1, 2, 3, 4]) else {
        return;
    };
    assert!((1..=CORES_MAX).contains(&config.cores));
    assert!(config.flows.is_power_of_two() && (64..=FLOWS_MAX).contains(&config.flows));
    assert!((MTU_MIN..=MTU_MAX).contains(&config.mtu_bytes) && config.prefix <= 32);
    assert!(config.rx_buffer_bytes.max(config.tx_buffer_bytes) <= BUFFER_BYTES_MAX);
    assert!(config.ipv4 >> 24 != 0 && config.ipv4 >> 28 < 0xe && config.mac >> 48 == 0);
    let sizes = Sizes::of(&config);
    assert!(sizes.connections > config.flows as usize && sizes.bytes() < 1 << 34);
}

/// An address: ours, the peer's, or one that is not allowed.
fn address(kind: u8) -> u32 {
    match kind % 8 {
        0 => 0,
        1 => crate::frames::LOCAL,
        2 => 0x0808_0808,
        3 => 0xe000_0001,
        4 => 0x0a00_00ff,
        _ => crate::frames::PEER,
    }
}

/// A call with a body that can be, for a socket that is there.
fn plausible(world: &World<'_>, op: u8, a: u8, b: u8, c: u16) -> Message {
    let op = Op::ALL[usize::from(op) % Op::ALL.len()];
    let port = if c % 4 == 0 { c } else { 8080 + c % 3 };
    let context = if b == 9 { 1 } else { CONTEXT };
    let family = world.family;
    let mut message = match op {
        Op::Socket => {
            let family = if a % 8 == 0 { a.into() } else { family.number() };
            Message::with(op, 0, &Socket { opaque: 1, family, context, ..Socket::default() })
        }
        Op::Bind => {
            let address = if a % 4 == 0 { address(a / 4) } else { 0 };
            Message::with(op, 0, &Name { endpoint: family.endpoint(address, port), reserved: 0 })
        }
        Op::Connect => {
            let remote = family.endpoint(address(a), port);
            Message::with(op, 0, &Connect { remote, context, ..Connect::default() })
        }
        Op::Accept => Message::with(op, 0, &Accept { context, ..Accept::default() }),
        Op::Shutdown => Message::with(op, 0, &Shutdown { tx_end: c.into(), reserved: 0 }),
        Op::SetOption | Op::GetOption => {
            let option = u32::from(b) % events::OPTIONS;
            Message::with(op, 0, &Option_ { option, value: c.into(), value2: a.into(), ..Option_::default() })
        }
        Op::SynData => Message::with(op, 0, &SynData { bytes: [a; SYN_DATA_BYTES] }),
        _ => Message::new(op, 0),
    };
    message.flags = match op {
        Op::Listen => c.into(),
        Op::Shutdown => u32::from(b) % 4,
        Op::Move => context,
        _ => c.into(),
    };
    let of_socket = (Op::Bind as u32..=Op::SynData as u32).contains(&message.op);
    let index = usize::from(a).checked_rem(world.sockets.len());
    message.object = index.filter(|_| of_socket).map_or(a.into(), |index| world.sockets[index]);
    message
}
