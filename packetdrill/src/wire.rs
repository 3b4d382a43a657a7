// SPDX-License-Identifier: MIT OR Apache-2.0
//! TCP segments and ICMP errors in Ethernet and IPv4, to and from bytes. Written apart from the stack's
//! own code, so that the two check each other.

use std::fmt;

/// Flags of a segment.
pub(crate) mod flag {
    pub(crate) const FIN: u8 = 1;
    pub(crate) const SYN: u8 = 2;
    pub(crate) const RST: u8 = 4;
    pub(crate) const PSH: u8 = 8;
    pub(crate) const ACK: u8 = 16;
    pub(crate) const URG: u8 = 32;
    pub(crate) const ECE: u8 = 64;
    pub(crate) const CWR: u8 = 128;
    /// Letters, in the order they are printed.
    pub(crate) const LETTERS: [(u8, char); 8] =
        [(SYN, 'S'), (FIN, 'F'), (RST, 'R'), (PSH, 'P'), (URG, 'U'), (ECE, 'E'), (CWR, 'W'), (ACK, '.')];
}

/// ECN codepoints (RFC 3168 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ecn {
    /// Not ECN-capable.
    #[default]
    Not,
    /// ECT(1).
    Ect1,
    /// ECT(0).
    Ect0,
    /// Congestion experienced.
    Ce,
}

/// The shift of `wscale *`, which stands for any.
pub(crate) const ANY_SHIFT: u8 = u8::MAX;

/// A TCP option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TcpOption {
    /// End of options.
    End,
    /// No operation.
    Nop,
    /// Maximum segment size.
    Mss(u16),
    /// Window scale.
    WindowScale(u8),
    /// SACK permitted.
    SackPermitted,
    /// SACK blocks: left and right edge.
    Sack(Vec<(u32, u32)>),
    /// TSval and TSecr.
    Timestamps(u32, u32),
    /// Fast open cookie (RFC 7413).
    FastOpen(Vec<u8>),
    /// `FO *`: from the host any cookie, which is kept; from the peer the cookie that was kept.
    AnyFastOpen,
    /// Bytes as they are.
    Raw(Vec<u8>),
}

/// A segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segment {
    /// [`flag`]s.
    pub flags: u8,
    /// Sequence number.
    pub seq: u32,
    /// Payload bytes.
    pub bytes: u32,
    /// Acknowledgement number; zero without the flag.
    pub ack: u32,
    /// Window field, not scaled.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options.
    pub options: Vec<TcpOption>,
    /// Congestion mark.
    pub ecn: Ecn,
}

/// Where a segment goes from and to. Addresses in host order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Path {
    pub(crate) source: u32,
    pub(crate) destination: u32,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) source_mac: [u8; 6],
    pub(crate) destination_mac: [u8; 6],
}

/// A frame that was taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) path: Path,
    pub(crate) segment: Segment,
    pub(crate) payload: Vec<u8>,
    pub(crate) ttl: u8,
    pub(crate) dont_fragment: bool,
}

pub(crate) const ETHERNET_BYTES: usize = 14;
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_ICMP: u8 = 1;
const TTL: u8 = 64;

fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
        }
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn pseudo_header(path: &Path, length: usize) -> Vec<u8> {
    let mut bytes = path.source.to_be_bytes().to_vec();
    bytes.extend(path.destination.to_be_bytes());
    bytes.extend([0, PROTOCOL_TCP]);
    bytes.extend((length as u16).to_be_bytes());
    bytes
}

fn encode_options(options: &[TcpOption]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for option in options {
        match option {
            TcpOption::End => bytes.push(0),
            TcpOption::Nop => bytes.push(1),
            TcpOption::Mss(mss) => bytes.extend([2, 4, (mss >> 8) as u8, *mss as u8]),
            TcpOption::WindowScale(shift) => bytes.extend([3, 3, *shift]),
            TcpOption::SackPermitted => bytes.extend([4, 2]),
            TcpOption::Sack(blocks) => {
                bytes.extend([5, 2 + 8 * blocks.len() as u8]);
                for (left, right) in blocks {
                    bytes.extend(left.to_be_bytes());
                    bytes.extend(right.to_be_bytes());
                }
            }
            TcpOption::Timestamps(value, echo) => {
                bytes.extend([8, 10]);
                bytes.extend(value.to_be_bytes());
                bytes.extend(echo.to_be_bytes());
            }
            TcpOption::FastOpen(cookie) => {
                bytes.extend([34, 2 + cookie.len() as u8]);
                bytes.extend(cookie);
            }
            // For its length only: eight bytes, as ours are.
            TcpOption::AnyFastOpen => bytes.extend([34, 10, 0, 0, 0, 0, 0, 0, 0, 0]),
            TcpOption::Raw(raw) => bytes.extend(raw),
        }
    }
    while bytes.len() % 4 != 0 {
        bytes.push(0);
    }
    bytes
}

