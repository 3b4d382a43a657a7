// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The flow table: a hot part of two cache lines that the fast path writes, and a cold part that
//! the slow path writes. Both are indexed by the 32-bit flow id.

use core::sync::atomic::{AtomicU32, AtomicU64};

/// No flow, no adjacency, no recovery block.
pub const NONE: u32 = u32::MAX;
/// Context part of an owner word when no context is attached (orphan, or not yet accepted).
pub const CONTEXT_NONE: u16 = u16::MAX;
/// Rate that means "no limit". Zero means stop.
pub const RATE_UNLIMITED: u32 = u32::MAX;

/// Bits of [`HotFlow::flags`]. The fast path is the only writer while the flow is installed.
pub mod hot_flags {
    /// The entry belongs to an installed flow.
    pub const INSTALLED: u32 = 1 << 0;
    /// Timestamps were negotiated (RFC 7323).
    pub const TIMESTAMPS: u32 = 1 << 1;
    /// ECN was negotiated (RFC 3168, RFC 8257).
    pub const ECN: u32 = 1 << 2;
    /// SACK was permitted by the peer (RFC 2018).
    pub const SACK: u32 = 1 << 3;
    /// The application or the slow path asked for a FIN after `snd_end`.
    pub const FIN_QUEUED: u32 = 1 << 4;
    /// The FIN was sent at least once; it occupies position `snd_end`.
    pub const FIN_SENT: u32 = 1 << 5;
    /// Our FIN was acknowledged.
    pub const FIN_ACKED: u32 = 1 << 6;
    /// The peer's FIN was received in order; it occupies position `rcv_nxt - 1`.
    pub const FIN_RECEIVED: u32 = 1 << 7;
    /// The slow path was told that this flow has unacknowledged or unsent data.
    pub const ACTIVE: u32 = 1 << 8;
    /// Acknowledgements carry ECE: the last data segment carried CE (RFC 8257 §3.2), or one did and the peer has
    /// not answered CWR ([`control_flags::ECHO_UNTIL_CWR`](super::control_flags::ECHO_UNTIL_CWR)).
    pub const ECN_ECHO: u32 = 1 << 9;
    /// An acknowledgement is owed (delayed ACK, RFC 9293 §3.8.6.3).
    pub const ACK_PENDING: u32 = 1 << 10;
    /// An event to the application is owed (its ring was full, or the batch is still open).
    pub const EVENT_PENDING: u32 = 1 << 11;
    /// The flow is in the transmit scheduler.
    pub const SCHEDULED: u32 = 1 << 12;
    /// In fast recovery, until all that was sent when it began is acknowledged (RFC 6582). The fast path
    /// keeps that position privately; a restart ends recovery.
    pub const RECOVERY: u32 = 1 << 13;
    /// The application no longer reads (shut down or dead): arriving data is answered by RST.
    pub const RECEIVE_CLOSED: u32 = 1 << 14;
    /// The peer's FIN was received before a FIN of ours was asked for: no TIME-WAIT here.
    pub const REMOTE_CLOSED_FIRST: u32 = 1 << 15;
    /// Since the last probe the peer sent a segment that changed nothing else here: it is alive. Cleared by PROBE.
    pub const HEARD: u32 = 1 << 18;
    /// Something is unusual about what was sent: the peer sent duplicate acknowledgements, or the flow has a
    /// scoreboard. The window is then computed away from the hot path.
    pub const DISORDER: u32 = 1 << 16;
    /// The flow's recovery block holds a scoreboard of what was sent (RFC 2018, RFC 8985).
    pub const SCOREBOARD: u32 = 1 << 17;
    /// The flow is IPv6: `remote_ip` and `local_ip` hold folds ([`address_fold`](super::address_fold)) and the
    /// addresses are in [`ColdFlow`](super::ColdFlow). Set by the slow path before INSTALL.
    pub const IPV6: u32 = 1 << 19;
    /// The application has closed the connection, and keeps it only until its data is acknowledged.
    pub const ABANDONED: u32 = 1 << 20;
    /// The peer has not acknowledged our SYN yet (RFC 7413: data is exchanged before). With [`DISORDER`], so that
    /// the first acknowledgement is looked at away from the hot path.
    pub const SYN_RECEIVED: u32 = 1 << 21;
    /// A segment longer than the MSS was sent as a probe of the path's MTU (RFC 4821), and is not known to be lost. The
    /// probe passed if this is still set when it is acknowledged.
    pub const PATH_PROBE: u32 = 1 << 22;
    /// First bit free for the fast path's private use.
    pub const PRIVATE_SHIFT: u32 = 24;
}

