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
        Self {
            op: op as u32,
            error: 0,
            object,
            flags: 0,
            body: [0; BODY_BYTES],
        }
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
    /// Socket: connect. Body [`Connect`]. Always answers at once: EINPROGRESS, then CONNECTED or FAILED.
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

body! {
    /// An address and a port.
    Endpoint size 24 {
        /// IPv4: word 0 in host order, others zero. IPv6: four words, most significant first.
        address: [u32; 4],
        /// Port, host order.
        port: u16,
        /// AF_INET (2) or AF_INET6 (10); zero is unspecified.
        family: u16,
        /// IPv6 scope.
        scope: u32,
    }
}
impl Endpoint {
    /// An IPv4 endpoint, address in host order.
    pub const fn ipv4(address: u32, port: u16) -> Self {
        Self {
            address: [address, 0, 0, 0],
            port,
            family: 2,
            scope: 0,
        }
    }
    /// The IPv4 address in host order, if it is one.
    pub const fn as_ipv4(&self) -> Option<u32> {
        let [address, ..] = self.address;
        if self.family == 2 {
            Some(address)
        } else {
            None
        }
    }
}

body! {
    /// ATTACH_FAST. The fast path gives what the port and the operator decide.
    AttachFast size 168 {
        /// Request: [`crate::version::FAST_HASH`]. Reply on EPROTO: ours.
        abi_hash: u64,
        /// [`crate::version::FAST_VERSION`].
        version: u32,
        /// Fast-path cores, 1..=CORES_MAX.
        cores: u32,
        /// Instance name, zero-padded; empty means `tas0`.
        instance: [u8; 16],
        /// Flows, rounded up to a power of two. A re-attach must give the same.
        flows: u32,
        /// MTU of the port, bytes.
        mtu_bytes: u32,
        /// Local IPv4 address, host order.
        ipv4: u32,
        /// Its prefix length.
        prefix: u32,
        /// MAC address in the low 48 bits, first byte on the wire highest.
        mac: u64,
        /// Default congestion control: values of [`congestion`].
        congestion: u32,
        /// First SYN timeout, microseconds.
        handshake_timeout_us: u32,
        /// SYN and SYN-ACK transmissions after the first.
        handshake_retries: u32,
        /// Minimum retransmission timeout, microseconds.
        rto_min_us: u32,
        /// Receive buffer of a flow, bytes.
        rx_buffer_bytes: u32,
        /// Transmit buffer of a flow, bytes.
        tx_buffer_bytes: u32,
        /// Link bandwidth, kilobits per second.
        link_kbps: u32,
        /// RTT assumed until measured, microseconds.
        rtt_init_us: u32,
        /// Control interval in RTTs.
        control_interval_rtts: u32,
        /// DCTCP's g as a fraction of 65536.
        dctcp_weight: u32,
        /// DCTCP's first rate, kilobits per second.
        dctcp_init_kbps: u32,
        /// DCTCP's additive step, kilobits per second.
        dctcp_step_kbps: u32,
        /// DCTCP's floor, kilobits per second.
        dctcp_min_kbps: u32,
        /// Constant rate, kilobits per second; zero is unlimited.
        const_rate_kbps: u32,
        /// ARP: first retry, microseconds.
        arp_timeout_us: u32,
        /// ARP: age at which an entry is asked for again, microseconds.
        arp_age_us: u32,
        /// TIME-WAIT, microseconds.
        time_wait_us: u32,
        /// Bit 0: ECN; bit 1: the port verifies receive checksums; bit 2: it computes transmit checksums.
        features: u32,
        /// Reply: number of this attachment.
        epoch: u32,
        /// Reply: 1 when flows of an earlier fast path are to be picked up.
        resumed: u32,
        /// Reply: keys of the flow hash.
        hash_key: [u64; 2],
        /// Zero.
        reserved: [u32; 4],
    }
}

/// Congestion control algorithms.
pub mod congestion {
    /// Rate-based DCTCP.
    pub const DCTCP_RATE: u32 = 1;
    /// NewReno (RFC 5681, RFC 6582).
    pub const NEWRENO: u32 = 2;
    /// Constant rate.
    pub const CONST_RATE: u32 = 3;
}

