// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Control calls: a 16-byte header and a 240-byte body, request and reply in the same bytes.
//!
//! The kernel takes a message as an ioctl ([`crate::ioctl`]) on `/dev/tas` or, for calls on a socket,
//! on the socket's own file. The daemon takes the same bytes as one SOCK_SEQPACKET datagram. Bytes
//! are copied once and validated; a reply carries zeroes in everything the call does not define.

use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a message.
pub const MESSAGE_BYTES: usize = 256;
/// Bytes of its body.
pub const BODY_BYTES: usize = 240;

/// Header and body.
#[repr(C, align(8))]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Message {
    /// See [`Op`].
    pub op: u32,
    /// Reply: zero, or a positive errno.
    pub error: u32,
    /// Object of the call: socket id, context id, core; by operation. The kernel ignores it for
    /// sockets (the file says which), the daemon looks it up and compares the owner.
    pub object: u32,
    /// By operation.
    pub flags: u32,
    /// One of the body structs, by operation.
    pub body: [u8; BODY_BYTES],
}
assert_layout!(Message, size 256, op @ 0, error @ 4, object @ 8, flags @ 12, body @ 16);

impl Message {
    /// A request without a body.
    pub const fn new(op: Op, object: u32) -> Self {
        Self { op: op as u32, error: 0, object, flags: 0, body: [0; BODY_BYTES] }
    }
    /// A request with a body.
    pub fn with<T: Body>(op: Op, object: u32, body: &T) -> Self {
        let mut message = Self::new(op, object);
        message.set(body);
        message
    }
    /// Replaces the body; the rest of it is zeroed.
    pub fn set<T: Body>(&mut self, body: &T) {
        let bytes = zerocopy::IntoBytes::as_bytes(body);
        self.body = [0; BODY_BYTES];
        if let Some(start) = self.body.get_mut(..bytes.len()) {
            start.copy_from_slice(bytes);
        }
    }
    /// The body as `T`; any bytes are a `T`, its fields still need validation.
    pub fn get<T: Body>(&self) -> T {
        match T::read_from_prefix(&self.body) {
            Ok((body, _)) => body,
            Err(_) => T::new_zeroed(),
        }
    }
}

/// A body struct: plain bytes, at most [`BODY_BYTES`] long.
pub trait Body:
    zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable + zerocopy::KnownLayout + Copy
{
}

