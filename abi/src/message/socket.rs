// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Bodies of the calls on sockets.

use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Body, BODY_BYTES};

/// Family of an IPv4 endpoint.
pub const AF_INET: u16 = 2;
/// Family of an IPv6 endpoint.
pub const AF_INET6: u16 = 10;

body! {
    /// An address and a port.
    Endpoint size 24 {
        /// IPv4: word 0 in host order, others zero. IPv6: four words, most significant first.
        address: [u32; 4],
        /// Port, host order.
        port: u16,
        /// [`AF_INET`] or [`AF_INET6`]; zero is unspecified. A socket of family AF_INET6 is told of IPv4 peers
        /// and addresses in the form ::ffff:a.b.c.d (RFC 4291 §2.5.5.2), and may name them so.
        family: u16,
        /// IPv6 scope (an interface index): kept for link-local addresses, zero for others.
        scope: u32,
    }
}

impl Endpoint {
    /// An IPv4 endpoint, address in host order.
    pub const fn ipv4(address: u32, port: u16) -> Self {
        Self { address: [address, 0, 0, 0], port, family: AF_INET, scope: 0 }
    }
    /// An IPv6 endpoint, address in four words of host order, most significant first.
    pub const fn ipv6(address: [u32; 4], port: u16, scope: u32) -> Self {
        Self { address, port, family: AF_INET6, scope }
    }
    /// An IPv4 endpoint as a socket of family AF_INET6 sees it: ::ffff:a.b.c.d.
    pub const fn ipv4_mapped(address: u32, port: u16) -> Self {
        Self::ipv6([0, 0, 0xffff, address], port, 0)
    }
    /// The IPv4 address in host order, if it is one.
    pub const fn as_ipv4(&self) -> Option<u32> {
        let [address, ..] = self.address;
        if self.family == AF_INET {
            Some(address)
        } else {
            None
        }
    }
    /// The IPv6 address, if it is one (an IPv4 address in mapped form is one).
    pub const fn as_ipv6(&self) -> Option<[u32; 4]> {
        if self.family == AF_INET6 {
            Some(self.address)
        } else {
            None
        }
    }
    /// The IPv4 address in an endpoint of family AF_INET6, if it is of the mapped form.
    pub const fn as_ipv4_mapped(&self) -> Option<u32> {
        match (self.family, self.address) {
            (AF_INET6, [0, 0, 0xffff, address]) => Some(address),
            _ => None,
        }
    }
}

body! {
    /// SOCKET.
    Socket size 32 {
        /// The application's own value, returned in kernel events.
        opaque: u64,
        /// [`AF_INET`] or [`AF_INET6`].
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
        /// Reply to [`connect_flags`]: bytes of data that went with the SYN; or that may go with it, while there is none.
        syn_bytes: u32,
        /// Reply to [`connect_flags`]: 1 if a SYN is on its way.
        started: u32,
        /// Zero.
        reserved: u32,
    }
}

/// Flags of CONNECT: fast open (RFC 7413).
pub mod connect_flags {
    /// Ask for a cookie, or use the one of this peer and send the data of [`Op::SynData`](super::Op::SynData) with
    /// the SYN.
    pub const FAST_OPEN: u32 = 1;
    /// As FAST_OPEN, but if data could go with the SYN nothing is sent: it is for the next CONNECT to do.
    pub const DEFER: u32 = 2;
}

/// Data in one [`SynData`].
pub const SYN_DATA_BYTES: usize = BODY_BYTES;

body! {
    /// SYN_DATA.
    SynData size 240 {
        /// The data, as much of it as `flags` says.
        bytes: [u8; SYN_DATA_BYTES],
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
        /// What was negotiated: [`negotiated`].
        options: u32,
        /// Bytes of data that went with the SYN and were taken (RFC 7413): ours before `tx_start`, or the peer's.
        syn_data_bytes: u32,
    }
}

/// Bits of [`FlowInfo::options`], numbered as Linux's `TCPI_OPT_*`.
pub mod negotiated {
    /// Timestamps (RFC 7323).
    pub const TIMESTAMPS: u32 = 1;
    /// Selective acknowledgements (RFC 2018).
    pub const SACK: u32 = 2;
    /// Window scaling (RFC 7323).
    pub const WINDOW_SCALE: u32 = 4;
    /// ECN (RFC 3168).
    pub const ECN: u32 = 8;
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
        /// Third and fourth value (of a key).
        more: [u32; 2],
        /// Zero.
        reserved: [u32; 3],
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
    /// TCP_KEEPIDLE, seconds.
    pub const KEEPALIVE_IDLE: u32 = 10;
    /// TCP_KEEPINTVL, seconds.
    pub const KEEPALIVE_INTERVAL: u32 = 11;
    /// TCP_KEEPCNT.
    pub const KEEPALIVE_COUNT: u32 = 12;
    /// TCP_SYNCNT: SYNs sent after the first; zero is the instance's default.
    pub const SYN_COUNT: u32 = 13;
    /// TCP_MAXSEG: largest MSS announced and sent, bytes, before a connection begins; zero is the MTU's.
    pub const MAX_SEGMENT: u32 = 14;
    /// IPV6_V6ONLY: an AF_INET6 socket takes no IPv4 connections. Before it is bound.
    pub const V6ONLY: u32 = 15;
    /// IP_TOS: DiffServ field of every segment (RFC 9293 MUST-48); the two ECN bits are the stack's.
    pub const TRAFFIC_CLASS: u32 = 20;
    /// IP_TTL: time to live of every segment (RFC 9293 MUST-49); zero is the default.
    pub const HOP_LIMIT: u32 = 21;
    /// IP_RECVERR: errors that do not end a connection are told at once, by `kernel_event::SOFT_ERROR`.
    pub const RECEIVE_ERRORS: u32 = 22;
    /// TCP_FASTOPEN: connections whose peers sent data with their SYN and have not completed the handshake, at most;
    /// zero switches it off (RFC 7413 §5.1).
    pub const FAST_OPEN: u32 = 24;
    /// TCP_FASTOPEN_NO_COOKIE: data goes, and is taken, with a SYN without a cookie.
    pub const FAST_OPEN_NO_COOKIE: u32 = 25;
    /// TCP_FASTOPEN_KEY: 16 bytes in the four values, little-endian. Cookies are made with it from now on.
    pub const FAST_OPEN_KEY: u32 = 26;
    /// The second half of TCP_FASTOPEN_KEY: cookies made with it are good, too.
    pub const FAST_OPEN_BACKUP_KEY: u32 = 27;
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
