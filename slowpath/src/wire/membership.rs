// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Multicast Listener Discovery: queries, and reports of either version (RFC 3810 §5, RFC 2710 §3).

use super::{
    address::Address,
    checksum, ethernet, get_u16, ipv6,
    ipv6::{get_address, put_address},
    put,
    tcp::pad,
};

/// Kinds of messages: values of the ICMPv6 type.
pub(crate) const QUERY: u8 = 130;
const REPORT_V1: u8 = 131;
const REPORT: u8 = 143;
/// Hop limit of all of them: they stay on the link.
pub(crate) const HOP_LIMIT: u8 = 1;
/// All routers that speak version 2 (RFC 3810 §5.2.14).
pub(crate) const ROUTERS: Address = Address::v6([0xff02_0000, 0, 0, 0x16]);

/// Bytes of a message of version 1, and the fewest of a query of version 2 (RFC 3810 §8.1).
const V1_BYTES: usize = 24;
const V2_QUERY_BYTES: usize = 28;
/// Bytes of a report before its records, and of a record without sources.
const REPORT_BYTES: usize = 8;
const RECORD_BYTES: usize = 20;
/// A router alert for MLD, as hop-by-hop options in front of an ICMPv6 message (RFC 2711 §2.1).
const ROUTER_ALERT: [u8; 8] = [ipv6::ICMP, 0, ALERT, 2, 0, 0, PAD_N, 0];
const HOP_BY_HOP: u8 = 0;
const ALERT: u8 = 5;
const PAD_N: u8 = 1;
/// Response codes from here on are a mantissa and an exponent (RFC 3810 §5.1.3).
const FLOATING: u16 = 0x8000;

/// What a router asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Query {
    /// Unspecified: all groups.
    pub(crate) group: Address,
    /// The answer is to come within this time.
    pub(crate) within_us: u64,
    /// It speaks version 1 only.
    pub(crate) is_v1: bool,
}

impl Query {
    /// Parses an ICMPv6 message of the right type; `None`: RFC 3810 §8.1 has it dropped.
    pub(crate) fn parse(message: &[u8]) -> Option<Self> {
        let is_v1 = message.len() == V1_BYTES;
        if !is_v1 && message.len() < V2_QUERY_BYTES {
            return None;
        }
        let code = get_u16(message, 4)?;
        let within_ms = if is_v1 || code < FLOATING {
            code as u64
        } else {
            ((code & 0xfff | 0x1000) as u64) << ((code >> 12 & 7).wrapping_add(3))
        };
        let group = get_address(message, 8)?;
        Some(Self { group, within_us: within_ms.wrapping_mul(1000), is_v1 })
    }
}

/// Whether a packet's hop-by-hop options, verified already, have a router alert.
pub(crate) fn has_router_alert(packet: &[u8]) -> bool {
    if packet.get(6) != Some(&HOP_BY_HOP) {
        return false;
    }
    let Some([_, length, ..]) = packet.get(ipv6::HEADER_BYTES..) else {
        return false;
    };
    let end = ipv6::HEADER_BYTES.wrapping_add((*length as usize).wrapping_add(1).wrapping_mul(8));
    let mut rest = packet.get(ipv6::HEADER_BYTES.wrapping_add(2)..end).unwrap_or_default();
    loop {
        match rest {
            [ALERT, 2, ..] => return true,
            [0, tail @ ..] => rest = tail,
            [_, length, tail @ ..] => rest = tail.get(*length as usize..).unwrap_or_default(),
            _ => return false,
        }
    }
}

/// What a record of a report says of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record {
    /// We listen: MODE_IS_EXCLUDE of no source.
    Listening = 2,
    /// We have begun to listen: CHANGE_TO_EXCLUDE_MODE.
    Joined = 4,
}

