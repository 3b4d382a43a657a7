// SPDX-License-Identifier: MIT OR Apache-2.0
//! An arena for attacks: a host under attack that runs the real slow path, fast path and library, an honest
//! host, a victim connection between them that checks every byte, and an attacker on the same link. Virtual
//! time, one seed.
//!
//! The attacks are the tests of this crate. Each states what the victim may notice: nothing.

mod arena;
mod peer;
mod segment;
mod victim;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

pub use arena::{Arena, Known, ATTACKER_MAC, HONEST, TARGET};
pub use peer::Peer;
pub use segment::{flag, Heard, Segment};
pub use victim::{Progress, Victim, PORT};

/// Runs `attack` once each millisecond for `ms` of virtual time beside a victim, and the same time without it: the
/// victim with the attack, and the bytes it moved without.
///
/// # Panics
/// The victim saw a wrong byte or an error.
pub fn beside_a_victim(
    seed: u64,
    ms: u64,
    mut attack: impl FnMut(&mut Arena, &mut Victim, u64),
) -> (Arena, Victim, u64) {
    println!("ADVERSARY_SEED={seed}");
    let quiet = in_peace(seed, ms);
    let (mut arena, mut victim) = start(seed);
    run(&mut arena, &mut victim, ms, &mut attack);
    (arena, victim, quiet)
}

/// What the victim moves in `ms` without an attack: computed once.
fn in_peace(seed: u64, ms: u64) -> u64 {
    static KNOWN: Mutex<BTreeMap<(u64, u64), u64>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    *known.entry((seed, ms)).or_insert_with(|| {
        let (mut arena, mut victim) = start(seed);
        run(&mut arena, &mut victim, ms, |_, _, _| ());
        victim.progress(&arena).bytes
    })
}

fn start(seed: u64) -> (Arena, Victim) {
    let mut arena = Arena::new(seed);
    let mut victim = Victim::new(&mut arena);
    // The connection is up and its window is open before anyone attacks.
    run(&mut arena, &mut victim, 300, |_, _, _| ());
    assert!(victim.progress(&arena).bytes > 0, "the victim has not started");
    victim.start_again(&arena);
    (arena, victim)
}

/// Runs for `ms` of virtual time; `each_ms` is called with the number of the millisecond.
pub fn run(
    arena: &mut Arena,
    victim: &mut Victim,
    ms: u64,
    mut each_ms: impl FnMut(&mut Arena, &mut Victim, u64),
) {
    for number in 0..ms {
        each_ms(arena, victim, number);
        let end = arena.now_us() + 1000;
        while arena.now_us() < end {
            arena.step(end);
            victim.turn(arena);
        }
    }
}

/// The seed of a test: `ADVERSARY_SEED`, or 1.
pub fn seed() -> u64 {
    std::env::var("ADVERSARY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}