body! {
    /// ATTACH_APPLICATION.
    AttachApplication size 128 {
        /// Request: [`crate::version::APPLICATION_HASH`]. Reply on EPROTO: ours.
        abi_hash: u64,
        /// [`crate::version::APPLICATION_VERSION`].
        version: u32,
        /// Reply: application id.
        application: u32,
        /// Instance name, zero-padded; empty means `tas0`.
        instance: [u8; 16],
        /// Reply: fast-path cores. With the daemon the reply carries that many eventfds.
        cores: u32,
        /// Reply: flows of the instance.
        flows: u32,
        /// Reply: local IPv4 address, host order.
        ipv4: u32,
        /// Reply: prefix length.
        prefix: u32,
        /// Reply: MTU, bytes.
        mtu_bytes: u32,
        /// Reply: pool segments granted.
        pool_segments: u32,
        /// Reply: map segments granted.
        map_segments: u32,
        /// Reply: transmit buffer of a flow, bytes.
        tx_buffer_bytes: u32,
        /// Reply: receive buffer of a flow, bytes.
        rx_buffer_bytes: u32,
        /// Reply: microseconds without work before a thread or core sleeps.
        poll_interval_us: u32,
        /// Command name for `tasctl`, zero-padded.
        command: [u8; 16],
        /// Zero.
        reserved: [u32; 10],
    }
}

body! {
    /// ATTACH_CONTROL.
    AttachControl size 48 {
        /// Request: [`crate::version::CONTROL_HASH`]. Reply on EPROTO: ours.
        abi_hash: u64,
        /// [`crate::version::CONTROL_VERSION`].
        version: u32,
        /// Reply: fast-path cores of the instance.
        cores: u32,
        /// Instance name, zero-padded; empty means `tas0`.
        instance: [u8; 16],
        /// Zero.
        reserved: [u32; 4],
    }
}

body! {
    /// MAP, daemon only.
    MapRequest size 32 {
        /// [`crate::region::RegionKind`].
        kind: u32,
        /// Core, context or application.
        index: u32,
        /// Segment offset in bytes.
        byte_offset: u32,
        /// Reply: 1 if the caller may write.
        writable: u32,
        /// Reply: bytes.
        bytes: u64,
        /// Zero.
        reserved: u64,
    }
}

body! {
    /// ADD_ROUTE.
    Route size 24 {
        /// Destination, host order.
        destination: u32,
        /// Prefix length.
        prefix: u32,
        /// Next hop, host order.
        next_hop: u32,
        /// Zero.
        reserved: [u32; 3],
    }
}

body! {
    /// NEXT_NOTICE, NOTICE_DONE.
    Notice size 48 {
        /// See [`notice`].
        kind: u32,
        /// Echo it in NOTICE_DONE.
        sequence: u32,
        /// Application.
        application: u32,
        /// Context, or segment number (byte offset = number * SEGMENT_BYTES).
        index: u32,
        /// Zero.
        reserved: [u32; 8],
    }
}

/// Kinds of notices to the fast path. The slow path waits for NOTICE_DONE before it lets a flow
/// use what was added, or frees what was removed.
pub mod notice {
    /// Map context `index` of `application` and poll it.
    pub const CONTEXT_ADDED: u32 = 1;
    /// Stop polling context `index`, unmap it, answer when every core passed a quiescent point.
    pub const CONTEXT_REMOVED: u32 = 2;
    /// Map segment `index` of the application's pool.
    pub const POOL_SEGMENT: u32 = 3;
    /// Map segment `index` of the application's maps.
    pub const MAP_SEGMENT: u32 = 4;
    /// Unmap all of the application's pool and maps.
    pub const APPLICATION_REMOVED: u32 = 5;
}

body! {
    /// CREATE_CONTEXT reply.
    Context size 32 {
        /// Context id.
        context: u32,
        /// Entries of each ring with the fast path.
        entries: u32,
        /// Entries of the ring from the slow path.
        kernel_entries: u32,
        /// Fast-path cores.
        cores: u32,
        /// Bytes of the region.
        bytes: u64,
        /// Zero.
        reserved: u64,
    }
}

body! {
    /// GROW.
    Grow size 16 {
        /// [`crate::region::RegionKind::Pool`] or [`crate::region::RegionKind::Maps`].
        kind: u32,
        /// Reply: segments granted in all.
        segments: u32,
        /// Zero.
        reserved: [u32; 2],
    }
}

