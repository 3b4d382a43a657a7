// SPDX-License-Identifier: MIT OR Apache-2.0
//! Fuzz targets: bytes are decoded into operations, which run on the real code and on a plain model of it.
//!
//! Each target is a module with an `Operation` enum and a `check` function that panics when code and model differ.
//! The engine (`scripts/fuzz`) looks for bytes that make it panic; `cargo test` replays the bytes it found interesting,
//! which lie in `corpus/`. docs/fuzzing.md tells how to run and how to add one.
#![forbid(unsafe_code)]

pub mod events;
mod frames;
pub mod messages;
mod model;
pub mod options;
pub mod reassembly;
pub mod recovery;
pub mod ring;
pub mod scoreboard;
pub mod segments;
mod slow_world;

use arbitrary::{Arbitrary, Unstructured};
use std::fmt::Debug;

/// Operations of one input, more than any known finding needs.
const OPERATIONS_MAX: usize = 400;

/// One target.
pub struct Target {
    /// Its name: the module, and the folder in `corpus/`.
    pub name: &'static str,
    /// Runs an input; panics if the code is wrong.
    pub check: fn(&[u8]),
    /// The operations of an input, for reading.
    pub show: fn(&[u8]) -> String,
    /// Files of the repository of which the corpus covers 90 % of the lines, together.
    pub covers: &'static [&'static str],
}

macro_rules! targets {
    ($($name:ident),+) => {
        /// Every target.
        pub const TARGETS: &[Target] = &[$(Target {
            name: stringify!($name),
            check: |data| $name::check(&operations(data)),
            show: |data| show::<$name::Operation>(data),
            covers: $name::COVERS,
        }),+];
    };
}
targets!(segments, options, reassembly, scoreboard, recovery, ring, messages, events);

/// The operations that `data` stands for: any bytes mean something.
pub fn operations<'a, T: Arbitrary<'a>>(data: &'a [u8]) -> Vec<T> {
    let mut source = Unstructured::new(data);
    let mut operations = Vec::new();
    while !source.is_empty() && operations.len() < OPERATIONS_MAX {
        match T::arbitrary(&mut source) {
            Ok(operation) => operations.push(operation),
            Err(_) => break,
        }
    }
    operations
}

fn show<'a, T: Arbitrary<'a> + Debug>(data: &'a [u8]) -> String {
    operations::<T>(data).iter().enumerate().map(|(step, one)| format!("{step:3} {one:?}\n")).collect()
}
