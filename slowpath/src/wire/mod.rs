// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Frames: parsing what came, building what goes. Parsing never trusts a length.

pub(crate) mod address;
pub(crate) mod arp;
pub(crate) mod checksum;
pub(crate) mod discovery;
pub(crate) mod ethernet;
pub(crate) mod ipv4;
pub(crate) mod ipv6;
pub(crate) mod membership;
pub(crate) mod options;
pub(crate) mod service;
pub(crate) mod tcp;

/// Where a fragment belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment {
    /// Number of its datagram, given by the sender.
    pub(crate) identification: u32,
    /// Where its payload begins in the datagram's, bytes: a multiple of eight.
    pub(crate) offset: u16,
    /// It is not the last one.
    pub(crate) more: bool,
}

/// Two bytes at `offset`, network order.
#[inline]
pub(crate) fn get_u16(bytes: &[u8], offset: usize) -> Option<u16> {
    match bytes.get(offset..)? {
        [a, b, ..] => Some(u16::from_be_bytes([*a, *b])),
        _ => None,
    }
}

/// Four bytes at `offset`, network order.
#[inline]
pub(crate) fn get_u32(bytes: &[u8], offset: usize) -> Option<u32> {
    match bytes.get(offset..)? {
        [a, b, c, d, ..] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

/// A MAC address at `offset`, first byte highest.
#[inline]
pub(crate) fn get_mac(bytes: &[u8], offset: usize) -> Option<u64> {
    match bytes.get(offset..)? {
        [a, b, c, d, e, f, ..] => Some(u64::from_be_bytes([0, 0, *a, *b, *c, *d, *e, *f])),
        _ => None,
    }
}

/// Writes `value` at `offset`; nothing if it does not fit.
#[inline]
pub(crate) fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    let target = offset.checked_add(value.len()).and_then(|end| bytes.get_mut(offset..end));
    if let Some(target) = target {
        target.copy_from_slice(value);
    }
}

/// Writes the low six bytes of `mac`.
#[inline]
pub(crate) fn put_mac(bytes: &mut [u8], offset: usize, mac: u64) {
    let [_, _, a, b, c, d, e, f] = mac.to_be_bytes();
    put(bytes, offset, &[a, b, c, d, e, f]);
}