macro_rules! body {
    ($(#[doc = $doc:literal])+ $name:ident size $size:literal { $($(#[doc = $fdoc:literal])+ $field:ident: $ty:ty,)+ }) => {
        $(#[doc = $doc])+
        #[repr(C)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
        pub struct $name { $($(#[doc = $fdoc])+ pub $field: $ty,)+ }
        const _: () = assert!(core::mem::size_of::<$name>() == $size && $size <= BODY_BYTES);
        impl Body for $name {}
        impl $name {
            /// FNV-1a hash of this body's declaration.
            pub const LAYOUT: u64 = crate::layout::fnv1a(
                concat!(stringify!($name), stringify!($size), $(stringify!($field), stringify!($ty)),+).as_bytes());
        }
        impl Default for $name {
            fn default() -> Self { zerocopy::FromZeros::new_zeroed() }
        }
    };
}

mod attach;
mod control;
mod socket;

pub use attach::*;
pub use control::*;
pub use socket::*;

macro_rules! ops {
    ($($(#[doc = $doc:literal])+ $name:ident = $value:literal,)+) => {
        /// Operations. Who may call is the role given at ATTACH_*, fixed for the open file.
        #[repr(u32)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Op { $($(#[doc = $doc])+ $name = $value,)+ }
        impl Op {
            /// Every operation.
            pub const ALL: &'static [Op] = &[$(Op::$name,)+];
            /// From its number.
            pub const fn from_u32(value: u32) -> Option<Op> {
                match value { $($value => Some(Op::$name),)+ _ => None }
            }
        }
    };
}

ops! {
    /// Any file, first call: become the fast path of an instance. Needs CAP_NET_ADMIN. Body
    /// [`AttachFast`] both ways. EBUSY: the instance has one. EPROTO: ABI hash differs (reply holds ours).
    AttachFast = 1,
    /// First call: become an application. Body [`AttachApplication`] both ways. ENODEV: no such
    /// instance. EPROTO as above.
    AttachApplication = 2,
    /// First call: become a control client. Body [`AttachControl`] both ways.
    AttachControl = 3,
    /// Daemon only: pass the memfd of region `object` = kind; body [`MapRequest`]. Reply carries one
    /// descriptor and the length in [`MapRequest::bytes`].
    Map = 4,

    /// Fast path: add a route. Body [`Route`].
    AddRoute = 10,
    /// Fast path: register the eventfd (passed descriptor; kernel: number in `flags`) that wakes core `object`.
    CoreEventfd = 11,
    /// Fast path: set-up is complete, applications may attach.
    Ready = 12,
    /// Fast path: take the next notice. Body [`Notice`] in the reply; EAGAIN: none. With the daemon
    /// the reply to a CONTEXT_ADDED notice carries the context's eventfd.
    NextNotice = 13,
    /// Fast path: the notice with this `sequence` was carried out. Body [`Notice`].
    NoticeDone = 14,
    /// Fast path: wake context `object` (kernel; with the daemon write its eventfd).
    WakeContext = 15,
    /// Fast path: wake the slow path's worker.
    WakeSlowpath = 16,

    /// Application: create a context. `flags` = eventfd number (kernel) or a passed descriptor
    /// (daemon). Body [`Context`] in the reply.
    CreateContext = 30,
    /// Application: destroy context `object`; its flows stay without a context until moved.
    DestroyContext = 31,
    /// Application: grow pool or maps by one segment. Body [`Grow`] both ways. ENOBUFS at the limit.
    Grow = 32,
    /// Application: wake fast-path core `object` (kernel; with the daemon write its eventfd, which
    /// was passed at attach).
    WakeCore = 33,
    /// Application: create a socket. Body [`Socket`] both ways; the reply brings a new descriptor
    /// (kernel: number in `Socket::descriptor`; daemon: passed).
    Socket = 34,

    /// Socket: bind. Body [`Name`]; reply has the address bound.
    Bind = 50,
    /// Socket: listen; `flags` = backlog.
    Listen = 51,
    /// Socket: connect. Body [`Connect`]. Always answers at once: EINPROGRESS, then CONNECTED or FAILED. `flags`:
    /// [`connect_flags`]; with one of them the answer is success, with the reply in [`Connect`].
    Connect = 52,
    /// Socket: take a connection. Body [`Accept`] in the request, a descriptor as with SOCKET, and
    /// [`FlowInfo`] in the reply. EAGAIN: none.
    Accept = 53,
    /// Socket: shut down; `flags` = 0 read, 1 write, 2 both. A write shut-down takes effect after
    /// the data announced in [`Shutdown::tx_end`].
    Shutdown = 54,
    /// Socket: body [`FlowInfo`] in the reply. ENOTCONN before CONNECTED.
    FlowInfo = 55,
    /// Socket: body [`Option_`] in the request.
    SetOption = 56,
    /// Socket: body [`Option_`] both ways.
    GetOption = 57,
    /// Socket: local and remote name, body [`Names`] in the reply.
    Names = 58,
    /// Socket: deliver events to context `flags` from now on.
    Move = 59,
    /// Socket, daemon only: nothing else holds the descriptor (with the kernel its release says so).
    Close = 60,
    /// Socket: `flags` bytes of data for the SYN of the CONNECT to come, appended; body [`SynData`]. ENOBUFS: no
    /// room for them.
    SynData = 61,

    /// Control: instance status. Body [`Status`] in the reply.
    Status = 80,
    /// Control: flow at or after id `object`. Body [`FlowEntry`] in the reply; ENOENT: no more.
    FlowEntry = 81,
    /// Control: listener at or after socket id `object`. Body [`FlowEntry`]; ENOENT: no more.
    ListenEntry = 82,
    /// Control: application at or after id `object`. Body [`ApplicationEntry`]; ENOENT: no more.
    ApplicationEntry = 83,
    /// Control, CAP_NET_ADMIN: reset flow `object`.
    ResetFlow = 84,
    /// Control: slow-path counters. Body [`SlowCounters`] in the reply.
    SlowCounters = 85,
}
