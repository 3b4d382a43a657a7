// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames of a peer, over IPv4 and IPv6, built and read without the code under test.

use crate::model::{be16, be32, ones_sum};
use abi::message::{Endpoint, AF_INET, AF_INET6};

pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// The low word of our address, and of the peer's; in IPv4 the whole.
pub(crate) const LOCAL: u32 = 0x0a00_0001;
pub(crate) const PEER: u32 = 0x0a00_0002;
pub(crate) const LOCAL_MAC: u64 = 0x0200_0000_0001;
pub(crate) const PEER_MAC: u64 = 0x0200_0000_0002;

/// A family of addresses: each has the same numbers, in IPv6 behind 2001:db8::/96 (RFC 3849).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Family {
    #[default]
    V4,
    V6,
}

impl Family {
    pub(crate) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// As SOCKET has it.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::V4 => AF_INET.into(),
            Self::V6 => AF_INET6.into(),
        }
    }

    /// The words of an address; zero is the unspecified one.
    pub(crate) fn words(self, address: u32) -> [u32; 4] {
        match (self, address) {
            (Self::V4, _) => [address, 0, 0, 0],
            (Self::V6, 0) => [0; 4],
            (Self::V6, _) => [0x2001_0db8, 0, 0, address],
        }
    }

    pub(crate) fn endpoint(self, address: u32, port: u16) -> Endpoint {
        match self {
            Self::V4 => Endpoint::ipv4(address, port),
            Self::V6 => Endpoint::ipv6(self.words(address), port, 0),
        }
    }

    /// An address as it is on the wire.
    pub(crate) fn bytes(self, address: u32) -> Vec<u8> {
        match self {
            Self::V4 => address.to_be_bytes().to_vec(),
            Self::V6 => self.words(address).iter().flat_map(|word| word.to_be_bytes()).collect(),
        }
    }
}

/// A segment between us and the peer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Segment {
    pub(crate) family: Family,
    /// Our port and the peer's.
    pub(crate) ports: (u16, u16),
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// MSS 1460, SACK permitted, timestamps, window scale 7, as Linux sends them.
pub(crate) fn linux_options(value: u32, echo: u32) -> Vec<u8> {
    let mut options = vec![2, 4, 5, 0xb4, 4, 2, 8, 10];
    options.extend(value.to_be_bytes());
    options.extend(echo.to_be_bytes());
    options.extend([1, 3, 3, 7]);
    options
}

/// A fast-open option (RFC 7413 §4.1.1), with what fills up its last word.
pub(crate) fn fast_open_option(cookie: &[u8]) -> Vec<u8> {
    let mut option = vec![34, 2 + cookie.len() as u8];
    option.extend(cookie);
    option.resize(option.len().next_multiple_of(4), 1);
    option
}

/// The cookie in a list of options that has one.
pub(crate) fn cookie_in(mut options: &[u8]) -> Option<Vec<u8>> {
    while let [kind, rest @ ..] = options {
        options = match (kind, rest) {
            (0, _) => return None,
            (1, rest) => rest,
            (34, [length, ..]) if *length > 2 => {
                return options.get(2..usize::from(*length)).map(<[u8]>::to_vec)
            }
            (_, [length, ..]) => options.get(usize::from(*length)..)?,
            _ => return None,
        };
    }
    None
}

fn ethernet(destination: u64, source: u64, ethertype: u16) -> Vec<u8> {
    let mut frame = destination.to_be_bytes()[2..].to_vec();
    frame.extend(&source.to_be_bytes()[2..]);
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// A datagram from the peer over IPv4.
fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend(((20 + payload.len()) as u16).to_be_bytes());
    header.extend([0, 1, 0x40, 0, 64, protocol, 0, 0]);
    header.extend(PEER.to_be_bytes());
    header.extend(LOCAL.to_be_bytes());
    let sum = !ones_sum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [ethernet(LOCAL_MAC, PEER_MAC, 0x0800), header, payload.to_vec()].concat()
}

/// A packet over IPv6.
fn ipv6(from: &[u8], to: &[u8], protocol: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(LOCAL_MAC, PEER_MAC, 0x86dd);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend((payload.len() as u16).to_be_bytes());
    frame.extend([protocol, hop_limit]);
    [&frame, from, to, payload].concat()
}

fn icmpv6(from: &[u8], to: &[u8], hop_limit: u8, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0], rest].concat();
    let sum = !sum_with_pseudo_header(from, to, 58, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv6(from, to, 58, hop_limit, &message)
}

