// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Neighbor solicitations and advertisements (RFC 4861 §4.3, §4.4).

use super::{
    address::Address,
    checksum, ethernet, get_mac, ipv6,
    ipv6::{get_address, put_address},
    put, put_mac,
    tcp::pad,
};

/// Kinds of messages: values of the ICMPv6 type.
pub(crate) const SOLICITATION: u8 = 135;
/// See above.
pub(crate) const ADVERTISEMENT: u8 = 136;
/// Flag of an advertisement: it answers a solicitation.
pub(crate) const SOLICITED: u8 = 0x40;
/// Flag of an advertisement: it replaces what is known.
pub(crate) const OVERRIDE: u8 = 0x20;

/// Options with the MAC address of who sends a solicitation, and of what an advertisement is about.
const SOURCE_LINK: u8 = 1;
const TARGET_LINK: u8 = 2;
/// Bytes of a message without options.
const BODY_BYTES: usize = 24;
/// Bytes of an option with a MAC address.
const LINK_OPTION_BYTES: usize = 8;

/// All nodes of the link (RFC 4291 §2.7.1).
pub(crate) const ALL_NODES: Address = Address::v6([0xff02_0000, 0, 0, 1]);

/// The group of those who have an address that ends like this one (RFC 4291 §2.7.1).
pub(crate) const fn solicited_node(address: &Address) -> Address {
    let [.., last] = address.words();
    Address::v6([0xff02_0000, 0, 1, 0xff00_0000 | last & 0x00ff_ffff])
}

/// MAC address of a group (RFC 2464 §7).
pub(crate) const fn group_mac(group: &Address) -> u64 {
    let [.., last] = group.words();
    0x3333_0000_0000 | last as u64
}

/// A message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Discovery {
    pub(crate) kind: u8,
    /// [`SOLICITED`], [`OVERRIDE`]; of an advertisement.
    pub(crate) flags: u8,
    pub(crate) target: Address,
    /// MAC address given: of the sender (solicitation) or the target (advertisement).
    pub(crate) link: Option<u64>,
}

impl Discovery {
    /// Parses an ICMPv6 message of the right type; `None`: RFC 4861 §7.1 has it dropped.
    pub(crate) fn parse(message: &[u8]) -> Option<Self> {
        let kind = *message.first()?;
        let target = get_address(message, 8)?;
        let wanted = if kind == SOLICITATION { SOURCE_LINK } else { TARGET_LINK };
        let mut rest = message.get(BODY_BYTES..)?;
        let mut link = None;
        while let [option, length, ..] = *rest {
            let length = (length as usize).wrapping_mul(8);
            let bytes = rest.get(..length).filter(|bytes| !bytes.is_empty())?;
            if option == wanted && length == LINK_OPTION_BYTES {
                link = get_mac(bytes, 2);
            }
            rest = rest.get(length..)?;
        }
        let code = *message.get(1)?;
        if code != 0 || !rest.is_empty() || target.is_multicast_v6() {
            return None;
        }
        Some(Self { kind, flags: *message.get(4)?, target, link })
    }

    /// Writes the whole frame from `source` to `destination`; its length.
    pub(crate) fn write(
        &self,
        frame: &mut [u8],
        macs: &ethernet::Ethernet,
        source: &Address,
        destination: &Address,
    ) -> usize {
        macs.write(frame);
        let length = BODY_BYTES.wrapping_add(if self.link.is_some() { LINK_OPTION_BYTES } else { 0 });
        ipv6::write(frame, source, destination, ipv6::ICMP, ipv6::HOP_LIMIT_LINK, length);
        let start = ethernet::HEADER_BYTES.wrapping_add(ipv6::HEADER_BYTES);
        let end = start.wrapping_add(length);
        let Some(message) = frame.get_mut(start..end) else {
            return 0;
        };
        put(message, 0, &[self.kind, 0, 0, 0, self.flags, 0, 0, 0]);
        put_address(message, 8, &self.target);
        if let Some(mac) = self.link {
            let option = if self.kind == SOLICITATION { SOURCE_LINK } else { TARGET_LINK };
            put(message, BODY_BYTES, &[option, 1]);
            put_mac(message, BODY_BYTES.wrapping_add(2), mac);
        }
        let sum = checksum::pseudo_header(source, destination, ipv6::ICMP, length as u16);
        let sum = checksum::finish(checksum::add(sum, message));
        put(message, 2, &sum.to_be_bytes());
        pad(frame, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Address = Address::v6([0xfe80_0000, 0, 0x0211_22ff, 0xfe33_4455]);

    #[test]
    fn groups_and_their_macs() {
        let group = solicited_node(&TARGET);
        assert_eq!(group, Address::v6([0xff02_0000, 0, 1, 0xff33_4455]));
        assert_eq!(group_mac(&group), 0x3333_ff33_4455);
        assert_eq!(group_mac(&ALL_NODES), 0x3333_0000_0001);
    }

    #[test]
    fn what_is_written_is_read_and_sums_up() {
        let source = Address::v6([0x2001_0db8, 0, 0, 1]);
        let macs = ethernet::Ethernet { destination: 1, source: 2, ethertype: ethernet::IPV6 };
        for (kind, flags, link) in [
            (SOLICITATION, 0, Some(7)),
            (SOLICITATION, 0, None),
            (ADVERTISEMENT, SOLICITED | OVERRIDE, Some(9)),
        ] {
            let written = Discovery { kind, flags, target: TARGET, link };
            let mut frame = [0xeeu8; 200];
            let length = written.write(&mut frame, &macs, &source, &ALL_NODES);
            let ip = ipv6::Ipv6::parse(&frame[14..length]).unwrap();
            assert_eq!((ip.hop_limit, ip.protocol, ip.destination), (255, ipv6::ICMP, ALL_NODES));
            let message = &frame[54..14 + ip.total_bytes];
            assert_eq!(Discovery::parse(message), Some(written));
            let sum = checksum::pseudo_header(&source, &ALL_NODES, ipv6::ICMP, message.len() as u16);
            assert_eq!(checksum::finish(checksum::add(sum, message)), 0);
        }
    }

    #[test]
    fn malformed_messages_are_refused() {
        let mut good = [0u8; 32];
        good[0] = SOLICITATION;
        good[23] = 1;
        good[8] = 0xfe;
        good[9] = 0x80;
        good[24..26].copy_from_slice(&[SOURCE_LINK, 1]);
        assert!(Discovery::parse(&good).is_some_and(|found| found.link == Some(0)));
        assert!(Discovery::parse(&good[..24]).is_some_and(|found| found.link.is_none()));
        for length in 0..32 {
            assert_eq!(Discovery::parse(&good[..length]).is_some(), length == 24, "{length}");
        }
        for (at, value) in [(1, 1), (25, 0), (25, 2), (8, 0xff)] {
            let mut bad = good;
            bad[at] = value;
            assert_eq!(Discovery::parse(&bad), None, "{at} {value}");
        }
        let mut other = good;
        other[24] = TARGET_LINK;
        assert!(Discovery::parse(&other).is_some_and(|found| found.link.is_none()), "passed over");
    }
}
