// SPDX-License-Identifier: MIT OR Apache-2.0
//! A fixed range of worlds: none is violated, a seed always gives the same world, and the range reaches what
//! small worlds reach. (More of them are a suite of `scripts/test`.)

use sim::{coverage::Coverage, scenario};
use std::{
    sync::{
        atomic::{AtomicU64, Ordering::Relaxed},
        Mutex,
    },
    thread,
};

const WORLDS: u64 = 300;
/// Pairs and faults that so few worlds need not reach: those that need two rare things at once.
const RARE_MAX: usize = 60;

#[test]
fn worlds_are_well() {
    let next = AtomicU64::new(1);
    let total = Mutex::new(Coverage::default());
    let work = || loop {
        let seed = next.fetch_add(1, Relaxed);
        if seed > WORLDS {
            return;
        }
        match scenario::run(seed) {
            Ok(report) => total.lock().expect("lock").add(&report.coverage),
            Err(violation) => panic!("{violation}"),
        }
    };
    let jobs = thread::available_parallelism().map_or(1, Into::into);
    thread::scope(|scope| (0..jobs).for_each(|_| drop(scope.spawn(work))));
    let total = total.into_inner().expect("lock");
    let missing = total.never_reached();
    assert!(missing.len() <= RARE_MAX, "{} never reached: {missing:?}", missing.len());
    assert_eq!(total.reached_the_unreachable(), Vec::<String>::new());
}

#[test]
fn a_seed_is_a_world() {
    for seed in 1..=40 {
        let [first, again] = [(); 2].map(|()| scenario::run(seed).expect("well"));
        assert_eq!((first.digest, first.events), (again.digest, again.events), "seed {seed}");
        assert_eq!(first.coverage, again.coverage, "seed {seed}");
    }
}