/// An ICMP message from the peer: one of IPv4's kinds; over IPv6 the one that means about the same, where there is
/// one, else any.
pub(crate) fn icmp(family: Family, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    if family == Family::V6 {
        let (kind, code) = match (kind, code) {
            (3, 4) => (2, 0),
            (3, code) => (1, code % 7),
            (5, _) => (137, 0),
            (8, code) => (128, code),
            (11, code) => (3, code),
            (12, code) => (4, code),
            other => other,
        };
        return icmpv6(&family.bytes(PEER), &family.bytes(LOCAL), 64, kind, code, rest);
    }
    let mut message = [&[kind, code, 0, 0], rest].concat();
    let sum = !ones_sum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv4(1, &message)
}

/// What the owner of `sender` says of its MAC address: a request (1) for ours or a reply (2); over IPv6 a neighbour
/// solicitation or advertisement.
pub(crate) fn neighbor(family: Family, operation: u8, sender: u32) -> Vec<u8> {
    if family == Family::V6 {
        let (kind, flags, about, option) =
            if operation == 1 { (135, 0, LOCAL, 1) } else { (136, 0x60, sender, 2) };
        return discovery(
            (&family.bytes(sender), &family.bytes(LOCAL)),
            kind,
            flags,
            &family.bytes(about),
            option,
        );
    }
    let mut frame = ethernet(0xffff_ffff_ffff, PEER_MAC, 0x0806);
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(&PEER_MAC.to_be_bytes()[2..]);
    frame.extend(sender.to_be_bytes());
    frame.extend(&LOCAL_MAC.to_be_bytes()[2..]);
    frame.extend(LOCAL.to_be_bytes());
    frame.resize(60, 0);
    frame
}

/// A message of RFC 4861 §4.3 or §4.4 with the peer's MAC address.
fn discovery((from, to): (&[u8], &[u8]), kind: u8, flags: u8, about: &[u8], option: u8) -> Vec<u8> {
    let mut rest = vec![flags, 0, 0, 0];
    rest.extend(about);
    rest.extend([option, 1]);
    rest.extend(&PEER_MAC.to_be_bytes()[2..]);
    icmpv6(from, to, 255, kind, 0, &rest)
}

/// A message of Neighbor Discovery, sound or nearly so.
pub(crate) struct Discovery {
    pub(crate) solicitation: bool,
    /// Whose: zero is the unspecified address.
    pub(crate) from: u32,
    /// Whom it is about.
    pub(crate) about: [u32; 4],
    pub(crate) flags: u8,
    /// Last byte of the MAC address given, or none.
    pub(crate) link: Option<u8>,
    pub(crate) hop_limit: u8,
    /// To the group of who is asked for, or to all (RFC 4291 §2.7.1).
    pub(crate) to_group: bool,
}

impl Discovery {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let family = Family::V6;
        let [.., last] = self.about;
        let group = if self.solicitation {
            [0xff02_0000, 0, 1, 0xff00_0000 | last & 0xff_ffff]
        } else {
            [0xff02_0000, 0, 0, 1]
        };
        let to = if self.to_group { group } else { family.words(LOCAL) };
        let bytes = |words: [u32; 4]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
        let mut rest = vec![self.flags, 0, 0, 0];
        rest.extend(bytes(self.about));
        if let Some(last) = self.link {
            rest.extend([if self.solicitation { 1 } else { 2 }, 1, 2, 0, 0, 0, 0, last]);
        }
        let kind = if self.solicitation { 135 } else { 136 };
        icmpv6(&family.bytes(self.from), &bytes(to), self.hop_limit, kind, 0, &rest)
    }
}

/// The answer to a frame of ours, if that asks for a neighbour (and is not the search for a duplicate of our own).
pub(crate) fn neighbor_answer(frame: &[u8]) -> Option<Vec<u8>> {
    if be16(frame, 12) == Some(0x0806) && be16(frame, 20) == Some(1) {
        return Some(neighbor(Family::V4, 2, be32(frame, 38)?));
    }
    let solicitation =
        be16(frame, 12) == Some(0x86dd) && frame.get(20) == Some(&58) && frame.get(54) == Some(&135);
    let (asks, target) = (frame.get(22..38)?, frame.get(62..78)?);
    (solicitation && asks != [0; 16]).then(|| discovery((target, asks), 136, 0x60, target, 2))
}

/// Whether a frame has our address as its source.
pub(crate) fn is_from_us(frame: &[u8]) -> bool {
    match be16(frame, 12) {
        Some(0x0800) => frame.get(26..30) == Some(&Family::V4.bytes(LOCAL)),
        _ => frame.get(22..38) == Some(&Family::V6.bytes(LOCAL)),
    }
}

