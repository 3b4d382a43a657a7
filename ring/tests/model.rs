// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! The ring against a `VecDeque`, with restarts of either side at any moment and with garbage
//! written into the shared words. Seeds are printed; `RING_SEED` replays one.
#![cfg(not(loom))]

use ring::{Consumer, Producer, HEADER_WORDS};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

const W: usize = 2;

struct Random(u64);
impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn memory(entries: u32) -> Vec<AtomicU64> {
    (0..HEADER_WORDS + entries as usize * W).map(|_| AtomicU64::new(0)).collect()
}

fn seeds() -> Vec<u64> {
    match std::env::var("RING_SEED") {
        Ok(seed) => vec![seed.parse().expect("RING_SEED is a number")],
        Err(_) => (1..=200).collect(),
    }
}

#[test]
fn behaves_like_a_queue_across_restarts() {
    for seed in seeds() {
        println!("RING_SEED={seed}");
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let entries = 1u32 << (random.next() % 6);
        let words = memory(entries);
        let mut producer = Producer::<W>::attach(&words, entries).unwrap();
        let mut consumer = Consumer::<W>::attach(&words, entries).unwrap();
        let mut model = VecDeque::new();
        let mut uncommitted = 0usize;
        let mut popped = VecDeque::new();
        for step in 0..2000u64 {
            match random.next() % 8 {
                0..=2 => {
                    let entry = [step, random.next()];
                    let fits = model.len() + uncommitted < entries as usize;
                    assert_eq!(producer.push(entry), fits, "seed {seed} step {step}");
                    if fits {
                        model.push_back(entry);
                    }
                }
                3..=5 => {
                    let entry = consumer.pop();
                    assert_eq!(entry, model.pop_front(), "seed {seed} step {step}");
                    if let Some(entry) = entry {
                        popped.push_back(entry);
                        uncommitted += 1;
                    }
                }
                6 => {
                    consumer.commit();
                    uncommitted = 0;
                    popped.clear();
                    if random.next() & 1 == 0 {
                        producer.publish();
                    }
                }
                _ if random.next() & 1 == 0 => {
                    producer = Producer::attach(&words, entries).unwrap();
                }
                _ => {
                    consumer = Consumer::attach(&words, entries).unwrap();
                    while let Some(entry) = popped.pop_back() {
                        model.push_front(entry);
                    }
                    uncommitted = 0;
                }
            }
        }
    }
}

#[test]
fn garbage_never_leaves_the_ring() {
    for seed in seeds() {
        println!("RING_SEED={seed}");
        let mut random = Random(seed | 1);
        let words = memory(8);
        let mut producer = Producer::<W>::attach(&words, 8).unwrap();
        let mut consumer = Consumer::<W>::attach(&words, 8).unwrap();
        for _ in 0..500 {
            let index = random.next() as usize % words.len();
            words[index].store(random.next(), Ordering::Relaxed);
            producer.push([random.next(), 0]);
            consumer.pop();
            consumer.commit();
            producer.publish();
            if random.next() % 16 == 0 {
                producer = Producer::attach(&words, 8).unwrap();
                consumer = Consumer::attach(&words, 8).unwrap();
            }
        }
    }
}

#[test]
fn refuses_a_wrong_shape() {
    let words = memory(8);
    assert!(Producer::<W>::attach(&words, 7).is_none());
    assert!(Producer::<W>::attach(&words, 0).is_none());
    assert!(Producer::<W>::attach(&words, 16).is_none());
    assert!(Consumer::<W>::attach(&words[..8], 1).is_none());
}

#[test]
fn the_phase_bit_is_not_the_users() {
    let words = memory(2);
    let mut producer = Producer::<W>::attach(&words, 2).unwrap();
    let mut consumer = Consumer::<W>::attach(&words, 2).unwrap();
    for _ in 0..5 {
        assert!(producer.push([u64::MAX, 7]));
        assert_eq!(consumer.pop(), Some([u64::MAX >> 1, 7]));
        consumer.commit();
    }
}
