// SPDX-License-Identifier: MIT OR Apache-2.0
//! Nobody runs without a reason: who wakes every microsecond and finds nothing to do burns a processor.

use super::Scenario;
use crate::world::SimHost;

/// Turns are counted over so many microseconds.
const WINDOW_US: u64 = 100_000;
/// Turns of all applications, cores and slow paths together in that time: one in four microseconds. Small writes with
/// pauses of a microsecond, and cores that wait for their rate awake, are below it.
const TURNS_MAX: u64 = 25_000;
/// Turns that a frame sent explains: of both cores, both slow paths and both applications, twice.
const TURNS_OF_FRAME: u64 = 12;

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Pace {
    window: u64,
    /// Turns and frames before the window.
    before: (u64, u64),
    pub(super) turns_of_applications: u64,
    pub(super) frames: u64,
    pub(super) busiest: u64,
}

impl Scenario<'_> {
    /// The turns of a window of time are not too many.
    pub(super) fn check_pace(&mut self, now: u64) -> Result<(), String> {
        let turns =
            self.pace.turns_of_applications + self.world.hosts.iter().map(SimHost::turns).sum::<u64>();
        let pace = &mut self.pace;
        if now / WINDOW_US != pace.window {
            pace.window = now / WINDOW_US;
            pace.before = (turns, pace.frames);
        }
        let explained = (pace.frames - pace.before.1) * TURNS_OF_FRAME;
        let idle = (turns - pace.before.0).saturating_sub(explained);
        pace.busiest = pace.busiest.max(idle);
        if idle > TURNS_MAX {
            return Err(format!("{idle} turns in {WINDOW_US} µs without a frame that explains them"));
        }
        Ok(())
    }
}
