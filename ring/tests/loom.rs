// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Every interleaving (under loom) of the ring and of the sleep/wake protocol:
//! `RUSTFLAGS="--cfg loom" cargo test -p tas-ring --test loom --release`.
#![cfg(loom)]

use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use loom::sync::Arc;
use loom::thread;
use ring::{Consumer, Producer, WakeFlag, HEADER_WORDS};

fn memory(entries: usize) -> &'static [AtomicU64] {
    let words: Vec<_> = (0..HEADER_WORDS + entries * 2).map(|_| AtomicU64::new(0)).collect();
    Box::leak(words.into_boxed_slice())
}

#[test]
fn entries_arrive_whole_and_in_order() {
    loom::model(|| {
        let words = memory(2);
        let consumer = thread::spawn(move || {
            let mut consumer = Consumer::<2>::attach(words, 2).unwrap();
            let mut next = 1;
            for _ in 0..2 {
                if let Some([first, second]) = consumer.pop() {
                    assert_eq!((first, second), (next, next << 8));
                    next += 1;
                    consumer.commit();
                }
            }
            next
        });
        let mut producer = Producer::<2>::attach(words, 2).unwrap();
        let mut sent = 0;
        for value in 1..=3u64 {
            if !producer.push([value, value << 8]) {
                break;
            }
            sent += 1;
        }
        let mut next = consumer.join().unwrap();
        let mut consumer = Consumer::<2>::attach(words, 2).unwrap();
        while let Some([first, second]) = consumer.pop() {
            assert_eq!((first, second), (next, next << 8));
            next += 1;
        }
        assert_eq!(next, sent + 1);
    });
}

/// The consumer sleeps only if it saw nothing after arming; then the producer must have seen the
/// flag. A model in which neither happens would sleep for ever.
#[test]
fn no_wake_up_is_lost() {
    loom::model(|| {
        let words = memory(2);
        let flag = Arc::new(AtomicU32::new(0));
        let woken = Arc::new(AtomicU32::new(0));
        let producer = {
            let (flag, woken) = (flag.clone(), woken.clone());
            thread::spawn(move || {
                let mut producer = Producer::<2>::attach(words, 2).unwrap();
                assert!(producer.push([1, 1]));
                if WakeFlag::new(&flag).take() {
                    woken.store(1, Ordering::Relaxed);
                }
            })
        };
        let mut consumer = Consumer::<2>::attach(words, 2).unwrap();
        let wake = WakeFlag::new(&flag);
        let mut asleep = false;
        if consumer.pop().is_none() {
            wake.arm();
            if !consumer.is_ready() {
                asleep = true;
            } else {
                wake.disarm();
            }
        }
        producer.join().unwrap();
        if asleep {
            assert_eq!(woken.load(Ordering::Relaxed), 1, "asleep and nobody rings");
        }
    });
}

/// The same with a producer that may only read the flag.
#[test]
fn no_wake_up_is_lost_with_a_read_only_flag() {
    loom::model(|| {
        let words = memory(2);
        let flag = Arc::new(AtomicU32::new(0));
        let producer = {
            let flag = flag.clone();
            thread::spawn(move || {
                let mut producer = Producer::<2>::attach(words, 2).unwrap();
                assert!(producer.push([1, 1]));
                WakeFlag::new(&flag).is_armed()
            })
        };
        let mut consumer = Consumer::<2>::attach(words, 2).unwrap();
        let wake = WakeFlag::new(&flag);
        wake.arm();
        let asleep = !consumer.is_ready();
        let rung = producer.join().unwrap();
        assert!(!asleep || rung, "asleep and nobody rings");
        assert_eq!(consumer.pop(), Some([1, 1]));
    });
}
