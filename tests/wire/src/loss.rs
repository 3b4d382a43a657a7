// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which frames are lost: each by itself, or in bursts (the model of Gilbert and Elliott).

use crate::{Probability, Random};

/// How frames are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Loss {
    /// In the good state, which is the only one unless `enter` is set.
    pub single: Probability,
    /// Good to bad, for each frame.
    pub enter: Probability,
    /// Bad to good, for each frame: a burst has 1/`leave` frames on average.
    pub leave: Probability,
    /// In the bad state.
    pub burst: Probability,
}

impl Loss {
    /// Lost in the long run, as a fraction.
    pub fn mean(&self) -> f64 {
        let fraction = |probability: Probability| probability.parts() as f64 / Probability::ONE as f64;
        let (enter, leave) = (fraction(self.enter), fraction(self.leave));
        let bad = if enter == 0.0 { 0.0 } else { enter / (enter + leave) };
        (1.0 - bad) * fraction(self.single) + bad * fraction(self.burst)
    }
}

/// The state of the process.
#[derive(Debug, Clone)]
pub struct LossProcess {
    bad: bool,
    random: Random,
}

impl LossProcess {
    /// In the good state.
    pub fn new(random: Random) -> Self {
        Self { bad: false, random }
    }

    /// Is the next frame lost?
    pub fn loses(&mut self, loss: &Loss) -> bool {
        let turn = if self.bad { loss.leave } else { loss.enter };
        self.bad ^= self.random.chance(turn);
        self.random.chance(if self.bad { loss.burst } else { loss.single })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERCENT: u64 = Probability::ONE / 100;

    fn run(loss: &Loss, seed: u64, frames: usize) -> Vec<bool> {
        let mut process = LossProcess::new(Random::new(seed, 0));
        (0..frames).map(|_| process.loses(loss)).collect()
    }

    fn burst_lengths(lost: &[bool]) -> Vec<usize> {
        lost.split(|lost| !lost).map(<[bool]>::len).filter(|length| *length > 0).collect()
    }

    #[test]
    fn single_losses_have_their_rate_and_no_memory() {
        let loss = Loss { single: Probability::from_parts(PERCENT), ..Loss::default() };
        let lost = run(&loss, 3, 200_000);
        let count = lost.iter().filter(|lost| **lost).count();
        assert!((1_850..2_150).contains(&count), "{count}");
        let bursts = burst_lengths(&lost);
        let mean = count as f64 / bursts.len() as f64;
        assert!(mean < 1.03, "bursts of {mean} frames");
        assert_eq!(lost, run(&loss, 3, 200_000));
        assert_ne!(lost, run(&loss, 4, 200_000));
    }

    #[test]
    fn bursts_have_their_length_and_their_share() {
        let loss = Loss {
            enter: Probability::from_parts(PERCENT / 2),
            leave: Probability::from_parts(20 * PERCENT),
            burst: Probability::from_parts(Probability::ONE),
            ..Loss::default()
        };
        let lost = run(&loss, 5, 400_000);
        let count = lost.iter().filter(|lost| **lost).count();
        let share = count as f64 / lost.len() as f64;
        assert!((share / loss.mean() - 1.0).abs() < 0.05, "{share} lost, {} meant", loss.mean());
        let bursts = burst_lengths(&lost);
        let mean = count as f64 / bursts.len() as f64;
        assert!((4.6..5.4).contains(&mean), "bursts of {mean} frames");
    }
}
