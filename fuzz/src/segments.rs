// SPDX-License-Identifier: MIT OR Apache-2.0
//! The segment parsers of both paths, against a plain reading of RFC 791 and 9293 and so against each other.

use crate::model::{be16, be32, ones_sum, read_options};
use arbitrary::Arbitrary;
use fastpath::{testing::parts, RxChecksum};
use slowpath::testing as slow;

/// What the corpus covers.
pub const COVERS: &[&str] = &[
    "fastpath/src/parse.rs",
    "slowpath/src/wire/tcp.rs",
    "slowpath/src/wire/ipv4.rs",
    "slowpath/src/wire/mod.rs",
];

/// Frames are a little longer than Ethernet's.
const FRAME_BYTES: usize = 1600;

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
        let mut options = self.options.clone();
        options.truncate(40);
        options.resize(options.len().div_ceil(4) * 4, 0);
        let tcp_bytes = 20 + options.len() + usize::from(self.payload);
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
        frame.extend([0x45 + ip_words as u8, self.tos]);
        frame.extend(((20 + ip_words * 4 + tcp_bytes) as u16).to_be_bytes());
        frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1]);
        frame.extend(vec![1; ip_words * 4]);
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

/// Where things are, if the headers are those of IPv4 and within the frame.
struct Ip {
    header: usize,
    total: usize,
    protocol: u8,
    fragment: bool,
}

fn ip(frame: &[u8]) -> Option<Ip> {
    let packet = frame.get(14..)?;
    if be16(frame, 12)? != 0x0800 || packet.len() < 20 {
        return None;
    }
    let header = usize::from(packet[0] & 15) * 4;
    let total = usize::from(be16(packet, 2)?);
    let sound = packet[0] >> 4 == 4 && header >= 20 && total >= header && total <= packet.len();
    let fragment = be16(packet, 6)? & 0x3fff != 0;
    sound.then_some(Ip { header, total, protocol: packet[9], fragment })
}

/// The TCP segment of the frame: header and payload, whose header length is sound.
fn tcp<'a>(frame: &'a [u8], ip: &Ip) -> Option<(&'a [u8], usize)> {
    let tcp = &frame[14 + ip.header..14 + ip.total];
    let header = usize::from(*tcp.get(12)? >> 4) * 4;
    (header >= 20 && header <= tcp.len()).then_some((tcp, header))
}

fn tcp_sum(frame: &[u8], ip: &Ip) -> u16 {
    let tcp = &frame[14 + ip.header..14 + ip.total];
    let mut pseudo = frame[26..34].to_vec();
    pseudo.extend([0, 6]);
    pseudo.extend((tcp.len() as u16).to_be_bytes());
    pseudo.extend(tcp);
    ones_sum(&pseudo)
}

fn fix(frame: &mut [u8]) {
    let Some(ip) = ip(frame) else { return };
    frame[24..26].fill(0);
    let sum = !ones_sum(&frame[14..14 + ip.header]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
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
        let length = frame.len().max(1);
        match operation {
            Operation::Raw(bytes) => frame.clone_from(bytes),
            Operation::Build(build) => {
                frame = build.frame();
                if let Some(segment) = slow::parse(&frame) {
                    written(segment);
                }
            }
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
            Operation::Fix => fix(&mut frame),
        }
        check_fast(&frame);
        check_slow(&frame);
    }
}

/// The same over IPv6: a whole TCP segment right behind a whole header, and nothing else.
fn check_fast_ipv6(frame: &[u8]) {
    let length = be16(frame, 18).map_or(0, usize::from);
    let tcp = frame.get(54..54 + length).filter(|_| frame.get(14).is_some_and(|first| first >> 4 == 6));
    let tcp = tcp.filter(|_| frame.get(20) == Some(&6));
    let header = tcp.and_then(|tcp| tcp.get(12)).map_or(0, |byte| usize::from(byte >> 4) * 4);
    let Some(tcp) = tcp.filter(|tcp| header >= 20 && header <= tcp.len()) else {
        let verdict = parts::parse(frame, RxChecksum::Unknown).expect_err("not a plain segment");
        assert_ne!(verdict, "BadChecksum");
        return;
    };
    let segment = parts::parse(frame, RxChecksum::Good).expect("a plain segment");
    assert_eq!(segment.payload, 54 + header..54 + length);
    assert_eq!(segment.ecn, frame[15] >> 4 & 3);
    let mut pseudo = frame[22..54].to_vec();
    pseudo.extend([0, 6]);
    pseudo.extend((tcp.len() as u16).to_be_bytes());
    pseudo.extend(tcp);
    let expected = if ones_sum(&pseudo) == 0xffff { Ok(segment) } else { Err("BadChecksum".into()) };
    assert_eq!(parts::parse(frame, RxChecksum::Unknown), expected);
}

