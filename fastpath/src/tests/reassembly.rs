// SPDX-License-Identifier: MIT OR Apache-2.0
//! Intervals against a model that marks every position.

use super::*;

#[test]
fn intervals_agree_with_a_model() {
    for seed in 1..=200u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut next = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        // Around the wrap of the 32-bit sequence space.
        let base = 0x1_ffff_ffc0u64;
        let mut model = [false; 128];
        let mut complete = 0usize;
        let mut intervals = Intervals::default();
        for step in 0..400 {
            if next(4) == 0 {
                // The gap up to `to` is filled in order.
                let to = (complete + next(12) as usize).min(120);
                complete = complete.max(to);
                while complete < 128 && model[complete] {
                    complete += 1;
                }
                model[..complete].fill(false);
                let reached = intervals.absorb(base + to as u64);
                assert!(reached >= base + to as u64);
                assert_eq!(
                    reached.max(base + complete as u64),
                    base + complete as u64,
                    "seed {seed} step {step}"
                );
            } else if complete < 110 {
                let start = complete + 1 + next(100 - complete.min(99) as u64) as usize;
                let end = (start + 1 + next(10) as usize).min(128);
                if start >= end {
                    continue;
                }
                let mut wanted = model;
                wanted[start..end].fill(true);
                let runs = runs(&wanted);
                let fits = intervals.insert(base + start as u64, base + end as u64);
                assert_eq!(fits, runs.len() <= INTERVALS, "seed {seed} step {step}");
                if fits {
                    model = wanted;
                }
            }
            let expected: Vec<_> =
                runs(&model).iter().map(|(a, b)| (base + *a as u64, base + *b as u64)).collect();
            assert_eq!(intervals.as_slice(), expected, "seed {seed} step {step}");
        }
    }
}

fn runs(model: &[bool; 128]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (index, _) in model.iter().enumerate().filter(|(_, set)| **set) {
        match runs.last_mut() {
            Some(run) if run.1 == index => run.1 = index + 1,
            _ => runs.push((index, index + 1)),
        }
    }
    runs
}
