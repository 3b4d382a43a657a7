// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Bodies of the calls that attach, set up memory and talk with the fast path.

use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Body, BODY_BYTES};

body! {
    /// ATTACH_FAST. The fast path gives what the port and the operator decide.
    AttachFast size 200 {
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
        /// DCTCP's additive step per control interval, kilobits per second; zero: a segment per RTT for each RTT.
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
        /// Local IPv6 address, a global one, four words in host order, most significant first. Zero: the
        /// instance has no IPv6. The port then has to receive the groups 33:33:xx:xx:xx:xx as well.
        ipv6: [u32; 4],
        /// Local IPv6 address of the link. Request: zero lets the slow path derive it from the MAC address
        /// (RFC 4291, appendix A). Reply: the one in use.
        ipv6_link_local: [u32; 4],
        /// Prefix length of `ipv6`.
        ipv6_prefix: u32,
        /// Zero.
        reserved: [u32; 3],
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
    AttachApplication size 136 {
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
        /// Reply: local IPv6 address, or zero if the instance has none.
        ipv6: [u32; 4],
        /// Reply: local IPv6 address of the link.
        ipv6_link_local: [u32; 4],
        /// Reply: prefix length of `ipv6`.
        ipv6_prefix: u32,
        /// Zero.
        reserved: [u32; 3],
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
    /// ADD_ROUTE. Addresses as in [`Endpoint`](super::Endpoint).
    Route size 48 {
        /// Destination.
        destination: [u32; 4],
        /// Next hop; for IPv6 it may be a link-local address.
        next_hop: [u32; 4],
        /// Prefix length.
        prefix: u32,
        /// [`AF_INET`](super::AF_INET) or [`AF_INET6`](super::AF_INET6).
        family: u32,
        /// Zero.
        reserved: [u32; 2],
    }
}

impl Route {
    /// An IPv4 route, addresses in host order.
    pub const fn ipv4(destination: u32, prefix: u32, next_hop: u32) -> Self {
        let family = super::AF_INET as u32;
        Self {
            destination: [destination, 0, 0, 0],
            next_hop: [next_hop, 0, 0, 0],
            prefix,
            family,
            reserved: [0; 2],
        }
    }
    /// An IPv6 route.
    pub const fn ipv6(destination: [u32; 4], prefix: u32, next_hop: [u32; 4]) -> Self {
        Self { destination, next_hop, prefix, family: super::AF_INET6 as u32, reserved: [0; 2] }
    }
    /// Destination, prefix length and next hop of an IPv4 route.
    pub const fn as_ipv4(&self) -> Option<(u32, u32, u32)> {
        let ([destination, ..], [next_hop, ..]) = (self.destination, self.next_hop);
        if self.family == super::AF_INET as u32 {
            Some((destination, self.prefix, next_hop))
        } else {
            None
        }
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
