// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Addresses of both families in one type.

use crate::random::SipKey;
use abi::{
    flow::address_fold,
    message::{Endpoint, AF_INET, AF_INET6},
};

/// An IPv6 address, or an IPv4 address in its mapped form ::ffff:a.b.c.d (RFC 4291 §2.5.5.2): four words in host
/// order, most significant first. Each address has one form, so that equal ones compare equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Address {
    words: [u32; 4],
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Bits in front of an IPv4 address.
pub(crate) const MAPPED_BITS: u32 = 96;

impl Address {
    /// `::`.
    pub(crate) const UNSPECIFIED: Self = Self { words: [0; 4] };

    /// An IPv4 address, host order.
    #[inline]
    pub(crate) const fn v4(address: u32) -> Self {
        Self { words: [0, 0, 0xffff, address] }
    }

    /// An IPv6 address; one of the mapped form is the IPv4 address in it.
    #[inline]
    pub(crate) const fn v6(words: [u32; 4]) -> Self {
        Self { words }
    }

    /// The address of an endpoint; `None`: of neither family.
    pub(crate) const fn of(endpoint: &Endpoint) -> Option<Self> {
        let [first, ..] = endpoint.address;
        match endpoint.family {
            AF_INET => Some(Self::v4(first)),
            AF_INET6 => Some(Self::v6(endpoint.address)),
            _ => None,
        }
    }

    /// As an endpoint of its own family.
    pub(crate) const fn endpoint(&self, port: u16) -> Endpoint {
        match self.as_v4() {
            Some(address) => Endpoint::ipv4(address, port),
            None => Endpoint::ipv6(self.words, port, 0),
        }
    }

    /// The IPv4 address, if it is one.
    #[inline]
    pub(crate) const fn as_v4(&self) -> Option<u32> {
        match self.words {
            [0, 0, 0xffff, address] => Some(address),
            _ => None,
        }
    }

    /// Its family.
    #[inline]
    pub(crate) const fn family(&self) -> Family {
        match self.as_v4() {
            Some(_) => Family::V4,
            None => Family::V6,
        }
    }

