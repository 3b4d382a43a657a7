// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames as the simulator itself reads and writes them: an independent parser that insists on every
//! rule of form, so that what the stack sends is checked by something that is not the stack.

/// TCP flags.
pub mod flag {
    /// FIN.
    pub const FIN: u8 = 1;
    /// SYN.
    pub const SYN: u8 = 2;
    /// RST.
    pub const RST: u8 = 4;
    /// PSH.
    pub const PSH: u8 = 8;
    /// ACK.
    pub const ACK: u8 = 16;
    /// URG.
    pub const URG: u8 = 32;
}

/// Bytes of the Ethernet header.
pub const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const TCP_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
/// First words of every IPv6 address here (RFC 3849); the last one is the host's IPv4 address.
const IPV6_PREFIX: [u32; 3] = [0x2001_0db8, 0, 0];
/// Next header: ICMPv6.
const ICMPV6: u8 = 58;

/// The IPv6 address of the host with this IPv4 address.
pub const fn ipv6_of(ipv4: u32) -> [u32; 4] {
    let [a, b, c] = IPV6_PREFIX;
    [a, b, c, ipv4]
}

/// True for a frame with the EtherType of IPv6.
pub fn is_ipv6(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x86, 0xdd])
}

/// Offset of the TCP header: nobody here sends IP options or extension headers.
pub fn tcp_offset(frame: &[u8]) -> usize {
    ETHERNET_BYTES + if is_ipv6(frame) { IPV6_BYTES } else { IPV4_BYTES }
}

/// A TCP segment. A host goes by its IPv4 address also over IPv6; see [`ipv6_of`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segment {
    /// It came over IPv6.
    pub ipv6: bool,
    /// Source address and port, host order.
    pub source: (u32, u16),
    /// Destination.
    pub destination: (u32, u16),
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags of [`flag`].
    pub flags: u8,
    /// Window as it stands there.
    pub window: u16,
    /// MSS option.
    pub mss: Option<u16>,
    /// Window scale option.
    pub window_shift: Option<u8>,
    /// SACK permitted option.
    pub sack_permitted: bool,
    /// Timestamps option: value and echo.
    pub timestamps: Option<(u32, u32)>,
    /// SACK blocks.
    pub sack: Vec<(u32, u32)>,
    /// Where the payload begins in the frame.
    pub payload_offset: usize,
    /// Its bytes.
    pub payload_bytes: usize,
    /// Bytes of the IP datagram.
    pub ip_bytes: usize,
}

impl Segment {
    /// Whether any of these flags is set.
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags != 0
    }
    /// Sequence space it takes.
    pub fn length(&self) -> u32 {
        self.payload_bytes as u32 + u32::from(self.has(flag::SYN)) + u32::from(self.has(flag::FIN))
    }
}

