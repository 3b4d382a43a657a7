// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tags of IEEE 802.1Q. The port deals with those of the VLAN that TAS serves, if it serves one; a priority tag, which
//! names none, may come in any case.

use crate::port::Packet;

/// EtherType of a tag.
pub(crate) const ETHERTYPE: [u8; 2] = [0x81, 0x00];
/// Bytes of a tag: the EtherType, then priority and VLAN.
pub(crate) const TAG_BYTES: usize = 4;
/// The VLAN in the tag's second half.
pub(crate) const ID_MASK: u16 = 0x0fff;
/// Where a tag stands: behind the MAC addresses.
const TAG_OFFSET: usize = 12;

/// What a frame's tag says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    /// There is none.
    None,
    /// A priority, no VLAN.
    Priority,
    /// A VLAN.
    Vlan,
}

/// Looks for a tag.
pub(crate) fn tag(frame: &[u8]) -> Tag {
    let Some(tag) = frame.get(TAG_OFFSET..TAG_OFFSET + TAG_BYTES).filter(|tag| tag[..2] == ETHERTYPE) else {
        return Tag::None;
    };
    if u16::from_be_bytes([tag[2], tag[3]]) & ID_MASK == 0 {
        Tag::Priority
    } else {
        Tag::Vlan
    }
}

/// Takes the tag off a frame that has one.
pub(crate) fn remove_tag(packet: &mut impl Packet) {
    let frame = packet.data_mut();
    let length = frame.len();
    if length >= TAG_OFFSET + TAG_BYTES {
        frame.copy_within(TAG_OFFSET + TAG_BYTES.., TAG_OFFSET);
        packet.set_len(length - TAG_BYTES);
    }
}