/// What an ICMP error quotes of a segment of ours of `ip_bytes`.
pub(crate) fn quote(family: Family, ports: (u16, u16), seq: u32, ip_bytes: u16) -> Vec<u8> {
    let mut quote = match family {
        Family::V4 => {
            [vec![0x45, 0], ip_bytes.to_be_bytes().to_vec(), vec![0, 0, 0x40, 0, 64, 6, 0, 0]].concat()
        }
        Family::V6 => {
            [vec![0x60, 0, 0, 0], ip_bytes.saturating_sub(40).to_be_bytes().to_vec(), vec![6, 64]].concat()
        }
    };
    quote.extend(family.bytes(LOCAL));
    quote.extend(family.bytes(PEER));
    quote.extend(ports.0.to_be_bytes());
    quote.extend(ports.1.to_be_bytes());
    quote.extend(seq.to_be_bytes());
    quote
}

/// Puts 40 bytes of IP options into a frame of IPv4, or as many of a header with destination options into one of IPv6;
/// `first` is the kind of the first option.
pub(crate) fn laden(frame: &[u8], first: u8) -> Vec<u8> {
    let (ethernet, ip) = frame.split_at(14);
    let mut extra = vec![1; 40];
    extra[..3].copy_from_slice(&[first, 3, 4]);
    let mut ip = if be16(frame, 12) == Some(0x0800) {
        let (header, rest) = ip.split_at(20);
        let mut header = header.to_vec();
        header[0] = 0x4f;
        let total = (ip.len() + 40) as u16;
        header[2..4].copy_from_slice(&total.to_be_bytes());
        header[10..12].fill(0);
        header.extend(extra);
        let sum = !ones_sum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        return [ethernet, &header, rest].concat();
    } else {
        let (header, rest) = ip.split_at(40);
        [header, &[6, 4, first, 36], &[0; 36], rest].concat()
    };
    let length = (ip.len() - 40) as u16;
    ip[4..6].copy_from_slice(&length.to_be_bytes());
    ip[6] = 60;
    [ethernet, &ip].concat()
}

impl Segment {
    /// The frame from the peer to us.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut options = self.options.clone();
        options.truncate(40);
        options.resize(options.len().div_ceil(4) * 4, 0);
        let mut segment = self.ports.1.to_be_bytes().to_vec();
        segment.extend(self.ports.0.to_be_bytes());
        segment.extend(self.seq.to_be_bytes());
        segment.extend(self.ack.to_be_bytes());
        segment.extend([(((20 + options.len()) / 4) << 4) as u8, self.flags]);
        segment.extend(self.window.to_be_bytes());
        segment.extend([0, 0, 0, 0]);
        segment.extend(&options);
        segment.extend(&self.payload);
        let (from, to) = (self.family.bytes(PEER), self.family.bytes(LOCAL));
        let sum = !sum_with_pseudo_header(&from, &to, 6, &segment);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        match self.family {
            Family::V4 => ipv4(6, &segment),
            Family::V6 => ipv6(&from, &to, 6, 64, &segment),
        }
    }

    /// A frame; `None` if it is no TCP. Panics if it is not as it should be.
    pub(crate) fn decode(frame: &[u8]) -> Option<Self> {
        let ip = &frame[14..];
        let (family, protocol, header, total) = match be16(frame, 12)? {
            0x0800 => {
                let header = usize::from(ip[0] & 15) * 4;
                assert!(ip[0] >> 4 == 4 && header >= 20, "{frame:02x?}");
                assert_eq!(ones_sum(&ip[..header]), 0xffff, "IP checksum");
                (Family::V4, ip[9], header, usize::from(be16(ip, 2)?))
            }
            0x86dd => {
                assert_eq!(ip[0] >> 4, 6, "{frame:02x?}");
                (Family::V6, ip[6], 40, 40 + usize::from(be16(ip, 4)?))
            }
            _ => return None,
        };
        assert!(header <= total && total <= ip.len(), "{frame:02x?}");
        if protocol != 6 {
            return None;
        }
        let segment = &ip[header..total];
        let (from, to) = if family == Family::V4 { (12..16, 16..20) } else { (8..24, 24..40) };
        assert_eq!(sum_with_pseudo_header(&ip[from], &ip[to], 6, segment), 0xffff, "TCP checksum");
        let data = usize::from(segment[12] >> 4) * 4;
        Some(Self {
            family,
            ports: (be16(segment, 0)?, be16(segment, 2)?),
            seq: be32(segment, 4)?,
            ack: be32(segment, 8)?,
            flags: segment[13],
            window: be16(segment, 14)?,
            options: segment[20..data].to_vec(),
            payload: segment[data..].to_vec(),
        })
    }
}

/// The sum over pseudo-header and segment, of either family.
pub(crate) fn sum_with_pseudo_header(from: &[u8], to: &[u8], protocol: u8, segment: &[u8]) -> u16 {
    let mut pseudo = [from, to].concat();
    pseudo.extend([0, protocol]);
    pseudo.extend((segment.len() as u16).to_be_bytes());
    pseudo.extend(segment);
    ones_sum(&pseudo)
}