/// Bytes the options take in a header.
pub(crate) fn options_bytes(options: &[TcpOption]) -> usize {
    encode_options(options).len()
}

fn decode_options(mut bytes: &[u8]) -> Result<Vec<TcpOption>, String> {
    let word = |bytes: &[u8]| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let mut options = Vec::new();
    while let [kind, rest @ ..] = bytes {
        if *kind < 2 {
            if *kind == 0 {
                break;
            }
            options.push(TcpOption::Nop);
            bytes = rest;
            continue;
        }
        let length = usize::from(*rest.first().ok_or("an option without length")?);
        let whole =
            bytes.get(..length).filter(|_| length >= 2).ok_or(format!("option {kind} of length {length}"))?;
        let body = &whole[2..];
        options.push(match (kind, body.len()) {
            (2, 2) => TcpOption::Mss(u16::from_be_bytes([body[0], body[1]])),
            (3, 1) => TcpOption::WindowScale(body[0]),
            (4, 0) => TcpOption::SackPermitted,
            (5, count) if count % 8 == 0 && count > 0 => {
                TcpOption::Sack(body.chunks(8).map(|block| (word(block), word(&block[4..]))).collect())
            }
            (8, 8) => TcpOption::Timestamps(word(body), word(&body[4..])),
            (34, _) => TcpOption::FastOpen(body.to_vec()),
            _ => TcpOption::Raw(whole.to_vec()),
        });
        bytes = &bytes[length..];
    }
    Ok(options)
}

fn ethernet(path: &Path, kind: u16) -> Vec<u8> {
    let mut frame = path.destination_mac.to_vec();
    frame.extend(path.source_mac);
    frame.extend(kind.to_be_bytes());
    frame
}

fn ipv4(path: &Path, protocol: u8, ecn: Ecn, ip_options: bool, payload: &[u8]) -> Vec<u8> {
    let options: &[u8] = if ip_options { &[1, 1, 1, 0] } else { &[] };
    let header_bytes = 20 + options.len();
    let mut header = vec![0x40 | (header_bytes / 4) as u8, ecn as u8];
    header.extend(((header_bytes + payload.len()) as u16).to_be_bytes());
    header.extend([0, 0, 0x40, 0, TTL, protocol, 0, 0]);
    header.extend(path.source.to_be_bytes());
    header.extend(path.destination.to_be_bytes());
    header.extend(options);
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header.extend(payload);
    header
}

/// How a frame is spoiled or dressed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Manner {
    pub(crate) bad_checksum: bool,
    pub(crate) ip_options: bool,
}

/// The frame of a segment.
pub(crate) fn encode(path: &Path, segment: &Segment, payload: &[u8], manner: Manner) -> Vec<u8> {
    let tcp = encode_tcp(path, segment, payload, manner.bad_checksum);
    let mut frame = ethernet(path, IPV4);
    frame.extend(ipv4(path, PROTOCOL_TCP, segment.ecn, manner.ip_options, &tcp));
    frame
}

fn encode_tcp(path: &Path, segment: &Segment, payload: &[u8], bad_checksum: bool) -> Vec<u8> {
    let options = encode_options(&segment.options);
    let mut tcp = path.source_port.to_be_bytes().to_vec();
    tcp.extend(path.destination_port.to_be_bytes());
    tcp.extend(segment.seq.to_be_bytes());
    tcp.extend(segment.ack.to_be_bytes());
    tcp.extend([(((20 + options.len()) / 4) << 4) as u8, segment.flags]);
    tcp.extend(segment.window.to_be_bytes());
    tcp.extend([0, 0]);
    tcp.extend(segment.urgent.to_be_bytes());
    tcp.extend(options);
    tcp.extend(payload);
    let mut sum = checksum(&[&pseudo_header(path, tcp.len()), &tcp]);
    if bad_checksum {
        sum ^= 0x0101;
    }
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    tcp
}

