// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host under test, its clock, and the wire to the tool.

use crate::settings::Settings;
use sim::{Host, HostConfig, WirePort};
use std::{
    collections::VecDeque,
    io,
    sync::{
        atomic::{AtomicU64, Ordering::Relaxed},
        Arc,
    },
};
use tas::sockets::{attach_to, open, sockopt};

/// When the script begins, microseconds: no time of the stack's may be zero by chance.
const START_US: u64 = 5_000_000;
const SEED: u64 = 0x7a5;
/// Loops of the core at one instant: more than a close waits for with a full ring of last words.
const LOOPS: usize = 40;
/// Rounds at one instant: far more than any exchange needs.
const ROUNDS_MAX: usize = 1000;
/// Bytes of an Ethernet header.
const ETHERNET_BYTES: usize = 14;
/// The neighbours' MAC address.
const REMOTE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// A datagram that the host sent, and when.
pub(crate) struct Sent {
    pub(crate) at_us: u64,
    pub(crate) datagram: Vec<u8>,
}

pub(crate) struct World {
    host: Host<WirePort>,
    port: WirePort,
    now_us: Arc<AtomicU64>,
    /// A socket of ours: a call on it makes the library look at its rings.
    pump: i32,
    mtu_bytes: usize,
    pub(crate) sent: VecDeque<Sent>,
}

impl World {
    pub(crate) fn new(settings: &Settings) -> io::Result<Self> {
        let now_us = Arc::new(AtomicU64::new(START_US));
        let port = WirePort::default();
        let config = HostConfig { ipv4: settings.local.into(), ..HostConfig::numbered(1, SEED) };
        let mut host = Host::tuned(config, port.clone(), now_us.clone(), |body| settings.apply(body))?;
        attach_to(&host.application()?)?;
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let pump = open::socket(libc::AF_INET, kind, 0).and_then(Result::ok).ok_or(io::ErrorKind::Other)?;
        host.carry_out_notices()?;
        let mtu_bytes = settings.mtu_bytes as usize;
        let mut world = Self { host, port, now_us, pump, mtu_bytes, sent: VecDeque::new() };
        world.settle();
        Ok(world)
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.now_us.load(Relaxed)
    }

    /// The peer sends a datagram.
    pub(crate) fn inject(&mut self, datagram: &[u8]) {
        for segment in segments(datagram, self.mtu_bytes) {
            self.deliver(&segment);
        }
        self.settle();
    }

    fn deliver(&self, datagram: &[u8]) {
        let kind: [u8; 2] =
            if datagram.first().is_some_and(|first| first >> 4 == 6) { [0x86, 0xdd] } else { [8, 0] };
        let frame = [&self.host.config().mac[..], &REMOTE_MAC, &kind, datagram].concat();
        self.port.inject(&frame);
    }

    /// Runs what is due now, and takes what the host sent.
    pub(crate) fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.pump();
            // A core that polls goes round many times between two instants: a close waits for that.
            self.host.spin(LOOPS);
            if let Err(error) = self.host.step() {
                eprintln!("libtas_packetdrill: {error}");
                return;
            }
            self.pump();
            let mut asked = false;
            while let Some(frame) = self.port.sent() {
                asked |= self.take(&frame);
            }
            // The slow path may have left something for the core after the core's last turn.
            if !asked && self.host.core_mut().prepare_sleep() {
                let now_us = self.now_us();
                self.host.core_mut().finish_sleep(now_us);
                return;
            }
        }
    }

    fn pump(&self) {
        if let Some(tas::sockets::Entry::Stream(token)) = tas::sockets::find(self.pump) {
            let (mut value, mut length) = (0i32, size_of::<i32>() as u32);
            // SAFETY: the value is writable for its length.
            let _ = unsafe {
                sockopt::get(token, libc::SOL_SOCKET, libc::SO_TYPE, (&raw mut value).cast(), &mut length)
            };
        }
    }

    /// Takes a frame of the host's. True: it was a question, and the answer is on its way.
    fn take(&mut self, frame: &[u8]) -> bool {
        match frame.get(12..ETHERNET_BYTES) {
            Some([8, 6]) => match self.arp_reply(frame) {
                Some(reply) => self.port.inject(&reply),
                None => return false,
            },
            Some(_) => {
                let datagram = frame[ETHERNET_BYTES..].to_vec();
                self.sent.push_back(Sent { at_us: self.now_us(), datagram });
                return false;
            }
            None => return false,
        }
        true
    }

    /// Every address but the host's own is a neighbour's (RFC 826).
    fn arp_reply(&self, request: &[u8]) -> Option<Vec<u8>> {
        let own: [u8; 4] = self.host.config().ipv4.to_be_bytes();
        let body = request.get(ETHERNET_BYTES..ETHERNET_BYTES + 28)?;
        let (asked, target) = (body.get(6..8)? == [0, 1], body.get(24..28)?);
        if !asked || target == own {
            return None;
        }
        let mac = self.host.config().mac;
        Some([&mac[..], &REMOTE_MAC, &[8, 6], &body[..6], &[0, 2], &REMOTE_MAC, target, &mac, &own].concat())
    }

    /// Moves the clock to the next thing that happens by itself, at most to `limit_us`, and runs it.
    pub(crate) fn advance(&mut self, limit_us: u64) {
        let now = self.now_us();
        let next = self.host.next_deadline_us().map_or(limit_us, |deadline| deadline.min(limit_us));
        let next = next.max(now + 1).min(limit_us.max(now));
        self.now_us.store(next, Relaxed);
        // The core slept by its own will: time passed for it.
        self.host.core_mut().finish_sleep(next);
        self.settle();
    }

    /// One microsecond passes.
    pub(crate) fn tick(&mut self) {
        let next = self.now_us() + 1;
        if self.host.next_deadline_us().is_some_and(|deadline| deadline <= next) {
            self.advance(next);
        } else {
            self.now_us.store(next, Relaxed);
        }
    }
}