/// The part of a flow that every packet touches: two cache lines, written by the fast-path core
/// that owns the flow (by the slow path only before INSTALL and after REMOVED).
///
/// Positions are sequence numbers extended to 64 bits; see the crate documentation. `rcv_nxt` and
/// `snd_una` are the commit points: stored last, before the ACK respectively the event leaves.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct HotFlow {
    /// Peer's IPv4 address, host order; for IPv6 its fold ([`address_fold`]), the full address is in [`ColdFlow`].
    pub remote_ip: AtomicU32,
    /// Local port in the high half, remote port in the low half, host order.
    pub ports: AtomicU32,
    /// Local IPv4 address, host order, or fold.
    pub local_ip: AtomicU32,
    /// See [`hot_flags`].
    pub flags: AtomicU32,
    /// Next position expected from the peer. Data before it is in the chunks.
    pub rcv_nxt: AtomicU64,
    /// Position up to which the application has read.
    pub rcv_read: AtomicU64,
    /// Oldest unacknowledged position.
    pub snd_una: AtomicU64,
    /// Next position to send.
    pub snd_nxt: AtomicU64,
    /// Peer's window in bytes, already scaled, counted from `snd_una`.
    pub snd_wnd: AtomicU32,
    /// TS.Recent (RFC 7323 §4.3).
    pub ts_recent: AtomicU32,
    /// Application id in the high half, context id in the low half. See [`owner`].
    pub owner: AtomicU32,
    /// Index of the flow's record in the application's buffer maps; see [`crate::pool`].
    pub buffers: AtomicU32,

    /// Position up to which the application has written.
    pub snd_end: AtomicU64,
    /// Highest position ever sent; `snd_nxt` falls behind it after a retransmission timeout.
    pub snd_max: AtomicU64,
    /// Low 32 bits of the highest right window edge advertised; it never moves left.
    pub rcv_adv: AtomicU32,
    /// Effective MSS (low 16 bits), peer's window shift (next 8), our window shift (top 8).
    pub mss_scale: AtomicU32,
    /// Allowed rate in kilobits per second; zero stops, [`RATE_UNLIMITED`] does not pace. Copy of
    /// the cold value.
    pub rate_kbps: AtomicU32,
    /// Congestion window in bytes. Copy of the cold value, halved here on a fast retransmit.
    pub cwnd_bytes: AtomicU32,
    /// Index into the adjacency table.
    pub adjacency: AtomicU32,
    /// Index of the recovery block, or [`NONE`].
    pub recovery: AtomicU32,
    /// Bytes acknowledged since the flow began, wrapping. Sampled by the slow path.
    pub acked_bytes: AtomicU32,
    /// Bytes acknowledged with ECE since the flow began, wrapping.
    pub ecn_bytes: AtomicU32,
    /// Last RTT sample in microseconds (low 24 bits) and a wrapping count of samples (top 8).
    pub rtt_sample: AtomicU32,
    /// Recoveries since the flow began, less those that were undone, wrapping (low 16 bits); duplicate ACKs in
    /// a row (next 8 bits); timeouts that turned out to be spurious, wrapping (top 8).
    pub loss_counts: AtomicU32,
    /// Receive buffer in bytes: the window offered is `rcv_read + rcv_buffer - rcv_nxt`.
    pub rcv_buffer_bytes: AtomicU32,
    /// Distinguishes successive flows in one slot; application events carry it.
    pub generation: AtomicU32,
}
assert_layout!(HotFlow, size 128,
    remote_ip @ 0, ports @ 4, local_ip @ 8, flags @ 12, rcv_nxt @ 16, rcv_read @ 24, snd_una @ 32,
    snd_nxt @ 40, snd_wnd @ 48, ts_recent @ 52, owner @ 56, buffers @ 60, snd_end @ 64,
    snd_max @ 72, rcv_adv @ 80, mss_scale @ 84, rate_kbps @ 88, cwnd_bytes @ 92, adjacency @ 96,
    recovery @ 100, acked_bytes @ 104, ecn_bytes @ 108, rtt_sample @ 112, loss_counts @ 116,
    rcv_buffer_bytes @ 120, generation @ 124,
);

