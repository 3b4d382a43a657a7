// SPDX-License-Identifier: MIT OR Apache-2.0
//! Segments and ICMP errors.

use super::{cursor::Cursor, Result};
use crate::{
    script::{Action, EcnSpec, IcmpSpec, PacketSpec},
    wire::{flag, Ecn, TcpOption, ANY_SHIFT},
};

/// Destination unreachable (RFC 792), and its codes by packetdrill's names.
const UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const CODES: [(&str, u8); 14] = [
    ("net_unreachable", 0),
    ("host_unreachable", 1),
    ("protocol_unreachable", 2),
    ("port_unreachable", 3),
    ("frag_needed", FRAGMENTATION_NEEDED),
    ("source_route_failed", 5),
    ("net_unknown", 6),
    ("host_unknown", 7),
    ("source_host_isolated", 8),
    ("net_prohibited", 9),
    ("host_prohibited", 10),
    ("net_unreachable_for_tos", 11),
    ("host_unreachable_for_tos", 12),
    ("packet_filtered", 13),
];

/// What may stand in brackets before a packet.
#[derive(Default)]
struct Marks {
    packet: PacketSpec,
    quoted: Option<(u32, u32)>,
}

/// `< …`
pub(super) fn inbound(cursor: &mut Cursor<'_>) -> Result<Action> {
    cursor.expect('<')?;
    let marks = marks(cursor)?;
    if cursor.take_word("icmp") {
        return icmp(cursor, &marks).map(Action::Icmp);
    }
    let packet = segment(cursor, marks)?;
    if packet.any_options {
        return Err(cursor.error("a segment that is sent needs its options written"));
    }
    if !packet.has_window && packet.segment.flags & flag::RST == 0 {
        return Err(cursor.error("a segment that is sent needs its window written"));
    }
    Ok(Action::Send(packet))
}

/// `> …`
pub(super) fn outbound(cursor: &mut Cursor<'_>) -> Result<Action> {
    cursor.expect('>')?;
    let marks = marks(cursor)?;
    if marks.packet.bad_checksum || marks.packet.ip_options {
        return Err(cursor.error("only a segment that is sent can be spoiled"));
    }
    segment(cursor, marks).map(Action::Expect)
}

fn marks(cursor: &mut Cursor<'_>) -> Result<Marks> {
    let mut marks = Marks::default();
    while cursor.take('[') {
        loop {
            mark(cursor, &mut marks)?;
            if !cursor.take(',') {
                break;
            }
        }
        cursor.expect(']')?;
    }
    Ok(marks)
}

fn mark(cursor: &mut Cursor<'_>, marks: &mut Marks) -> Result<()> {
    if cursor.peek().is_some_and(|letter| letter.is_ascii_digit()) {
        marks.quoted = Some(range(cursor)?);
        return Ok(());
    }
    let packet = &mut marks.packet;
    match cursor.name()?.as_str() {
        "noecn" => packet.ecn = Some(EcnSpec::Is(Ecn::Not)),
        "ect0" => packet.ecn = Some(EcnSpec::Is(Ecn::Ect0)),
        "ect1" => packet.ecn = Some(EcnSpec::Is(Ecn::Ect1)),
        "ce" => packet.ecn = Some(EcnSpec::Is(Ecn::Ce)),
        "ect01" => packet.ecn = Some(EcnSpec::Capable),
        "port" => packet.port = Some(cursor.number()?),
        "badsum" => packet.bad_checksum = true,
        "ipopt" => packet.ip_options = true,
        other => return Err(cursor.error(format!("unknown mark {other}"))),
    }
    Ok(())
}

/// `first:last(bytes)`: first and bytes.
fn range(cursor: &mut Cursor<'_>) -> Result<(u32, u32)> {
    let first: u32 = cursor.number()?;
    cursor.expect(':')?;
    let last: u32 = cursor.number()?;
    cursor.expect('(')?;
    let bytes: u32 = cursor.number()?;
    cursor.expect(')')?;
    if first.wrapping_add(bytes) != last {
        return Err(cursor.error(format!("{first}:{last} is not {bytes} bytes")));
    }
    Ok((first, bytes))
}

fn icmp(cursor: &mut Cursor<'_>, marks: &Marks) -> Result<IcmpSpec> {
    if !cursor.take_word("unreachable") {
        return Err(cursor.error("only icmp unreachable is known"));
    }
    let mut icmp =
        IcmpSpec { kind: UNREACHABLE, code: 1, quoted: marks.quoted, port: marks.packet.port, mtu: 0 };
    if let Some((_, code)) = CODES.iter().find(|(name, _)| cursor.take_word(name)) {
        icmp.code = *code;
    }
    if cursor.take_word("mtu") {
        icmp.mtu = cursor.number()?;
    }
    if icmp.quoted.is_none() && cursor.take('[') {
        icmp.quoted = Some(range(cursor)?);
        cursor.expect(']')?;
    }
    if icmp.code == FRAGMENTATION_NEEDED && icmp.mtu == 0 && icmp.quoted.is_none() {
        return Err(cursor.error("frag_needed needs an mtu, or the segment quoted"));
    }
    Ok(icmp)
}