/// A datagram as a card delivers it: scripts send more in one segment than a link takes, as to Linux, which gets such from
/// its cards' receive offload. A TCP segment is cut; anything else stays as it is.
fn segments(datagram: &[u8], mtu_bytes: usize) -> Vec<Vec<u8>> {
    const FIN_AND_PUSH: u8 = 0x09;
    let whole = || vec![datagram.to_vec()];
    let word = |at: usize| {
        datagram.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
    };
    let [first, ..] = datagram else { return whole() };
    let ip_bytes = usize::from(first & 0xf) * 4;
    if datagram.len() <= mtu_bytes || first >> 4 != 4 || datagram.get(9) != Some(&6) {
        return whole();
    }
    let Some(offset) = datagram.get(ip_bytes + 12).map(|byte| usize::from(byte >> 4) * 4) else {
        return whole();
    };
    let header_bytes = ip_bytes + offset;
    let (Some(header), Some(payload)) = (datagram.get(..header_bytes), datagram.get(header_bytes..)) else {
        return whole();
    };
    let piece_bytes = mtu_bytes - header_bytes;
    let pieces = payload.len().div_ceil(piece_bytes);
    let piece = |(index, piece): (usize, &[u8])| {
        let mut segment = [header, piece].concat();
        segment[2..4].copy_from_slice(&((header_bytes + piece.len()) as u16).to_be_bytes());
        let sequence = word(ip_bytes + 4).wrapping_add((index * piece_bytes) as u32);
        segment[ip_bytes + 4..ip_bytes + 8].copy_from_slice(&sequence.to_be_bytes());
        if index + 1 < pieces {
            segment[ip_bytes + 13] &= !FIN_AND_PUSH;
        }
        fill_checksums(&mut segment, ip_bytes);
        segment
    };
    payload.chunks(piece_bytes).enumerate().map(piece).collect()
}

/// Both checksums of a TCP segment in IPv4 (RFC 1071).
fn fill_checksums(segment: &mut [u8], ip_bytes: usize) {
    let sum = |bytes: &[u8]| -> u32 {
        let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low));
        bytes.chunks(2).map(word).sum()
    };
    let fold = |mut sum: u32| {
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_be_bytes()
    };
    segment[10..12].fill(0);
    let checksum = fold(sum(&segment[..ip_bytes]));
    segment[10..12].copy_from_slice(&checksum);
    segment[ip_bytes + 16..ip_bytes + 18].fill(0);
    let tcp_bytes = (segment.len() - ip_bytes) as u32;
    let checksum = fold(sum(&segment[12..20]) + 6 + tcp_bytes + sum(&segment[ip_bytes..]));
    segment[ip_bytes + 16..ip_bytes + 18].copy_from_slice(&checksum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_segment_is_cut_as_offload_would() {
        let mut datagram = vec![0u8; 40 + 2500];
        datagram[..4].copy_from_slice(&[0x45, 0, 0x09, 0xec]);
        datagram[9] = 6;
        datagram[24..28].copy_from_slice(&u32::MAX.to_be_bytes());
        datagram[32..34].copy_from_slice(&[0x50, 0x19]);
        let cut = segments(&datagram, 1500);
        assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [1500, 1080]);
        assert_eq!((cut[0][33], cut[1][33]), (0x10, 0x19));
        assert_eq!(cut[1][24..28], 1459u32.to_be_bytes());
        assert_eq!(segments(&datagram[..1500], 1500), [datagram[..1500].to_vec()]);
    }
}