body! {
    /// SOCKET.
    Socket size 32 {
        /// The application's own value, returned in kernel events.
        opaque: u64,
        /// AF_INET.
        family: u32,
        /// O_CLOEXEC, O_NONBLOCK.
        file_flags: u32,
        /// Reply: socket id.
        socket: u32,
        /// Reply, kernel: descriptor number.
        descriptor: u32,
        /// Context that gets its kernel events.
        context: u32,
        /// Zero.
        reserved: u32,
    }
}

body! {
    /// BIND.
    Name size 32 {
        /// Address; the reply has the one bound.
        endpoint: Endpoint,
        /// Zero.
        reserved: u64,
    }
}

body! {
    /// CONNECT.
    Connect size 40 {
        /// Peer.
        remote: Endpoint,
        /// Context that gets its events.
        context: u32,
        /// Zero.
        reserved: [u32; 3],
    }
}

body! {
    /// ACCEPT request; it stands at offset 0 of the body, the reply is a [`FlowInfo`].
    Accept size 32 {
        /// The application's own value for the new socket.
        opaque: u64,
        /// O_CLOEXEC, O_NONBLOCK.
        file_flags: u32,
        /// Context that gets its events.
        context: u32,
        /// Zero.
        reserved: [u32; 4],
    }
}

body! {
    /// SHUTDOWN request.
    Shutdown size 16 {
        /// Position after the last byte the application wrote.
        tx_end: u64,
        /// Zero.
        reserved: u64,
    }
}

body! {
    /// FLOW_INFO and ACCEPT reply.
    FlowInfo size 120 {
        /// Local name.
        local: Endpoint,
        /// Peer's name.
        remote: Endpoint,
        /// Flow id.
        flow: u32,
        /// Generation.
        generation: u32,
        /// Core that owns the flow.
        core: u32,
        /// Buffer map record.
        buffers: u32,
        /// First position of the stream we receive.
        rx_start: u64,
        /// First position of the stream we send.
        tx_start: u64,
        /// ACCEPT: new socket id. FLOW_INFO: its own.
        socket: u32,
        /// ACCEPT, kernel: new descriptor.
        descriptor: u32,
        /// Effective MSS, bytes.
        mss_bytes: u32,
        /// Transmit buffer, bytes.
        tx_buffer_bytes: u32,
        /// Receive buffer, bytes.
        rx_buffer_bytes: u32,
        /// Values of [`tcp_state`].
        tcp_state: u32,
        /// Smoothed RTT, microseconds.
        srtt_us: u32,
        /// Context that gets its events.
        context: u32,
        /// Zero.
        reserved: u64,
    }
}

/// TCP states, numbered as in Linux's `TCP_INFO`.
pub mod tcp_state {
    /// ESTABLISHED.
    pub const ESTABLISHED: u32 = 1;
    /// SYN-SENT.
    pub const SYN_SENT: u32 = 2;
    /// SYN-RECEIVED.
    pub const SYN_RECEIVED: u32 = 3;
    /// FIN-WAIT-1.
    pub const FIN_WAIT1: u32 = 4;
    /// FIN-WAIT-2.
    pub const FIN_WAIT2: u32 = 5;
    /// TIME-WAIT.
    pub const TIME_WAIT: u32 = 6;
    /// CLOSED.
    pub const CLOSED: u32 = 7;
    /// CLOSE-WAIT.
    pub const CLOSE_WAIT: u32 = 8;
    /// LAST-ACK.
    pub const LAST_ACK: u32 = 9;
    /// LISTEN.
    pub const LISTEN: u32 = 10;
    /// CLOSING.
    pub const CLOSING: u32 = 11;
}

body! {
    /// SET_OPTION, GET_OPTION. (The name avoids `core::option::Option`.)
    Option_ size 32 {
        /// See [`option`].
        option: u32,
        /// Value.
        value: u32,
        /// Second value (linger time).
        value2: u32,
        /// Zero.
        reserved: [u32; 5],
    }
}

