// SPDX-License-Identifier: MIT OR Apache-2.0
//! The segment parsers of both paths, against a plain reading of RFC 791, 8200 and 9293 and so against each other.

use crate::{
    frames::sum_with_pseudo_header,
    model::{be16, be32, ones_sum, read_options},
};
use arbitrary::Arbitrary;
use fastpath::{testing::parts, RxChecksum};
use slowpath::testing as slow;

/// What the corpus covers.
pub const COVERS: &[&str] = &[
    "fastpath/src/parse.rs",
    "slowpath/src/wire/tcp.rs",
    "slowpath/src/wire/ipv4.rs",
    "slowpath/src/wire/ipv6.rs",
    "slowpath/src/wire/checksum.rs",
    "slowpath/src/wire/mod.rs",
];

/// Frames are a little longer than Ethernet's.
const FRAME_BYTES: usize = 1600;
/// Extension headers of a packet that is built: more than are followed.
const EXTENSIONS_MAX: usize = 10;

/// One step; the frame it leaves is parsed.
#[allow(missing_docs)]
#[derive(Debug, Clone, Arbitrary)]
pub enum Operation {
    /// Any bytes.
    Raw(Vec<u8>),
    /// A whole segment, checksums included.
    Build(Build),
    /// A byte takes any value.
    Damage {
        at: u16,
        value: u8,
    },
    /// Two bytes take a value, network order.
    Field {
        at: u8,
        value: u16,
    },
    /// A bit flips.
    Flip {
        at: u16,
        bit: u8,
    },
    Truncate(u16),
    Pad(u8),
    /// Makes the checksums right for the lengths that the headers claim, if they can be.
    Fix,
    /// A whole segment over IPv6.
    Build6 {
        build: Build,
        extensions: Vec<Extension>,
    },
    /// What the segment is compared with: a timestamp, relative to its own.
    Older(i32),
    /// A whole segment whose IP header has a source route among its options.
    Routed {
        build: Build,
        kind: u8,
        before: u8,
    },
}

/// An extension header.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Extension {
    /// Options of which the first is of this kind and length; the rest is padding.
    HopByHop {
        kind: u8,
        length: u8,
    },
    Destination {
        kind: u8,
        length: u8,
        more: bool,
    },
    Routing {
        left: u8,
    },
    Fragment {
        word: u16,
    },
}

impl Extension {
    /// Its number, and its bytes without the first, which names what follows.
    fn encode(self) -> (u8, Vec<u8>) {
        match self {
            Self::HopByHop { kind, length } => (0, vec![0, kind, length, 0, 0, 0, 0]),
            Self::Destination { kind, length, more } => {
                let units = usize::from(more);
                (60, [vec![units as u8, kind, length], vec![0; 4 + units * 8]].concat())
            }
            Self::Routing { left } => (43, vec![0, 0, left % 3, 0, 0, 0, 0]),
            Self::Fragment { word } => {
                let [high, low] = word.to_be_bytes();
                (44, vec![0, high, low, 0, 0, 0, 1])
            }
        }
    }
}

/// A segment.
#[allow(missing_docs)]
#[derive(Debug, Clone, Arbitrary)]
pub struct Build {
    ports: (u16, u16),
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    tos: u8,
    /// Header words of options.
    ip_options: u8,
    options: Vec<u8>,
    payload: u8,
}

impl Build {
    fn frame(&self) -> Vec<u8> {
        let ip_words = usize::from(self.ip_options % 11);
        let tcp_bytes = 20 + self.options.len().min(40).div_ceil(4) * 4 + usize::from(self.payload);
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend([0x45 + ip_words as u8, self.tos]);
        frame.extend(((20 + ip_words * 4 + tcp_bytes) as u16).to_be_bytes());
        frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1]);
        frame.extend(vec![1; ip_words * 4]);
        self.put_segment(frame)
    }

    /// The same over IPv6.
    fn frame6(&self, extensions: &[Extension]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd];
        frame.extend([0x60, self.tos, 0, 0, 0, 0, 6, 64]);
        for last in [2, 1] {
            frame.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
        let mut names = 20;
        for extension in extensions.iter().take(EXTENSIONS_MAX) {
            let (number, bytes) = extension.encode();
            (frame[names], names) = (number, frame.len());
            frame.push(6);
            frame.extend(bytes);
        }
        let mut frame = self.put_segment(frame);
        let payload = (frame.len() - 54) as u16;
        frame[18..20].copy_from_slice(&payload.to_be_bytes());
        fix(&mut frame);
        frame
    }

    fn put_segment(&self, mut frame: Vec<u8>) -> Vec<u8> {
        let mut options = self.options.clone();
        options.truncate(40);
        options.resize(options.len().div_ceil(4) * 4, 0);
        frame.extend(self.ports.0.to_be_bytes());
        frame.extend(self.ports.1.to_be_bytes());
        frame.extend(self.seq.to_be_bytes());
        frame.extend(self.ack.to_be_bytes());
        frame.extend([((20 + options.len()) / 4 << 4) as u8, self.flags]);
        frame.extend(self.window.to_be_bytes());
        frame.extend([0, 0, 0, 0]);
        frame.extend(options);
        frame.extend(vec![0x5a; usize::from(self.payload)]);
        fix(&mut frame);
        frame
    }
}

