// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Keyed mixing (SipHash-2-4) for sequence
//! numbers and tables, and the generator of the slow path's random choices.

/// Key of a keyed hash.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SipKey(pub(crate) u64, pub(crate) u64);

struct Sip {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl Sip {
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.rotate_left(32);
    }
    fn take(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.round();
        self.v0 ^= word;
    }
}

impl SipKey {
    /// SipHash-2-4 of 64-bit words (little-endian), at most 31 of them.
    #[inline]
    pub(crate) fn hash<const WORDS: usize>(&self, words: [u64; WORDS]) -> u64 {
        let mut sip = Sip {
            v0: self.0 ^ 0x736f_6d65_7073_6575,
            v1: self.1 ^ 0x646f_7261_6e64_6f6d,
            v2: self.0 ^ 0x6c79_6765_6e65_7261,
            v3: self.1 ^ 0x7465_6462_7974_6573,
        };
        for word in words {
            sip.take(word);
        }
        sip.take((WORDS as u64).wrapping_shl(59));
        sip.v2 ^= 0xff;
        for _ in 0..4 {
            sip.round();
        }
        sip.v0 ^ sip.v1 ^ sip.v2 ^ sip.v3
    }
}

/// A counter run through SipHash: unpredictable without the key, the same for the same seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Random {
    key: SipKey,
    counter: u64,
}

impl Random {
    pub(crate) const fn new(key: SipKey) -> Self {
        Self { key, counter: 0 }
    }
    /// The next value.
    pub(crate) fn next(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        self.key.hash([self.counter, 0x7461_735f_726e_6421])
    }
    /// A value below `limit` (zero for zero).
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        ((self.next() & 0xffff_ffff).wrapping_mul(limit as u64) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First 16-byte vector of the SipHash paper's reference program: key 00..0f, input 00..0f.
    #[test]
    fn siphash_reference_vector() {
        let key = SipKey(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        assert_eq!(key.hash([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]), 0x3f2a_cc7f_57c2_9bdb);
    }
}
