// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Bodies of the calls of `tasctl`.

use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Body, Endpoint, BODY_BYTES};

body! {
    /// STATUS reply.
    Status size 120 {
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
        /// Local IPv6 address, or zero if the instance has none.
        ipv6: [u32; 4],
        /// Local IPv6 address of the link.
        ipv6_link_local: [u32; 4],
        /// Prefix length of `ipv6`.
        ipv6_prefix: u32,
        /// Zero.
        reserved: u32,
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
    /// SLOW_COUNTERS reply, in the order of `slowpath::counters`, from number `Message::object` on.
    SlowCounters size 240 {
        /// Values.
        values: [u64; 30],
    }
}
