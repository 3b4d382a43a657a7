// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What frames and options say, for the models of `fuzz/`, and a fast path that lies.

use crate::{
    lookup::Tuple,
    wire::{address::Address, ethernet, ethernet::Ethernet, ipv4, ipv4::Ipv4, ipv6::Ipv6, options, tcp},
};
use abi::{core_status::CoreStatus, flow::HotFlow};
use core::sync::atomic::Ordering::Relaxed;

/// TCP options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Maximum segment size, bytes.
    pub mss: Option<u16>,
    /// Window shift, at most 14.
    pub window_shift: Option<u8>,
    /// TSval and TSecr.
    pub timestamps: Option<(u32, u32)>,
    /// SACK is permitted.
    pub sack_permitted: bool,
    /// Fast-open cookie, and how many of its bytes count.
    pub fast_open: Option<([u8; 16], usize)>,
}

impl Options {
    /// Reads the bytes between header and payload.
    pub fn parse(bytes: &[u8]) -> Self {
        Self::from(&options::Options::parse(bytes))
    }

    /// Writes them; how many bytes.
    pub fn write(&self, bytes: &mut [u8]) -> usize {
        self.inner().write(bytes)
    }

    fn from(options: &options::Options) -> Self {
        let options::Options { mss, window_shift, timestamps, sack_permitted, fast_open } = *options;
        let fast_open = fast_open.map(|cookie| {
            let mut bytes = [0; 16];
            crate::wire::put(&mut bytes, 0, cookie.bytes());
            (bytes, cookie.bytes().len())
        });
        Self { mss, window_shift, timestamps, sack_permitted, fast_open }
    }

    fn inner(&self) -> options::Options {
        let Self { mss, window_shift, timestamps, sack_permitted, fast_open } = *self;
        let fast_open = fast_open.and_then(|(bytes, length)| options::Cookie::new(bytes.get(..length)?));
        options::Options { mss, window_shift, timestamps, sack_permitted, fast_open }
    }
}

/// Writes `value` into one of the words that a fast path has to itself: of a flow, or its own clock. What it says then
/// is a lie.
pub fn lie(hot: &HotFlow, core: &CoreStatus, word: u32, value: u64) {
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
        _ => core.run_us.store(value, Relaxed),
    }
}

/// A segment as the slow path reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// Our port and the peer's.
    pub ports: (u16, u16),
    /// SEG.SEQ.
    pub seq: u32,
    /// SEG.ACK.
    pub ack: u32,
    /// TCP flags.
    pub flags: u8,
    /// SEG.WND, not scaled.
    pub window: u16,
    /// Options.
    pub options: Options,
    /// Bytes of payload.
    pub payload_bytes: u32,
    /// Sequence space it takes.
    pub length: u32,
    /// The IP header asks for a route that the sender chose.
    pub source_routed: bool,
}

/// Addresses in a frame: words in host order, four of IPv6, or one of IPv4 and zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addresses {
    /// From and to.
    V4(u32, u32),
    /// See above.
    V6([u32; 4], [u32; 4]),
}

/// Writes a segment with `payload` as from `addresses`; the length of the frame.
pub fn write(segment: &Parsed, addresses: Addresses, payload: &[u8], frame: &mut [u8]) -> usize {
    let (local, remote) = segment.ports;
    let (from, to) = match addresses {
        Addresses::V4(from, to) => (Address::v4(from), Address::v4(to)),
        Addresses::V6(from, to) => (Address::v6(from), Address::v6(to)),
    };
    let outgoing = tcp::Outgoing {
        tuple: Tuple::new(from, local, to, remote),
        destination_mac: ethernet::BROADCAST,
        seq: segment.seq,
        ack: segment.ack,
        flags: segment.flags,
        window: segment.window,
        options: segment.options.inner(),
    };
    outgoing.write(frame, 1, payload)
}

/// The segment in a frame, and whether its route was chosen by the sender.
fn segment_of(frame: &[u8]) -> Option<(tcp::Segment, bool)> {
    let header = Ethernet::parse(frame)?;
    let packet = frame.get(ethernet::HEADER_BYTES..)?;
    match header.ethertype {
        ethernet::IPV4 => {
            let ip = Ipv4::parse(packet).filter(|ip| ip.fragment.is_none() && ip.protocol == ipv4::TCP)?;
            let options = packet.get(ipv4::HEADER_BYTES..ip.header_bytes)?;
            let (to, from) = (Address::v4(ip.destination), Address::v4(ip.source));
            let packet = packet.get(ip.header_bytes..ip.total_bytes)?;
            let segment = tcp::Segment::parse(packet, to, from, header.source)?;
            Some((segment, ipv4::is_source_routed(options)))
        }
        ethernet::IPV6 => {
            let ip = Ipv6::parse(packet).filter(|ip| ip.fragment.is_none() && ip.protocol == ipv4::TCP)?;
            let packet = packet.get(ip.header_bytes..ip.total_bytes)?;
            Some((tcp::Segment::parse(packet, ip.destination, ip.source, header.source)?, false))
        }
        _ => None,
    }
}

/// Parses a frame; `None` if it is not a whole TCP segment over IP.
pub fn parse(frame: &[u8]) -> Option<Parsed> {
    let (segment, source_routed) = segment_of(frame)?;
    Some(Parsed {
        ports: (segment.tuple.local_port(), segment.tuple.remote_port()),
        seq: segment.seq,
        ack: segment.ack,
        flags: segment.flags,
        window: segment.window,
        options: Options::from(&segment.options),
        payload_bytes: segment.payload_bytes,
        length: segment.length(),
        source_routed,
    })
}

/// Whether the segment in a frame is older than `ts_recent` (PAWS).
pub fn is_older_than(frame: &[u8], ts_recent: u32) -> bool {
    segment_of(frame).is_some_and(|(segment, _)| segment.is_older_than(ts_recent))
}