/// What a frame is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// TCP.
    Tcp(Segment),
    /// ARP, neighbour discovery, or another protocol over IPv4.
    Other,
    /// A rule of form is broken.
    Malformed(&'static str),
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn sum(bytes: &[u8], mut sum: u32) -> u32 {
    let mut pairs = bytes.chunks_exact(2);
    for pair in &mut pairs {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    if let [last] = pairs.remainder() {
        sum += u32::from(*last) << 8;
    }
    sum
}

fn fold(mut sum: u32) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Writes the checksum of an IPv4 header of twenty bytes.
pub fn write_ipv4_checksum(header: &mut [u8]) {
    header[10..12].fill(0);
    let checksum = !fold(sum(&header[..IPV4_BYTES], 0));
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// Sum over the pseudo-header of a payload of `bytes`; of either family.
fn pseudo_header(ip: &[u8], protocol: u8, bytes: usize) -> u32 {
    let addresses = if ip[0] >> 4 == 6 { &ip[8..40] } else { &ip[12..20] };
    sum(addresses, u32::from(protocol) + bytes as u32)
}

/// Writes the TCP checksum of a frame without IP options.
pub fn write_tcp_checksum(frame: &mut [u8]) {
    let offset = tcp_offset(frame);
    let (head, tcp) = frame.split_at_mut(offset);
    let ip = &head[ETHERNET_BYTES..];
    let length =
        if is_ipv6(head) { usize::from(u16_at(ip, 4)) } else { usize::from(u16_at(ip, 2)) - IPV4_BYTES };
    let tcp = &mut tcp[..length];
    tcp[16..18].fill(0);
    let checksum = !fold(sum(tcp, pseudo_header(ip, 6, length)));
    tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
}

/// Writes the checksums of a frame with ICMP of either family.
pub(crate) fn write_icmp_checksum(frame: &mut [u8]) {
    let over_ipv6 = is_ipv6(frame);
    let (head, icmp) = frame.split_at_mut(tcp_offset(frame));
    let ip = &mut head[ETHERNET_BYTES..];
    icmp[2..4].fill(0);
    let start = if over_ipv6 { pseudo_header(ip, ICMPV6, icmp.len()) } else { 0 };
    let checksum = !fold(sum(icmp, start));
    icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
    if !over_ipv6 {
        write_ipv4_checksum(ip);
    }
}

/// Reads a frame.
pub fn parse(frame: &[u8]) -> Parsed {
    if frame.len() < ETHERNET_BYTES {
        return Parsed::Malformed("shorter than an Ethernet header");
    }
    match u16_at(frame, 12) {
        0x0806 if frame.len() < ETHERNET_BYTES + 28 => Parsed::Malformed("ARP cut short"),
        0x0806 => Parsed::Other,
        0x0800 => ipv4(frame),
        0x86dd => ipv6(frame),
        _ => Parsed::Malformed("EtherType is neither IPv4, IPv6 nor ARP"),
    }
}

fn ipv4(frame: &[u8]) -> Parsed {
    let ip = &frame[ETHERNET_BYTES..];
    if ip.len() < IPV4_BYTES || ip[0] != 0x45 {
        return Parsed::Malformed("IPv4 header cut short, with options, or not version 4");
    }
    if fold(sum(&ip[..IPV4_BYTES], 0)) != 0xffff {
        return Parsed::Malformed("IPv4 header checksum");
    }
    let total = usize::from(u16_at(ip, 2));
    if total < IPV4_BYTES || total > ip.len() {
        return Parsed::Malformed("IPv4 total length");
    }
    if ip.len() > total && ip.len() > 46 {
        return Parsed::Malformed("bytes behind the IPv4 datagram");
    }
    if u16_at(ip, 6) & 0x3fff != 0 {
        return Parsed::Malformed("an IPv4 fragment");
    }
    if ip[8] == 0 {
        return Parsed::Malformed("IPv4 TTL is zero");
    }
    if ip[9] != 6 {
        return Parsed::Other;
    }
    tcp(&ip[..total], IPV4_BYTES, [u32_at(ip, 12), u32_at(ip, 16)])
}

fn ipv6(frame: &[u8]) -> Parsed {
    let ip = &frame[ETHERNET_BYTES..];
    if ip.len() < IPV6_BYTES || ip[0] >> 4 != 6 {
        return Parsed::Malformed("IPv6 header cut short, or not version 6");
    }
    let total = IPV6_BYTES + usize::from(u16_at(ip, 4));
    if total > ip.len() {
        return Parsed::Malformed("IPv6 payload length");
    }
    if ip.len() > total {
        return Parsed::Malformed("bytes behind the IPv6 packet");
    }
    if ip[7] == 0 {
        return Parsed::Malformed("IPv6 hop limit is zero");
    }
    match ip[6] {
        6 => {}
        ICMPV6 => return icmpv6(ip, IPV6_BYTES),
        0 => return hop_by_hop(ip),
        _ => return Parsed::Malformed("IPv6 with another next header than TCP and ICMPv6"),
    }
    let name = |at: usize| {
        let words: [u32; 4] = std::array::from_fn(|index| u32_at(ip, at + index * 4));
        (words == ipv6_of(words[3])).then_some(words[3])
    };
    match (name(8), name(24)) {
        (Some(source), Some(destination)) => tcp(ip, IPV6_BYTES, [source, destination]),
        _ => Parsed::Malformed("TCP from or to an IPv6 address of nobody"),
    }
}

/// Only reports of multicast groups have options, the router alert (RFC 3810 §5).
fn hop_by_hop(ip: &[u8]) -> Parsed {
    let options = &ip[IPV6_BYTES..];
    match options {
        [ICMPV6, 0, 5, 2, 0, 0, ..] if options.len() > 8 && options[8] == 143 && ip[7] == 1 => {
            icmpv6(ip, IPV6_BYTES + 8)
        }
        _ => Parsed::Malformed("IPv6 options that are no report of multicast groups"),
    }
}

/// Neighbour discovery has the largest hop limit (RFC 4861 §7.1), and everything a checksum.
fn icmpv6(ip: &[u8], at: usize) -> Parsed {
    let message = &ip[at..];
    if message.len() < 8 {
        return Parsed::Malformed("ICMPv6 cut short");
    }
    if fold(sum(message, pseudo_header(ip, ICMPV6, message.len()))) != 0xffff {
        return Parsed::Malformed("ICMPv6 checksum");
    }
    if (133..=137).contains(&message[0]) && ip[7] != 255 {
        return Parsed::Malformed("neighbour discovery with a hop limit below 255");
    }
    Parsed::Other
}

/// `ip` is the whole datagram, its header `ip_header` bytes long.
fn tcp(ip: &[u8], ip_header: usize, [source, destination]: [u32; 2]) -> Parsed {
    let tcp = &ip[ip_header..];
    if tcp.len() < TCP_BYTES {
        return Parsed::Malformed("TCP header cut short");
    }
    if fold(sum(tcp, pseudo_header(ip, 6, tcp.len()))) != 0xffff {
        return Parsed::Malformed("TCP checksum");
    }
    let header = usize::from(tcp[12] >> 4) * 4;
    if header < TCP_BYTES || header > tcp.len() {
        return Parsed::Malformed("TCP data offset");
    }
    if tcp[12] & 0x0f != 0 {
        return Parsed::Malformed("reserved bits of the TCP header are set");
    }
    let mut segment = Segment {
        ipv6: ip_header == IPV6_BYTES,
        source: (source, u16_at(tcp, 0)),
        destination: (destination, u16_at(tcp, 2)),
        seq: u32_at(tcp, 4),
        ack: u32_at(tcp, 8),
        flags: tcp[13],
        window: u16_at(tcp, 14),
        payload_offset: ETHERNET_BYTES + ip_header + header,
        payload_bytes: tcp.len() - header,
        ip_bytes: ip.len(),
        ..Segment::default()
    };
    if let Err(broken) = options(&tcp[TCP_BYTES..header], &mut segment) {
        return Parsed::Malformed(broken);
    }
    match form(&segment) {
        Some(broken) => Parsed::Malformed(broken),
        None => Parsed::Tcp(segment),
    }
}

fn options(mut rest: &[u8], segment: &mut Segment) -> Result<(), &'static str> {
    let syn = segment.has(flag::SYN);
    while let [kind, tail @ ..] = rest {
        match kind {
            0 if tail.iter().any(|byte| *byte != 0) => return Err("bytes behind the end of options"),
            0 => return Ok(()),
            1 => {
                rest = tail;
                continue;
            }
            _ => {}
        }
        let length = usize::from(*tail.first().ok_or("option without a length")?);
        if length < 2 || length > rest.len() {
            return Err("option length");
        }
        let (option, after) = rest.split_at(length);
        rest = after;
        match (kind, length) {
            (2, 4) if syn => segment.mss = Some(u16_at(option, 2)),
            (3, 3) if syn && option[2] <= 14 => segment.window_shift = Some(option[2]),
            (4, 2) if syn => segment.sack_permitted = true,
            (5, 10 | 18 | 26 | 34) if !syn => {
                let blocks = option[2..].chunks_exact(8);
                segment.sack.extend(blocks.map(|block| (u32_at(block, 0), u32_at(block, 4))));
            }
            (8, 10) => segment.timestamps = Some((u32_at(option, 2), u32_at(option, 6))),
            (34, 2..=18) if syn => {}
            (2 | 3 | 4 | 34, _) if !syn => return Err("an option of SYNs in another segment"),
            (2 | 3 | 4 | 5 | 8 | 34, _) => return Err("length or value of a known option"),
            _ => return Err("an option that nobody asked for"),
        }
    }
    Ok(())
}

/// Rules between the parts of a header.
fn form(segment: &Segment) -> Option<&'static str> {
    let has = |flags| segment.has(flags);
    if has(flag::SYN) && has(flag::FIN | flag::RST) {
        return Some("SYN with FIN or RST");
    }
    if has(flag::RST) && has(flag::FIN) {
        return Some("RST with FIN");
    }
    if !has(flag::SYN | flag::RST | flag::ACK) {
        return Some("neither SYN, RST nor ACK");
    }
    if segment.source.1 == 0 || segment.destination.1 == 0 {
        return Some("port zero");
    }
    if has(flag::RST) && segment.payload_bytes > 0 {
        return Some("RST with data");
    }
    if has(flag::SYN) && segment.mss.is_none() {
        return Some("SYN without MSS");
    }
    None
}

/// A forged segment's header: everything else is plain.
#[derive(Debug, Clone, Copy)]
pub struct Forged {
    /// Over IPv6.
    pub ipv6: bool,
    /// MAC addresses: of the receiver, of the pretended sender.
    pub macs: [[u8; 6]; 2],
    /// Pretended source.
    pub source: (u32, u16),
    /// Destination.
    pub destination: (u32, u16),
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags.
    pub flags: u8,
    /// Window.
    pub window: u16,
    /// Timestamps, if any.
    pub timestamps: Option<(u32, u32)>,
    /// Bytes of payload (of the value 0xee).
    pub payload_bytes: usize,
}

impl Forged {
    /// The frame.
    pub fn frame(&self) -> Vec<u8> {
        let syn = self.flags & flag::SYN != 0;
        let options = if self.timestamps.is_some() { 12 } else { 0 } + if syn { 4 } else { 0 };
        let bytes = TCP_BYTES + options + self.payload_bytes;
        let mut frame = Vec::new();
        frame.extend_from_slice(&self.macs[0]);
        frame.extend_from_slice(&self.macs[1]);
        if self.ipv6 {
            frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend_from_slice(&(bytes as u16).to_be_bytes());
            frame.extend_from_slice(&[6, 64]);
            let words = [ipv6_of(self.source.0), ipv6_of(self.destination.0)];
            frame.extend(words.as_flattened().iter().flat_map(|word| word.to_be_bytes()));
        } else {
            frame.extend_from_slice(&[8, 0, 0x45, 0]);
            frame.extend_from_slice(&((IPV4_BYTES + bytes) as u16).to_be_bytes());
            frame.extend_from_slice(&[0, 0, 0x40, 0, 64, 6, 0, 0]);
            frame.extend_from_slice(&self.source.0.to_be_bytes());
            frame.extend_from_slice(&self.destination.0.to_be_bytes());
        }
        frame.extend_from_slice(&self.source.1.to_be_bytes());
        frame.extend_from_slice(&self.destination.1.to_be_bytes());
        frame.extend_from_slice(&self.seq.to_be_bytes());
        frame.extend_from_slice(&self.ack.to_be_bytes());
        frame.extend_from_slice(&[((TCP_BYTES + options) as u8 / 4) << 4, self.flags]);
        frame.extend_from_slice(&self.window.to_be_bytes());
        frame.extend_from_slice(&[0; 4]);
        if let Some((value, echo)) = self.timestamps {
            frame.extend_from_slice(&[1, 1, 8, 10]);
            frame.extend_from_slice(&value.to_be_bytes());
            frame.extend_from_slice(&echo.to_be_bytes());
        }
        if syn {
            frame.extend_from_slice(&[2, 4, 5, 0xb4]);
        }
        frame.resize(tcp_offset(&frame) + bytes, 0xee);
        if !self.ipv6 {
            write_ipv4_checksum(&mut frame[ETHERNET_BYTES..]);
        }
        write_tcp_checksum(&mut frame);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forged() -> Forged {
        Forged {
            ipv6: false,
            macs: [[2; 6], [4; 6]],
            source: (0x0a00_0001, 80),
            destination: (0x0a00_0002, 40_000),
            seq: 7,
            ack: 9,
            flags: flag::ACK,
            window: 100,
            timestamps: Some((1, 2)),
            payload_bytes: 5,
        }
    }

    #[test]
    fn what_is_forged_parses() {
        for ipv6 in [false, true] {
            forged_parses(ipv6);
        }
    }

    fn forged_parses(ipv6: bool) {
        let Parsed::Tcp(segment) = parse(&Forged { ipv6, ..forged() }.frame()) else {
            panic!("not TCP");
        };
        assert_eq!(segment.ipv6, ipv6);
        assert_eq!((segment.source, segment.destination), ((0x0a00_0001, 80), (0x0a00_0002, 40_000)));
        assert_eq!((segment.seq, segment.ack, segment.flags, segment.window), (7, 9, flag::ACK, 100));
        assert_eq!((segment.timestamps, segment.payload_bytes), (Some((1, 2)), 5));
        assert_eq!(segment.payload_offset, if ipv6 { 86 } else { 66 });
    }

    #[test]
    fn every_single_bit_flip_behind_ethernet_is_noticed() {
        let good = forged().frame();
        for bit in ETHERNET_BYTES * 8..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(parse(&bad), Parsed::Malformed(_)), "bit {bit}");
        }
    }

    /// All but traffic class, flow label and hop limit, which no checksum covers.
    #[test]
    fn every_single_bit_flip_of_ipv6_is_noticed() {
        let good = Forged { ipv6: true, ..forged() }.frame();
        for bit in ETHERNET_BYTES * 8..good.len() * 8 {
            if (ETHERNET_BYTES * 8 + 4..ETHERNET_BYTES * 8 + 32).contains(&bit)
                || bit / 8 == ETHERNET_BYTES + 7
            {
                continue;
            }
            let mut bad = good.clone();
            // The most significant bit of a byte is the first.
            bad[bit / 8] ^= 0x80 >> (bit % 8);
            assert!(matches!(parse(&bad), Parsed::Malformed(_)), "bit {bit}");
        }
    }

    #[test]
    fn broken_rules_have_names() {
        let broken = |change: fn(&mut Forged)| {
            let mut bad = forged();
            change(&mut bad);
            parse(&bad.frame())
        };
        assert_eq!(broken(|f| f.flags = 0), Parsed::Malformed("neither SYN, RST nor ACK"));
        assert_eq!(broken(|f| f.flags = flag::RST), Parsed::Malformed("RST with data"));
        assert_eq!(broken(|f| f.flags = flag::SYN | flag::FIN), Parsed::Malformed("SYN with FIN or RST"));
        assert_eq!(broken(|f| f.source.1 = 0), Parsed::Malformed("port zero"));
    }
}