/// The frame of an ICMP error about a segment of ours: `path` is the error's, `quoted_path` the segment's.
pub(crate) fn encode_icmp(
    path: &Path,
    quoted_path: &Path,
    kind: u8,
    code: u8,
    mtu: u16,
    seq: u32,
    bytes: u32,
) -> Vec<u8> {
    let segment = Segment { flags: flag::ACK, seq, ..Segment::default() };
    let mut quoted = encode_tcp(quoted_path, &segment, &vec![0; bytes as usize], false);
    quoted = ipv4(quoted_path, PROTOCOL_TCP, Ecn::Not, false, &quoted);
    // RFC 792: the header and eight bytes.
    quoted.truncate(28);
    let mut message = vec![kind, code, 0, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(quoted);
    let sum = checksum(&[&message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = ethernet(path, IPV4);
    frame.extend(ipv4(path, PROTOCOL_ICMP, Ecn::Not, false, &message));
    frame
}

/// What a frame is.
pub(crate) enum Frame {
    /// An ARP request for this address.
    ArpRequest(u32),
    Tcp(Box<Parsed>),
    Other,
}

/// Takes a frame apart and checks what every frame must have right.
pub(crate) fn decode(frame: &[u8]) -> Result<Frame, String> {
    let header = frame.get(..ETHERNET_BYTES).ok_or("a frame shorter than an Ethernet header")?;
    let kind = u16::from_be_bytes([header[12], header[13]]);
    let body = &frame[ETHERNET_BYTES..];
    match kind {
        ARP if body.len() >= 28 && body[7] == 1 => {
            Ok(Frame::ArpRequest(u32::from_be_bytes([body[24], body[25], body[26], body[27]])))
        }
        IPV4 => decode_ipv4(header, body),
        _ => Ok(Frame::Other),
    }
}

fn decode_ipv4(ethernet: &[u8], body: &[u8]) -> Result<Frame, String> {
    let word = |bytes: &[u8], at: usize| {
        u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    let half = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    if body.len() < 20 || body[0] >> 4 != 4 {
        return Err("no IPv4 header".to_owned());
    }
    let header_bytes = usize::from(body[0] & 15) * 4;
    let total = usize::from(half(body, 2));
    let (Some(header), Some(packet)) = (body.get(..header_bytes), body.get(..total)) else {
        return Err(format!("IPv4 header of {header_bytes} and datagram of {total} bytes do not fit"));
    };
    if checksum(&[header]) != 0 {
        return Err("the IPv4 header's checksum is wrong".to_owned());
    }
    if header[9] != PROTOCOL_TCP {
        return Ok(Frame::Other);
    }
    let tcp = &packet[header_bytes..];
    if tcp.len() < 20 {
        return Err("no TCP header".to_owned());
    }
    let mac = |at: usize| -> [u8; 6] { std::array::from_fn(|index| ethernet[at + index]) };
    let path = Path {
        source: word(header, 12),
        destination: word(header, 16),
        source_port: half(tcp, 0),
        destination_port: half(tcp, 2),
        source_mac: mac(6),
        destination_mac: mac(0),
    };
    if checksum(&[&pseudo_header(&path, tcp.len()), tcp]) != 0 {
        return Err("the TCP checksum is wrong (RFC 9293 MUST-2)".to_owned());
    }
    let offset = usize::from(tcp[12] >> 4) * 4;
    let (Some(options), Some(payload)) = (tcp.get(20..offset), tcp.get(offset..)) else {
        return Err(format!("TCP data offset of {offset} bytes does not fit"));
    };
    if tcp[12] & 15 != 0 {
        return Err("reserved bits are set (RFC 9293 §3.1)".to_owned());
    }
    let segment = Segment {
        flags: tcp[13],
        seq: word(tcp, 4),
        bytes: payload.len() as u32,
        ack: word(tcp, 8),
        window: half(tcp, 14),
        urgent: half(tcp, 18),
        options: decode_options(options)?,
        ecn: [Ecn::Not, Ecn::Ect1, Ecn::Ect0, Ecn::Ce][usize::from(header[1] & 3)],
    };
    if segment.flags & flag::ACK == 0 && segment.ack != 0 {
        return Err("an acknowledgement number without ACK".to_owned());
    }
    let (ttl, dont_fragment) = (header[8], header[6] & 0x40 != 0);
    Ok(Frame::Tcp(Box::new(Parsed { path, segment, payload: payload.to_vec(), ttl, dont_fragment })))
}

/// The reply to an ARP request for `address` from `to`.
pub(crate) fn arp_reply(address: u32, mac: [u8; 6], to: u32, to_mac: [u8; 6]) -> Vec<u8> {
    let path = Path { source_mac: mac, destination_mac: to_mac, ..Path::default() };
    let mut frame = ethernet(&path, ARP);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 2]);
    frame.extend(mac);
    frame.extend(address.to_be_bytes());
    frame.extend(to_mac);
    frame.extend(to.to_be_bytes());
    frame
}

impl fmt::Display for TcpOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        match self {
            Self::End => write!(f, "eol"),
            Self::Nop => write!(f, "nop"),
            Self::Mss(mss) => write!(f, "mss {mss}"),
            Self::WindowScale(ANY_SHIFT) => write!(f, "wscale *"),
            Self::WindowScale(shift) => write!(f, "wscale {shift}"),
            Self::SackPermitted => write!(f, "sackOK"),
            Self::Sack(blocks) => {
                write!(f, "sack")?;
                blocks.iter().try_for_each(|(left, right)| write!(f, " {left}:{right}"))
            }
            Self::Timestamps(value, echo) => write!(f, "TS val {value} ecr {echo}"),
            Self::FastOpen(cookie) => write!(f, "FO {}", hex(cookie)),
            Self::AnyFastOpen => write!(f, "FO *"),
            Self::Raw(raw) => write!(f, "hex {}", hex(raw)),
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ecn {
            Ecn::Not => {}
            Ecn::Ect0 => write!(f, "[ect0] ")?,
            Ecn::Ect1 => write!(f, "[ect1] ")?,
            Ecn::Ce => write!(f, "[ce] ")?,
        }
        if self.flags == 0 {
            write!(f, "-")?;
        }
        for (bit, letter) in flag::LETTERS {
            if self.flags & bit != 0 {
                write!(f, "{letter}")?;
            }
        }
        write!(f, " {}:{}({})", self.seq, self.seq.wrapping_add(self.bytes), self.bytes)?;
        if self.flags & flag::ACK != 0 {
            write!(f, " ack {}", self.ack)?;
        }
        write!(f, " win {}", self.window)?;
        if self.flags & flag::URG != 0 {
            write!(f, " urg {}", self.urgent)?;
        }
        let shown: Vec<_> = self.options.iter().map(ToString::to_string).collect();
        if !shown.is_empty() {
            write!(f, " <{}>", shown.join(","))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> Path {
        Path {
            source: 0x0a00_0001,
            destination: 0x0a00_0002,
            source_port: 1,
            destination_port: 2,
            ..Path::default()
        }
    }

    fn segment() -> Segment {
        Segment {
            flags: flag::ACK | flag::PSH,
            seq: 7,
            bytes: 3,
            ack: 9,
            window: 100,
            options: vec![
                TcpOption::Mss(1460),
                TcpOption::SackPermitted,
                TcpOption::Timestamps(1, 2),
                TcpOption::Nop,
                TcpOption::WindowScale(7),
                TcpOption::Sack(vec![(5, 6)]),
            ],
            ecn: Ecn::Ce,
            ..Segment::default()
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for ip_options in [false, true] {
            let manner = Manner { ip_options, ..Manner::default() };
            let frame = encode(&path(), &segment(), b"abc", manner);
            let Ok(Frame::Tcp(parsed)) = decode(&frame) else { panic!("not TCP") };
            assert_eq!((parsed.segment, parsed.path, &parsed.payload[..]), (segment(), path(), &b"abc"[..]));
        }
    }

    #[test]
    fn a_wrong_checksum_is_seen() {
        let manner = Manner { bad_checksum: true, ..Manner::default() };
        assert!(decode(&encode(&path(), &segment(), b"abc", manner)).is_err());
        let mut frame = encode(&path(), &segment(), b"abc", Manner::default());
        frame[ETHERNET_BYTES + 8] ^= 1;
        assert!(decode(&frame).is_err());
    }
}
