// SPDX-License-Identifier: MIT OR Apache-2.0
//! Seeded random numbers (SplitMix64), one stream for each kind of choice.

use crate::Probability;

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

/// The increment of SplitMix64: 2^64 divided by the golden ratio, odd.
const INCREMENT: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// Stream `stream` of `seed`. Streams are independent: what one kind of impairment draws does not
    /// change what another does.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut of_seed = Self { state: seed };
        let base = of_seed.next();
        Self { state: base ^ stream.wrapping_mul(INCREMENT).rotate_left(17) }
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(INCREMENT);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; 0 if `limit` is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// True with this probability. Draws nothing for "never", so that an impairment that is off costs nothing.
    pub fn chance(&mut self, probability: Probability) -> bool {
        !probability.is_never() && self.below(Probability::ONE) < probability.parts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_and_streams_differ() {
        let draw = |seed, stream| {
            let mut random = Random::new(seed, stream);
            (0..8).map(|_| random.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7, 1), draw(7, 1));
        assert_ne!(draw(7, 1), draw(7, 2));
        assert_ne!(draw(7, 1), draw(8, 1));
    }

    #[test]
    fn chances_are_as_often_as_they_say() {
        let mut random = Random::new(1, 0);
        let probability = Probability::from_parts(20_000_000); // 2 %
        let hits = (0..100_000).filter(|_| random.chance(probability)).count();
        assert!((1_850..2_150).contains(&hits), "{hits} of 100,000");
        assert!((0..1000).all(|_| random.chance(Probability::from_parts(Probability::ONE))));
        assert!(!(0..1000).any(|_| random.chance(Probability::default())));
    }
}