    /// Bits of an address of its family.
    pub(crate) const fn bits(&self) -> u32 {
        match self.family() {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// Whether it is an IPv4 address.
    #[inline]
    pub(crate) const fn is_v4(&self) -> bool {
        self.as_v4().is_some()
    }

    /// The four words; see [`Address::as_cold`] for the form of the shared tables.
    #[inline]
    pub(crate) const fn words(&self) -> [u32; 4] {
        self.words
    }

    /// As `abi::flow::ColdFlow` holds it: IPv4 in the first word.
    pub(crate) const fn as_cold(&self) -> [u32; 4] {
        match self.as_v4() {
            Some(address) => [address, 0, 0, 0],
            None => self.words,
        }
    }

    /// As `abi::flow::HotFlow` holds it: the IPv4 address, or the fold of the IPv6 one.
    pub(crate) const fn as_hot(&self) -> u32 {
        match self.as_v4() {
            Some(address) => address,
            None => address_fold(self.words),
        }
    }

    /// Keyed hash; `purpose` keeps the tables apart.
    pub(crate) fn hash(&self, key: &SipKey, purpose: u64) -> u64 {
        match self.as_v4() {
            Some(address) => key.hash([address as u64, purpose]),
            None => {
                let [high, low] = self.halves();
                key.hash([high, low, purpose])
            }
        }
    }

    /// High and low half.
    #[inline]
    pub(crate) const fn halves(&self) -> [u64; 2] {
        let [a, b, c, d] = self.words;
        [(a as u64) << 32 | b as u64, (c as u64) << 32 | d as u64]
    }

    /// Whether it is `::` or 0.0.0.0.
    #[inline]
    pub(crate) const fn is_unspecified(&self) -> bool {
        matches!(self.words, [0, 0, 0 | 0xffff, 0])
    }

    /// Bytes of an IP header without options that carries it.
    #[inline]
    pub(crate) const fn header_bytes(&self) -> usize {
        if self.is_v4() {
            super::ipv4::HEADER_BYTES
        } else {
            super::ipv6::HEADER_BYTES
        }
    }

    /// Whether the first `prefix` bits (IPv4: of its 32) equal those of `other`, an address of the same family.
    pub(crate) const fn matches(&self, other: &Self, prefix: u32) -> bool {
        if self.is_v4() != other.is_v4() {
            return false;
        }
        let bits = if self.is_v4() { prefix.saturating_add(MAPPED_BITS) } else { prefix };
        let ([a, b], [c, d]) = (self.halves(), other.halves());
        (a ^ c) & mask(bits) == 0 && (b ^ d) & mask(bits.saturating_sub(64)) == 0
    }

    /// With everything behind the first `prefix` bits zero.
    pub(crate) const fn masked(&self, prefix: u32) -> Self {
        let bits = if self.is_v4() { prefix.saturating_add(MAPPED_BITS) } else { prefix };
        let [high, low] = self.halves();
        let (high, low) = (high & mask(bits), low & mask(bits.saturating_sub(64)));
        Self { words: [(high >> 32) as u32, high as u32, (low >> 32) as u32, low as u32] }
    }

    /// Whether it is fe80::/10 (RFC 4291 §2.5.6).
    pub(crate) const fn is_link_local(&self) -> bool {
        let [first, ..] = self.words;
        first >> 22 == 0xfe80 >> 6
    }

    /// Whether it is ff00::/8 (RFC 4291 §2.7).
    pub(crate) const fn is_multicast_v6(&self) -> bool {
        let [first, ..] = self.words;
        first >> 24 == 0xff
    }

    /// Whether an IPv6 address can belong to one host on a network: neither `::`, `::1`, a group, nor the
    /// mapped form of an IPv4 address (RFC 4291 §2.4).
    pub(crate) const fn is_unicast_v6(&self) -> bool {
        !self.is_v4() && !self.is_multicast_v6() && !matches!(self.words, [0, 0, 0, 0 | 1])
    }
}

/// The highest `bits` of a word; all of it from 64 on.
const fn mask(bits: u32) -> u64 {
    match u64::MAX.checked_shl(64u32.saturating_sub(bits)) {
        Some(mask) => mask,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_do_not_mix() {
        let four = Address::v4(0x0a00_0001);
        assert_eq!(Address::v6([0, 0, 0xffff, 0x0a00_0001]), four);
        assert_eq!(
            (four.as_v4(), four.as_cold(), four.as_hot()),
            (Some(0x0a00_0001), [0x0a00_0001, 0, 0, 0], 0x0a00_0001)
        );
        let six = Address::v6([0x2001_0db8, 0, 0, 1]);
        assert_eq!((six.as_v4(), six.as_cold()), (None, [0x2001_0db8, 0, 0, 1]));
        assert!(!six.matches(&four, 0) && !four.matches(&six, 0), "a default route serves its own family");
        assert!(Address::v4(0).is_unspecified() && Address::UNSPECIFIED.is_unspecified());
        assert!(!Address::v6([0, 0, 0, 1]).is_unspecified() && !Address::v6([0, 0, 0, 1]).is_unicast_v6());
    }

    #[test]
    fn prefixes_of_every_length() {
        let base = Address::v6([0x2001_0db8, 0x1234_5678, 0x9abc_def0, 0x0fed_cba9]);
        for bit in 0..128u32 {
            let mut words = base.words();
            words[(bit / 32) as usize] ^= 1 << (31 - bit % 32);
            let other = Address::v6(words);
            for prefix in 0..=128 {
                assert_eq!(base.matches(&other, prefix), prefix <= bit, "bit {bit} prefix {prefix}");
                assert_eq!(base.masked(prefix) == other.masked(prefix), prefix <= bit);
            }
        }
        let base = Address::v4(0xc0a8_0117);
        for bit in 0..32u32 {
            let other = Address::v4(0xc0a8_0117 ^ (1 << (31 - bit)));
            for prefix in 0..=32 {
                assert_eq!(base.matches(&other, prefix), prefix <= bit);
            }
        }
    }

    #[test]
    fn kinds_of_addresses() {
        for (words, link_local, unicast) in [
            ([0xfe80_0000, 0, 0, 5], true, true),
            ([0xfebf_ffff, 0, 0, 5], true, true),
            ([0xfec0_0000, 0, 0, 5], false, true),
            ([0xff02_0000, 0, 0, 1], false, false),
            ([0, 0, 0, 0], false, false),
            ([0, 0, 0, 1], false, false),
            ([0, 0, 0, 2], false, true),
            ([0, 0, 0xffff, 1], false, false),
        ] {
            let address = Address::v6(words);
            assert_eq!(
                (address.is_link_local(), address.is_unicast_v6()),
                (link_local, unicast),
                "{words:x?}"
            );
        }
    }
}