/// Writes a report that we listen to `group`, in version 1 to the group itself; the frame's length.
pub(crate) fn write_v1(frame: &mut [u8], mac: u64, source: &Address, group: &Address) -> usize {
    if let Some(message) = frame.get_mut(MESSAGE..) {
        put(message, 0, &[REPORT_V1, 0, 0, 0, 0, 0, 0, 0]);
        put_address(message, 8, group);
    }
    finish(frame, mac, source, group, V1_BYTES)
}

/// Writes a report of version 2 about `groups`; the frame's length.
pub(crate) fn write(
    frame: &mut [u8],
    mac: u64,
    source: &Address,
    record: Record,
    groups: &[Address],
) -> usize {
    let mut at = REPORT_BYTES;
    if let Some(message) = frame.get_mut(MESSAGE..) {
        put(message, 0, &[REPORT, 0, 0, 0, 0, 0, 0, groups.len() as u8]);
        for group in groups {
            put(message, at, &[record as u8, 0, 0, 0]);
            put_address(message, at.wrapping_add(4), group);
            at = at.wrapping_add(RECORD_BYTES);
        }
    }
    finish(frame, mac, source, &ROUTERS, at)
}

/// Offset of the ICMPv6 message of what is sent.
const MESSAGE: usize = ethernet::HEADER_BYTES + ipv6::HEADER_BYTES + ROUTER_ALERT.len();

/// The headers and the checksum.
fn finish(frame: &mut [u8], mac: u64, source: &Address, destination: &Address, bytes: usize) -> usize {
    let destination_mac = super::discovery::group_mac(destination);
    ethernet::Ethernet { destination: destination_mac, source: mac, ethertype: ethernet::IPV6 }.write(frame);
    let payload_bytes = ROUTER_ALERT.len().wrapping_add(bytes);
    ipv6::write(frame, source, destination, HOP_BY_HOP, HOP_LIMIT, payload_bytes);
    put(frame, MESSAGE.wrapping_sub(ROUTER_ALERT.len()), &ROUTER_ALERT);
    let end = MESSAGE.wrapping_add(bytes);
    if let Some(message) = frame.get_mut(MESSAGE..end) {
        let sum = checksum::pseudo_header(source, destination, ipv6::ICMP, bytes as u16);
        let sum = checksum::finish(checksum::add(sum, message));
        put(message, 2, &sum.to_be_bytes());
    }
    pad(frame, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn response_codes_have_an_exponent() {
        for (code, milliseconds) in [(0u16, 0u64), (10_000, 10_000), (0x8000, 0x8000), (0xffff, 0x1fff << 10)]
        {
            let mut message = vec![0; V2_QUERY_BYTES];
            message[4..6].copy_from_slice(&code.to_be_bytes());
            assert_eq!(Query::parse(&message).unwrap().within_us, milliseconds * 1000, "{code}");
        }
        let mut message = vec![0; V1_BYTES];
        message[4] = 0x80;
        assert_eq!(Query::parse(&message).unwrap().within_us, 0x8000 * 1000, "version 1 has none");
        assert!(Query::parse(&message[1..]).is_none());
        assert!(Query::parse(&[0; 26]).is_none());
    }

    #[test]
    fn alerts_are_found_among_options() {
        let packet = |next: u8, options: &[u8]| {
            let mut packet = vec![0; ipv6::HEADER_BYTES];
            packet[6] = next;
            packet.extend([58, (options.len() as u8 + 2) / 8 - 1]);
            packet.extend(options);
            packet
        };
        assert!(has_router_alert(&packet(0, &[5, 2, 0, 0, 1, 0])));
        assert!(has_router_alert(&packet(0, &[1, 0, 5, 2, 0, 0])));
        assert!(has_router_alert(&packet(0, &[0, 0, 5, 2, 0, 0])));
        assert!(!has_router_alert(&packet(60, &[5, 2, 0, 0, 1, 0])), "destination options");
        assert!(!has_router_alert(&packet(0, &[1, 4, 5, 2, 0, 0])), "in padding");
        assert!(!has_router_alert(&packet(0, &[1, 4, 0, 0, 0, 0])[..41]));
    }
}