/// Where things are, if the headers are sound and within the frame.
struct Ip {
    v6: bool,
    /// Bytes of the header, with options and extension headers.
    header: usize,
    total: usize,
    protocol: u8,
    fragment: bool,
}

impl Ip {
    /// Neither options nor extension headers.
    fn is_plain(&self) -> bool {
        self.header == if self.v6 { 40 } else { 20 } && !self.fragment
    }

    fn addresses<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        &frame[if self.v6 { 22..54 } else { 26..34 }]
    }

    fn payload<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        &frame[14 + self.header..14 + self.total]
    }
}

fn ip(frame: &[u8]) -> Option<Ip> {
    let packet = frame.get(14..)?;
    match be16(frame, 12)? {
        0x0800 => ipv4(packet),
        0x86dd => ipv6(packet),
        _ => None,
    }
}

fn ipv4(packet: &[u8]) -> Option<Ip> {
    if packet.len() < 20 {
        return None;
    }
    let header = usize::from(packet[0] & 15) * 4;
    let total = usize::from(be16(packet, 2)?);
    let sound = packet[0] >> 4 == 4 && header >= 20 && total >= header && total <= packet.len();
    let fragment = be16(packet, 6)? & 0x3fff != 0;
    sound.then_some(Ip { v6: false, header, total, protocol: packet[9], fragment })
}

/// `None` also for what a host has to drop (RFC 8200 §4.2, §4.4), and for addresses that nobody has.
fn ipv6(packet: &[u8]) -> Option<Ip> {
    let total = 40 + usize::from(be16(packet, 4)?);
    let packet = packet.get(..total)?;
    let mapped = |address: &[u8]| address[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    if packet[0] >> 4 != 6 || mapped(&packet[8..24]) || mapped(&packet[24..40]) {
        return None;
    }
    let mut ip = Ip { v6: true, header: 40, total, protocol: packet[6], fragment: false };
    let mut followed = 0;
    while [0, 43, 44, 60].contains(&ip.protocol) && !ip.fragment {
        let extension = &packet[ip.header..];
        let bytes = if ip.protocol == 44 { 8 } else { 8 + 8 * usize::from(*extension.get(1)?) };
        let extension = extension.get(..bytes)?;
        match ip.protocol {
            44 => ip.fragment = be16(extension, 2)? & 0xfff9 != 0,
            43 if extension[3] != 0 => return None,
            0 if followed > 0 => return None,
            0 | 60 if !may_be_passed_over(&extension[2..]) => return None,
            _ => {}
        }
        ip.header += bytes;
        ip.protocol = extension[0];
        followed += 1;
        if followed > 8 {
            return None;
        }
    }
    Some(ip)
}

/// Options of which none asks that the packet is dropped by who does not know it.
fn may_be_passed_over(options: &[u8]) -> bool {
    let mut at = 0;
    while at < options.len() {
        let length = options.get(at + 1).map(|length| usize::from(*length));
        at += match (options[at], length) {
            (0, _) => 1,
            (kind, Some(length)) if kind < 64 => 2 + length,
            _ => return false,
        };
    }
    at == options.len()
}

/// Whether IPv4 options hold a source route (RFC 791 §3.1) before the first that cannot be.
fn is_source_routed(options: &[u8]) -> bool {
    let mut at = 0;
    while at < options.len() {
        let length = options.get(at + 1).map_or(0, |length| usize::from(*length));
        match options[at] {
            0 => return false,
            1 => at += 1,
            131 | 137 => return true,
            _ if length < 2 => return false,
            _ => at += length,
        }
    }
    false
}

/// The TCP segment of the frame: header and payload, whose header length is sound.
fn tcp<'a>(frame: &'a [u8], ip: &Ip) -> Option<(&'a [u8], usize)> {
    let tcp = ip.payload(frame);
    let header = usize::from(*tcp.get(12)? >> 4) * 4;
    (header >= 20 && header <= tcp.len()).then_some((tcp, header))
}

