// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The SYN queue: connections between the peer's SYN and its ACK of our SYN-ACK.

use super::limits::LastAnswer;
use crate::wire::service::Service;
use abi::flow::NONE;

/// A half-open connection; its four-tuple is in the lookup table.
#[derive(Debug, Clone, Copy)]
pub struct HalfOpen {
    pub(crate) used: bool,
    /// Options negotiated.
    pub(crate) timestamps: bool,
    pub(crate) window_scale: bool,
    pub(crate) sack: bool,
    pub(crate) ecn: bool,
    pub(crate) waits_for_arp: bool,
    /// The SYN-ACK brings a fast-open cookie (RFC 7413).
    pub(crate) offers_cookie: bool,
    /// It is a connection already, or was one before it was reset, and counts against the limit of RFC 7413 §5.1.
    pub(crate) fast: bool,
    pub(crate) peer_shift: u8,
    /// SYN-ACKs sent.
    pub(crate) sent: u8,
    pub(crate) peer_mss: u16,
    /// The listener's TCP_MAXSEG when the SYN came.
    pub(crate) max_segment: u16,
    /// The listener's IP_TOS and IP_TTL when the SYN came.
    pub(crate) service: Service,
    pub(crate) iss: u32,
    pub(crate) irs: u32,
    pub(crate) ts_recent: u32,
    /// The connection that fast open made of it.
    pub(crate) flow: u32,
    /// Listening socket, and its generation.
    pub(crate) listener: u32,
    pub(crate) generation: u32,
    pub(crate) neighbor: u32,
    /// Core the SYN came from.
    pub(crate) core: u32,
    /// Receive buffer promised, bytes: the listener's when the SYN came.
    pub(crate) buffer_bytes: u32,
    /// When an unacceptable segment was answered last.
    pub(crate) answered: LastAnswer,
    /// When the last SYN-ACK was sent, for the first RTT sample.
    pub(crate) sent_us: u64,
    /// Next of the free list.
    pub(crate) next: u32,
}

impl Default for HalfOpen {
    fn default() -> Self {
        Self {
            used: false,
            timestamps: false,
            window_scale: false,
            sack: false,
            ecn: false,
            waits_for_arp: false,
            offers_cookie: false,
            fast: false,
            peer_shift: 0,
            sent: 0,
            peer_mss: 0,
            max_segment: 0,
            service: Service::DEFAULT,
            iss: 0,
            irs: 0,
            ts_recent: 0,
            flow: NONE,
            listener: NONE,
            generation: 0,
            neighbor: NONE,
            core: 0,
            buffer_bytes: 0,
            answered: LastAnswer::NEVER,
            sent_us: 0,
            next: NONE,
        }
    }
}
