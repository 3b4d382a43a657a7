// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! What frames and options say, for the models of `fuzz/`.

use crate::{
    lookup::Tuple,
    wire::{address::Address, ethernet, ethernet::Ethernet, ipv4, ipv4::Ipv4, options, tcp},
};

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
}

impl Options {
    /// Reads the bytes between header and payload.
    pub fn parse(bytes: &[u8]) -> Self {
        let options::Options { mss, window_shift, timestamps, sack_permitted, .. } =
            options::Options::parse(bytes);
        Self { mss, window_shift, timestamps, sack_permitted }
    }

    /// Writes them; how many bytes.
    pub fn write(&self, bytes: &mut [u8]) -> usize {
        let Self { mss, window_shift, timestamps, sack_permitted } = *self;
        let options = options::Options { mss, window_shift, timestamps, sack_permitted, fast_open: None };
        options.write(bytes)
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
}

/// Writes a segment without payload from `addresses.0` to `addresses.1`; the length of the frame.
pub fn write(segment: &Parsed, addresses: (u32, u32), frame: &mut [u8]) -> usize {
    let Options { mss, window_shift, timestamps, sack_permitted } = segment.options;
    let (local, remote) = segment.ports;
    let outgoing = tcp::Outgoing {
        tuple: Tuple::new(Address::v4(addresses.0), local, Address::v4(addresses.1), remote),
        destination_mac: ethernet::BROADCAST,
        seq: segment.seq,
        ack: segment.ack,
        flags: segment.flags,
        window: segment.window,
        options: options::Options { mss, window_shift, timestamps, sack_permitted, fast_open: None },
    };
    outgoing.write(frame, 1, &[])
}

/// Parses a frame; `None` if it is not a whole TCP segment over IPv4.
pub fn parse(frame: &[u8]) -> Option<Parsed> {
    let header = Ethernet::parse(frame)?;
    let packet = frame.get(ethernet::HEADER_BYTES..)?;
    if header.ethertype != ethernet::IPV4 {
        return None;
    }
    let ip = Ipv4::parse(packet)?;
    if ip.fragment || ip.protocol != ipv4::TCP {
        return None;
    }
    let packet = packet.get(ip.header_bytes..ip.total_bytes)?;
    let (to, from) = (Address::v4(ip.destination), Address::v4(ip.source));
    let segment = tcp::Segment::parse(packet, to, from, header.source)?;
    let options::Options { mss, window_shift, timestamps, sack_permitted, .. } = segment.options;
    Some(Parsed {
        ports: (segment.tuple.local_port(), segment.tuple.remote_port()),
        seq: segment.seq,
        ack: segment.ack,
        flags: segment.flags,
        window: segment.window,
        options: Options { mss, window_shift, timestamps, sack_permitted },
        payload_bytes: segment.payload_bytes,
    })
}