/// Socket options that the slow path acts on. The sockets layer keeps the rest.
pub mod option {
    /// SO_REUSEADDR.
    pub const REUSE_ADDRESS: u32 = 1;
    /// SO_REUSEPORT.
    pub const REUSE_PORT: u32 = 2;
    /// SO_LINGER: value on/off, value2 seconds. On with zero seconds makes close send RST.
    pub const LINGER: u32 = 3;
    /// SO_KEEPALIVE.
    pub const KEEPALIVE: u32 = 4;
    /// SO_RCVBUF: bytes of the receive buffer.
    pub const RECEIVE_BUFFER: u32 = 5;
    /// TCP_NODELAY.
    pub const NODELAY: u32 = 6;
    /// SO_ERROR: read and clear.
    pub const ERROR: u32 = 7;
    /// TCP_USER_TIMEOUT, milliseconds.
    pub const USER_TIMEOUT: u32 = 8;
    /// TCP_CONGESTION: values of [`congestion`](super::congestion).
    pub const CONGESTION: u32 = 9;
}

body! {
    /// NAMES reply.
    Names size 56 {
        /// Local.
        local: Endpoint,
        /// Remote; family zero when not connected.
        remote: Endpoint,
        /// Values of [`tcp_state`]; zero when neither bound nor connected.
        tcp_state: u32,
        /// Zero.
        reserved: u32,
    }
}

body! {
    /// STATUS reply.
    Status size 112 {
        /// Instance name.
        instance: [u8; 16],
        /// 1 if a fast path is attached.
        fastpath: u32,
        /// Cores.
        cores: u32,
        /// Flow slots.
        flows: u32,
        /// Flow slots in use.
        flows_used: u32,
        /// Applications attached.
        applications: u32,
        /// Contexts.
        contexts: u32,
        /// Listeners.
        listeners: u32,
        /// Connections in TIME-WAIT.
        time_wait: u32,
        /// Half-open connections.
        half_open: u32,
        /// Local address, host order.
        ipv4: u32,
        /// Prefix length.
        prefix: u32,
        /// MTU, bytes.
        mtu_bytes: u32,
        /// MAC address.
        mac: u64,
        /// Process id of the fast path.
        fastpath_pid: u32,
        /// Times a fast path attached.
        epoch: u32,
        /// Zero.
        reserved: [u32; 8],
    }
}

body! {
    /// FLOW_ENTRY, LISTEN_ENTRY reply.
    FlowEntry size 184 {
        /// Local name.
        local: Endpoint,
        /// Remote name.
        remote: Endpoint,
        /// Flow id (or socket id for a listener).
        id: u32,
        /// Values of [`tcp_state`].
        tcp_state: u32,
        /// Process id of the application, zero for an orphan.
        pid: u32,
        /// Core.
        core: u32,
        /// Command name.
        command: [u8; 16],
        /// Received and not yet read (listener: connections waiting).
        receive_queue: u32,
        /// Written and not yet acknowledged (listener: backlog).
        send_queue: u32,
        /// Payload bytes received.
        rx_bytes: u64,
        /// Payload bytes acknowledged.
        tx_bytes: u64,
        /// Smoothed RTT, microseconds.
        srtt_us: u32,
        /// Rate, kilobits per second.
        rate_kbps: u32,
        /// Congestion window, bytes.
        cwnd_bytes: u32,
        /// Peer's window, bytes.
        snd_wnd_bytes: u32,
        /// Fast retransmits.
        fast_retransmits: u32,
        /// Retransmission timeouts.
        timeouts: u32,
        /// Effective MSS, bytes.
        mss_bytes: u32,
        /// Options negotiated: bit 0 timestamps, 1 window scale, 2 SACK, 3 ECN.
        options: u32,
        /// Bytes acknowledged with ECE.
        ecn_bytes: u32,
        /// Congestion control.
        congestion: u32,
        /// User id of the application.
        uid: u32,
        /// Zero.
        reserved: [u32; 9],
    }
}

body! {
    /// APPLICATION_ENTRY reply.
    ApplicationEntry size 80 {
        /// Application id.
        id: u32,
        /// Process id.
        pid: u32,
        /// User id.
        uid: u32,
        /// Contexts.
        contexts: u32,
        /// Flows.
        flows: u32,
        /// Sockets.
        sockets: u32,
        /// Pool segments.
        pool_segments: u32,
        /// Map segments.
        map_segments: u32,
        /// Ring entries that were refused.
        faults: u64,
        /// Times the pool was empty.
        pool_empty: u64,
        /// Command name.
        command: [u8; 16],
        /// Zero.
        reserved: [u32; 4],
    }
}

body! {
    /// SLOW_COUNTERS reply, in the order of `slowpath::counters`.
    SlowCounters size 240 {
        /// Values.
        values: [u64; 30],
    }
}
