// SPDX-License-Identifier: MIT OR Apache-2.0
//! The core's behaviour, seen by its peer, its application and the slow path.

/// Every test over IPv4.
#[path = "."]
mod ipv4 {
    pub(crate) type World = crate::testing::World<4>;
    #[path = "family.rs"]
    mod family;
}

/// Every test over IPv6.
#[path = "."]
mod ipv6 {
    pub(crate) type World = crate::testing::World<6>;
    #[path = "family.rs"]
    mod family;
}

/// A seeded sequence of numbers.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }
}