/// Life of a flow slot, in [`ColdFlow::state`].
pub mod slot_state {
    /// Free.
    pub const FREE: u32 = 0;
    /// Taken by the slow path, not yet known to the fast path.
    pub const RESERVED: u32 = 1;
    /// INSTALL was sent to the owning core; a re-attaching fast path picks these up.
    pub const INSTALLED: u32 = 2;
    /// REMOVE was sent; free after the core answered REMOVED.
    pub const REMOVING: u32 = 3;
}

/// The part of a flow that only the slow path writes. The fast path reads it on INSTALL and UPDATE.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct ColdFlow {
    /// Local address: IPv4 in word 0 (host order), or the four words of an IPv6 address, most significant
    /// first, each in host order.
    pub local_address: [AtomicU32; 4],
    /// Remote address, as above.
    pub remote_address: [AtomicU32; 4],
    /// Local port in the high half, remote port in the low half, host order.
    pub ports: AtomicU32,
    /// 4 or 6.
    pub ip_version: AtomicU32,
    /// See [`slot_state`].
    pub state: AtomicU32,
    /// Core that owns the flow.
    pub core: AtomicU32,
    /// Application and context; see [`owner`].
    pub owner: AtomicU32,
    /// Rate from congestion control and policy, kilobits per second.
    pub rate_kbps: AtomicU32,
    /// Congestion window in bytes.
    pub cwnd_bytes: AtomicU32,
    /// Adjacency index.
    pub adjacency: AtomicU32,
    /// Buffer map record.
    pub buffers: AtomicU32,
    /// Slot generation.
    pub generation: AtomicU32,
    /// Socket id, for `tasctl flows`.
    pub socket: AtomicU32,
    /// TCP state as the slow path sees it; values of `message::tcp_state`.
    pub tcp_state: AtomicU32,
    /// Added to our clock to make TSval (RFC 7323 §7.1: random per connection); see
    /// [`crate::clock::timestamp_value`].
    pub timestamp_offset: AtomicU32,
    /// Smoothed RTT in microseconds, as last computed by the slow path.
    pub srtt_us: AtomicU32,
    /// Retransmission timeouts taken so far.
    pub timeouts: AtomicU32,
    /// Receive buffer in bytes.
    pub rcv_buffer_bytes: AtomicU32,
    /// See [`control_flags`].
    pub control: AtomicU32,
    /// Start of the stream we send (position after our SYN), low and high word.
    pub snd_start: [AtomicU32; 2],
    /// Start of the stream we receive (position after the peer's SYN), low and high word.
    pub rcv_start: [AtomicU32; 2],
    /// Effective MSS, bytes: what the peer and the path (RFC 1191) take, less options. The fast path follows it
    /// at UPDATE.
    pub mss_bytes: AtomicU32,
    /// What the application chose of the IP header: DiffServ field (low 8 bits, ECN bits zero), time to live or
    /// zero for the default (next 8). The fast path follows it at UPDATE.
    pub service: AtomicU32,
    /// Zero; room for IPv6 scope, VLAN and policy.
    pub reserved: [AtomicU32; 1],
}
assert_layout!(ColdFlow, size 128,
    local_address @ 0, remote_address @ 16, ports @ 32, ip_version @ 36, state @ 40, core @ 44,
    owner @ 48, rate_kbps @ 52, cwnd_bytes @ 56, adjacency @ 60, buffers @ 64, generation @ 68,
    socket @ 72, tcp_state @ 76, timestamp_offset @ 80, srtt_us @ 84, timeouts @ 88,
    rcv_buffer_bytes @ 92, control @ 96, snd_start @ 100, rcv_start @ 108, mss_bytes @ 116,
    service @ 120, reserved @ 124,
);

