// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a flaky wire does to frames: loss (single and in bursts), a rate with a finite queue and ECN
//! marks, delay, jitter, reordering, duplication, corruption.
//!
//! Pure: the time is an argument and every choice comes from a seed. The program `tas-wire` puts two
//! [`Lane`]s, one for each direction, between two interfaces.
#![forbid(unsafe_code)]

mod counters;
mod frame;
mod lane;
mod loss;
mod quantity;
mod random;
mod spec;

pub use counters::Counters;
pub use frame::{complete_checksum, mark_congestion};
pub use lane::Lane;
pub use loss::{Loss, LossProcess};
pub use quantity::Probability;
pub use random::Random;
pub use spec::{Impairment, Spec};