fn tcp_sum(frame: &[u8], ip: &Ip) -> u16 {
    let addresses = ip.addresses(frame);
    let (from, to) = addresses.split_at(addresses.len() / 2);
    sum_with_pseudo_header(from, to, 6, ip.payload(frame))
}

/// Whether the checksum of the IP header holds; IPv6 has none.
fn is_header_sound(frame: &[u8], ip: &Ip) -> bool {
    ip.v6 || ones_sum(&frame[14..14 + ip.header]) == 0xffff
}

fn fix(frame: &mut [u8]) {
    let Some(ip) = ip(frame) else { return };
    if !ip.v6 {
        frame[24..26].fill(0);
        let sum = !ones_sum(&frame[14..14 + ip.header]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    if ip.protocol == 6 && ip.total - ip.header >= 18 {
        let at = 14 + ip.header + 16;
        frame[at..at + 2].fill(0);
        let sum = !tcp_sum(frame, &ip);
        frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Runs the operations.
pub fn check(operations: &[Operation]) {
    let mut frame = Vec::new();
    for operation in operations {
        step(&mut frame, operation);
        check_fast(&frame);
        check_slow(&frame);
    }
}

fn step(frame: &mut Vec<u8>, operation: &Operation) {
    let length = frame.len().max(1);
    match operation {
        Operation::Raw(bytes) => frame.clone_from(bytes),
        Operation::Build(build) => {
            *frame = build.frame();
            rewritten(frame);
        }
        Operation::Build6 { build, extensions } => {
            *frame = build.frame6(extensions);
            rewritten(frame);
        }
        Operation::Routed { build, kind, before } => {
            let mut build = build.clone();
            build.ip_options = 10;
            *frame = build.frame();
            let at = 34 + usize::from(before % 36);
            frame[at..at + 3].copy_from_slice(&[*kind | 128, 3, 4]);
            fix(frame);
        }
        Operation::Older(by) => older(frame, *by),
        Operation::Damage { at, value } => {
            if let Some(byte) = frame.get_mut(usize::from(*at) % length) {
                *byte = *value;
            }
        }
        Operation::Field { at, value } => {
            if let Some(bytes) = frame.get_mut(usize::from(*at)..usize::from(*at) + 2) {
                bytes.copy_from_slice(&value.to_be_bytes());
            }
        }
        Operation::Flip { at, bit } => {
            if let Some(byte) = frame.get_mut(usize::from(*at) % length) {
                *byte ^= 1 << (bit % 8);
            }
        }
        Operation::Truncate(to) => frame.truncate(usize::from(*to)),
        Operation::Pad(by) => frame.resize((frame.len() + usize::from(*by)).min(FRAME_BYTES), 0),
        Operation::Fix => fix(frame),
    }
}

/// What the fast path may take, and what it must leave to the slow path.
fn check_fast(frame: &[u8]) {
    let good = parts::parse(frame, RxChecksum::Good);
    let checked = parts::parse(frame, RxChecksum::Unknown);
    let ip = fast_ip(frame);
    let plain = ip.as_ref().filter(|ip| ip.is_plain() && ip.protocol == 6);
    let Some((ip, (tcp, header))) = plain.and_then(|ip| Some((ip, tcp(frame, ip)?))) else {
        let verdict = good.expect_err("not a plain segment");
        assert_eq!(checked.expect_err("not a plain segment"), verdict);
        check_left(frame, ip, &verdict);
        return;
    };
    let segment = good.expect("a plain segment");
    let sound = is_header_sound(frame, ip) && tcp_sum(frame, ip) == 0xffff;
    assert_eq!(checked, if sound { Ok(segment.clone()) } else { Err("BadChecksum".into()) });
    assert_eq!(parts::parse(frame, RxChecksum::Bad), Err("BadChecksum".into()));
    let options = read_options(&tcp[20..header]);
    let expected = parts::Parsed {
        ports: (be16(tcp, 2).unwrap(), be16(tcp, 0).unwrap()),
        seq: be32(tcp, 4).unwrap(),
        ack: be32(tcp, 8).unwrap(),
        ts_value: options.timestamps.map(|(value, _)| value),
        sack: options.sack,
        window: be16(tcp, 14).unwrap(),
        payload: 14 + ip.header + header..14 + ip.total,
        flags: tcp[13],
        ecn: if ip.v6 { frame[15] >> 4 & 3 } else { frame[15] & 3 },
    };
    assert_eq!(segment, expected);
}

/// As [`ip`]; whose addresses they are is not looked at, the flow's are compared.
fn fast_ip(frame: &[u8]) -> Option<Ip> {
    let plain = be16(frame, 12)? == 0x86dd && frame.get(20) == Some(&6) && frame.len() >= 54;
    if !plain {
        return ip(frame);
    }
    let total = 40 + usize::from(be16(frame, 18)?);
    let sound = frame[14] >> 4 == 6 && total <= frame.len() - 14;
    sound.then_some(Ip { v6: true, header: 40, total, protocol: 6, fragment: false })
}

/// Not a plain segment: nothing is dropped that is of use to the slow path.
fn check_left(frame: &[u8], ip: Option<Ip>, verdict: &str) {
    // A fragment without a whole header is of no use to anybody.
    let whole = ip.filter(|ip| ip.v6 || ip.protocol != 6 || ip.total >= 40);
    match whole {
        Some(ip) if ip.v6 && ip.header > 40 => assert_eq!(verdict, "IpOptions"),
        Some(ip) if ip.protocol != 6 => {
            assert_eq!(verdict, if is_extension(&ip) { "IpOptions" } else { "NotTcp" })
        }
        Some(ip) if !ip.is_plain() => assert_eq!(verdict, "IpOptions"),
        Some(_) => assert_eq!(verdict, "Malformed"),
        None => assert!(frame.len() < 54 || verdict != "BadChecksum"),
    }
    let arp = be16(frame, 12) == Some(0x0806);
    assert!(!arp || verdict == "NotTcp", "ARP is the slow path's: {verdict}");
}

/// Headers behind IPv6's that nobody here speaks: also extensions (RFC 7045).
fn is_extension(ip: &Ip) -> bool {
    ip.v6 && [50, 51, 135, 139, 140].contains(&ip.protocol)
}

fn check_slow(frame: &[u8]) {
    let found = slow::parse(frame);
    let ip = ip(frame).filter(|ip| ip.protocol == 6 && !ip.fragment && is_header_sound(frame, ip));
    let routed = ip.as_ref().is_some_and(|ip| !ip.v6 && is_source_routed(&frame[34..14 + ip.header]));
    let expected = ip.and_then(|ip| tcp(frame, &ip)).map(|(tcp, header)| slow::Parsed {
        ports: (be16(tcp, 2).unwrap(), be16(tcp, 0).unwrap()),
        seq: be32(tcp, 4).unwrap(),
        ack: be32(tcp, 8).unwrap(),
        flags: tcp[13],
        window: be16(tcp, 14).unwrap(),
        options: read_options(&tcp[20..header]).of_slow_path(),
        payload_bytes: (tcp.len() - header) as u32,
        length: (tcp.len() - header) as u32 + u32::from(tcp[13] & 1) + u32::from(tcp[13] >> 1 & 1),
        source_routed: routed,
    });
    assert_eq!(found, expected);
}

/// What comes before in the space of timestamps is older; a segment without one never is.
fn older(frame: &[u8], by: i32) {
    let value = slow::parse(frame).and_then(|segment| segment.options.timestamps);
    let (value, expected) = value.map_or((0, false), |(value, _)| (value, by.wrapping_neg() < 0));
    assert_eq!(slow::is_older_than(frame, value.wrapping_add_signed(by)), expected);
}

/// What the slow path writes is what it reads, the other way round: whatever it read in `frame`.
fn rewritten(frame: &[u8]) {
    let Some(segment) = slow::parse(frame) else { return };
    let payload = vec![0x77; segment.payload_bytes as usize % 64];
    let length = segment.length - segment.payload_bytes + payload.len() as u32;
    let segment =
        slow::Parsed { payload_bytes: payload.len() as u32, length, source_routed: false, ..segment };
    let (from, to) = ([0x2001_0db8, 0, 0, 1], [0x2001_0db8, 0, 0, 2]);
    for addresses in [slow::Addresses::V4(0x0a00_0001, 0x0a00_0002), slow::Addresses::V6(from, to)] {
        let mut frame = [0xff; 256];
        let length = slow::write(&segment, addresses, &payload, &mut frame);
        let frame = &frame[..length];
        let ip = ip(frame).expect("IP");
        assert!(length >= 60 && frame[14 + ip.total..].iter().all(|byte| *byte == 0), "padded with zeroes");
        assert!(is_header_sound(frame, &ip) && tcp_sum(frame, &ip) == 0xffff, "checksums");
        let ports = (segment.ports.1, segment.ports.0);
        assert_eq!(slow::parse(frame), Some(slow::Parsed { ports, ..segment }));
    }
}