/// Bits of [`ColdFlow::control`].
pub mod control_flags {
    /// Nobody will read what arrives.
    pub const RECEIVE_CLOSED: u32 = 1 << 0;
    /// TCP_NODELAY.
    pub const NODELAY: u32 = 1 << 1;
    /// Echo a CE mark until the peer answers CWR (RFC 3168 §6.1.3); else ECE follows the marks (RFC 8257 §3.2).
    pub const ECHO_UNTIL_CWR: u32 = 1 << 2;
    /// The connection is dead, and only its data and its socket are left: its four-tuple may be another's by now, so
    /// no segment is for it.
    pub const DETACHED: u32 = 1 << 3;
}

/// Packs an owner word from an application and a context id.
#[inline]
pub const fn owner(application: u16, context: u16) -> u32 {
    ((application as u32) << 16) | context as u32
}

/// Application id of an owner word.
#[inline]
pub const fn owner_application(owner: u32) -> u16 {
    (owner >> 16) as u16
}

/// Context id of an owner word.
#[inline]
pub const fn owner_context(owner: u32) -> u16 {
    owner as u16
}

/// Packs `mss_scale`.
#[inline]
pub const fn mss_scale(mss_bytes: u16, peer_shift: u8, our_shift: u8) -> u32 {
    mss_bytes as u32 | (peer_shift as u32) << 16 | (our_shift as u32) << 24
}

/// An IPv6 address, four words in host order, most significant first, in the 32 bits where an IPv4 address has its
/// place: addresses that differ in one word differ here too. No key: whoever looks up by it compares the address.
#[inline]
pub const fn address_fold(words: [u32; 4]) -> u32 {
    let [a, b, c, d] = words;
    a.rotate_left(5) ^ b.rotate_left(13) ^ c.rotate_left(22) ^ d
}

/// Extends a 32-bit sequence number to the position nearest to `near`.
#[inline]
pub const fn extend(sequence: u32, near: u64) -> u64 {
    near.wrapping_add(sequence.wrapping_sub(near as u32) as i32 as i64 as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extend_crosses_the_wrap_both_ways() {
        assert_eq!(extend(5, 0x1_ffff_fff0), 0x2_0000_0005);
        assert_eq!(extend(0xffff_fff0, 0x2_0000_0005), 0x1_ffff_fff0);
        assert_eq!(extend(7, 0x3_0000_0007), 0x3_0000_0007);
    }

    #[test]
    fn a_fold_sees_every_word() {
        let base = [0x2001_0db8, 7, 0x0211_22ff, 0xfe33_4455];
        let mut folds = std::vec![address_fold(base)];
        for index in 0..4 {
            let mut other = base;
            other[index] ^= 1;
            folds.push(address_fold(other));
        }
        folds.push(address_fold([base[1], base[0], base[2], base[3]]));
        folds.sort_unstable();
        folds.dedup();
        assert_eq!(folds.len(), 6);
    }

    #[test]
    fn owner_round_trips() {
        let word = owner(3, 9);
        assert_eq!((owner_application(word), owner_context(word)), (3, 9));
    }
}