/// What the fast path may take, and what it must leave to the slow path.
fn check_fast(frame: &[u8]) {
    if be16(frame, 12) == Some(0x86dd) {
        return check_fast_ipv6(frame);
    }
    let good = parts::parse(frame, RxChecksum::Good);
    let checked = parts::parse(frame, RxChecksum::Unknown);
    let ip = ip(frame);
    let plain = ip.as_ref().filter(|ip| ip.header == 20 && !ip.fragment && ip.protocol == 6);
    let Some((ip, (tcp, header))) = plain.and_then(|ip| Some((ip, tcp(frame, ip)?))) else {
        let verdict = good.expect_err("not a plain segment");
        assert_eq!(checked.expect_err("not a plain segment"), verdict);
        // A fragment without a whole header is of no use to anybody.
        let whole = ip.filter(|ip| ip.protocol != 6 || ip.total >= 40);
        match whole {
            Some(ip) if ip.protocol != 6 => assert_eq!(verdict, "NotTcp"),
            Some(ip) if ip.fragment || ip.header > 20 => assert_eq!(verdict, "IpOptions"),
            Some(_) => assert_eq!(verdict, "Malformed"),
            None => assert!(frame.len() < 54 || verdict != "BadChecksum"),
        }
        let arp = be16(frame, 12) == Some(0x0806);
        assert!(!arp || verdict == "NotTcp", "ARP is the slow path's: {verdict}");
        return;
    };
    let segment = good.expect("a plain segment");
    let sound = ones_sum(&frame[14..34]) == 0xffff && tcp_sum(frame, ip) == 0xffff;
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
        ecn: frame[15] & 3,
    };
    assert_eq!(segment, expected);
}

fn check_slow(frame: &[u8]) {
    let found = slow::parse(frame);
    let ip = ip(frame).filter(|ip| ip.protocol == 6 && !ip.fragment);
    let ip = ip.filter(|ip| ones_sum(&frame[14..14 + ip.header]) == 0xffff);
    let expected = ip.and_then(|ip| tcp(frame, &ip)).map(|(tcp, header)| slow::Parsed {
        ports: (be16(tcp, 2).unwrap(), be16(tcp, 0).unwrap()),
        seq: be32(tcp, 4).unwrap(),
        ack: be32(tcp, 8).unwrap(),
        flags: tcp[13],
        window: be16(tcp, 14).unwrap(),
        options: read_options(&tcp[20..header]).of_slow_path(),
        payload_bytes: (tcp.len() - header) as u32,
    });
    assert_eq!(found, expected);
}

/// What the slow path writes is what it reads, the other way round.
fn written(segment: slow::Parsed) {
    let segment = slow::Parsed { payload_bytes: 0, ..segment };
    let mut frame = [0xff; 128];
    let length = slow::write(&segment, (0x0a00_0001, 0x0a00_0002), &mut frame);
    let frame = &frame[..length];
    let ip = ip(frame).expect("IPv4");
    assert!(length >= 60 && frame[14 + ip.total..].iter().all(|byte| *byte == 0), "padded with zeroes");
    assert_eq!((ones_sum(&frame[14..34]), tcp_sum(frame, &ip)), (0xffff, 0xffff), "checksums");
    let ports = (segment.ports.1, segment.ports.0);
    assert_eq!(slow::parse(frame), Some(slow::Parsed { ports, ..segment }));
}