fn flags(cursor: &mut Cursor<'_>) -> Result<u8> {
    cursor.peek();
    let letters = cursor.word(|letter| letter.is_ascii_alphabetic() || letter == '.' || letter == '-');
    if letters == "-" {
        return Ok(0);
    }
    let mut flags = 0;
    for letter in letters.chars() {
        let known = flag::LETTERS.iter().find(|(_, known)| *known == letter);
        flags |= known.ok_or_else(|| cursor.error(format!("unknown flags {letters}")))?.0;
    }
    if flags == 0 {
        return Err(cursor.error("expected flags"));
    }
    Ok(flags)
}

fn segment(cursor: &mut Cursor<'_>, marks: Marks) -> Result<PacketSpec> {
    let mut packet = marks.packet;
    packet.segment.flags = flags(cursor)?;
    (packet.segment.seq, packet.segment.bytes) = range(cursor)?;
    if cursor.take_word("ack") {
        packet.segment.ack = cursor.number()?;
        if packet.segment.flags & flag::ACK == 0 {
            return Err(cursor.error("ack without the flag '.'"));
        }
    } else if packet.segment.flags & flag::ACK != 0 {
        return Err(cursor.error("the flag '.' needs ack"));
    }
    if cursor.take_word("win") {
        packet.has_window = true;
        packet.segment.window = cursor.number()?;
    }
    if cursor.take_word("urg") {
        packet.segment.urgent = cursor.number()?;
    }
    // `<` also begins the next inbound packet, but not without a time before it.
    if cursor.take('<') {
        if cursor.take_text("...") {
            packet.any_options = true;
        } else {
            packet.segment.options = options(cursor)?;
        }
        cursor.expect('>')?;
    }
    if let Some(EcnSpec::Is(ecn)) = packet.ecn {
        packet.segment.ecn = ecn;
    }
    Ok(packet)
}

fn options(cursor: &mut Cursor<'_>) -> Result<Vec<TcpOption>> {
    let mut options = Vec::new();
    while cursor.peek() != Some('>') {
        options.push(option(cursor)?);
        if !cursor.take(',') {
            break;
        }
    }
    let bytes = crate::wire::options_bytes(&options);
    if bytes > 40 {
        return Err(cursor.error(format!("{bytes} bytes of options do not fit into a header")));
    }
    Ok(options)
}

fn option(cursor: &mut Cursor<'_>) -> Result<TcpOption> {
    Ok(match cursor.name()?.as_str() {
        "eol" => TcpOption::End,
        "nop" => TcpOption::Nop,
        "mss" => TcpOption::Mss(cursor.number()?),
        "wscale" if cursor.take('*') => TcpOption::WindowScale(ANY_SHIFT),
        "wscale" => TcpOption::WindowScale(cursor.number()?),
        "sackOK" => TcpOption::SackPermitted,
        "sack" => TcpOption::Sack(blocks(cursor)?),
        "TS" => {
            if !cursor.take_word("val") {
                return Err(cursor.error("expected val"));
            }
            let value = cursor.number()?;
            if !cursor.take_word("ecr") {
                return Err(cursor.error("expected ecr"));
            }
            TcpOption::Timestamps(value, cursor.number()?)
        }
        "FO" if cursor.take('*') => TcpOption::AnyFastOpen,
        "FO" => TcpOption::FastOpen(hex(cursor)?),
        "hex" => TcpOption::Raw(hex(cursor)?),
        other => return Err(cursor.error(format!("unknown option {other}"))),
    })
}

fn blocks(cursor: &mut Cursor<'_>) -> Result<Vec<(u32, u32)>> {
    let mut blocks = Vec::new();
    while cursor.peek().is_some_and(|letter| letter.is_ascii_digit()) {
        let left = cursor.number()?;
        cursor.expect(':')?;
        blocks.push((left, cursor.number()?));
    }
    Ok(blocks)
}

/// Hexadecimal digits, possibly none.
fn hex(cursor: &mut Cursor<'_>) -> Result<Vec<u8>> {
    cursor.peek();
    let digits = cursor.word(|letter| letter.is_ascii_hexdigit());
    if digits.len() % 2 != 0 {
        return Err(cursor.error("half a byte"));
    }
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16);
    (0..digits.len()).step_by(2).map(|at| byte(at).map_err(|_| cursor.error("no byte"))).collect()
}
