// SPDX-License-Identifier: MIT OR Apache-2.0
//! The ring between processes, shared bytes and the wake flag, with either end restarted and the memory changed under
//! its feet. While nobody lies the ring is a queue; from the first lie on it must stay in its memory, within its
//! capacity, and come to an end.

use arbitrary::Arbitrary;
use ring::{Consumer, Producer, WakeFlag, HEADER_WORDS};
use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// What the corpus covers.
pub const COVERS: &[&str] = &["ring/src/spsc.rs", "ring/src/wake.rs"];

/// Words of an entry.
const WORDS: usize = 2;
/// Words around the ring that nobody may touch.
const GUARD_WORDS: usize = 8;
const GUARD: u64 = 0x6775_6172_6467_7561;

/// One step.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Operation {
    /// A new ring of `1 << shift` entries.
    New {
        shift: u8,
    },
    /// Attaching to a ring of another shape.
    Misfit {
        entries: u16,
        words: u8,
    },
    Push(u8),
    /// An entry whose every bit the user sets.
    PushOnes,
    Pop,
    Commit,
    Publish,
    /// A new producer where the last one died.
    RestartProducer,
    /// A new consumer where the last one died.
    RestartConsumer,
    /// Somebody writes into the header or an entry.
    Scribble {
        word: u8,
        value: Value,
    },
    Arm,
    Disarm,
    Take,
    /// Somebody writes the wake flag.
    ScribbleFlag(u32),
}

/// Values worth writing into shared words.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy, Arbitrary)]
pub enum Value {
    Any(u64),
    Small(u8),
    /// What the word holds, plus this.
    Near(i8),
    /// The other phase.
    Flip,
}

/// A queue that knows what was taken and not given back, and where the ends are.
#[derive(Default)]
struct Model {
    queue: VecDeque<[u64; WORDS]>,
    taken: VecDeque<[u64; WORDS]>,
    pushed: u64,
    popped: u64,
    /// Somebody wrote into the ring.
    lied: bool,
}

struct World<'m> {
    words: &'m [AtomicU64],
    entries: u32,
    producer: Producer<'m, WORDS>,
    consumer: Consumer<'m, WORDS>,
    model: Model,
    /// Since the memory was last changed from outside: pushes and pops that succeeded.
    pushes: u32,
    pops: u32,
}

impl<'m> World<'m> {
    fn new(memory: &'m [AtomicU64], entries: u32) -> Self {
        memory.iter().for_each(|word| word.store(GUARD, Relaxed));
        let words = &memory[GUARD_WORDS..][..HEADER_WORDS + entries as usize * WORDS];
        words.iter().for_each(|word| word.store(0, Relaxed));
        Self {
            words,
            entries,
            producer: Producer::attach(words, entries).unwrap(),
            consumer: Consumer::attach(words, entries).unwrap(),
            model: Model::default(),
            pushes: 0,
            pops: 0,
        }
    }

    fn push(&mut self, entry: [u64; WORDS]) {
        let used = self.model.queue.len() + self.model.taken.len();
        let free = self.producer.free();
        let pushed = self.producer.push(entry);
        assert_eq!(pushed, free > 0);
        assert!(free <= u64::from(self.entries));
        self.pushes += u32::from(pushed);
        if self.model.lied {
            // Whatever the consumer's position says: what fits by the position that was read before, and by the lie.
            return assert!(self.pushes <= 2 * self.entries, "pushed {} without a commit", self.pushes);
        }
        assert!(free <= u64::from(self.entries) - used as u64, "room that is not there");
        assert_eq!(pushed, used < self.entries as usize);
        if pushed {
            self.model.queue.push_back([entry[0] & !(1 << 63), entry[1]]);
            self.model.pushed += 1;
        }
    }

    fn pop(&mut self) {
        let ready = self.consumer.is_ready();
        let entry = self.consumer.pop();
        assert_eq!(entry.is_some(), ready);
        self.pops += u32::from(ready);
        assert_eq!(entry.map_or(0, |entry| entry[0]) >> 63, 0, "the phase is not the user's");
        if self.model.lied {
            return assert!(self.pops <= self.entries, "popped {} without a push", self.pops);
        }
        assert_eq!(entry, self.model.queue.pop_front());
        if let Some(entry) = entry {
            self.model.taken.push_back(entry);
            self.model.popped += 1;
        }
    }

    fn restart_consumer(&mut self) {
        self.consumer = Consumer::attach(self.words, self.entries).unwrap();
        self.pops = 0;
        // What was taken and not given back is seen again.
        self.model.popped -= self.model.taken.len() as u64;
        while let Some(entry) = self.model.taken.pop_back() {
            self.model.queue.push_front(entry);
        }
    }

    fn scribble(&mut self, word: u8, value: Value) {
        let word = &self.words[usize::from(word) % self.words.len()];
        let old = word.load(Relaxed);
        word.store(
            match value {
                Value::Any(value) => value,
                Value::Small(value) => value.into(),
                Value::Near(by) => old.wrapping_add_signed(by.into()),
                Value::Flip => old ^ 1 << 63,
            },
            Relaxed,
        );
        self.changed();
        self.model.lied = true;
    }

    /// What is in the ring is another than before.
    fn changed(&mut self) {
        (self.pushes, self.pops) = (0, 0);
    }
}

/// Runs the operations.
pub fn check(operations: &[Operation]) {
    let memory: Vec<AtomicU64> =
        (0..2 * GUARD_WORDS + HEADER_WORDS + 32 * WORDS).map(|_| AtomicU64::new(0)).collect();
    let mut world = World::new(&memory, 4);
    let word = AtomicU32::new(0);
    let flag = WakeFlag::new(&word);
    for (step, operation) in operations.iter().enumerate() {
        match *operation {
            Operation::New { shift } => world = World::new(&memory, 1 << (shift % 6)),
            Operation::Misfit { entries, words } => misfit(&memory, entries.into(), words.into()),
            Operation::Push(value) => world.push([value.into(), step as u64]),
            Operation::PushOnes => world.push([u64::MAX, u64::MAX]),
            Operation::Pop => world.pop(),
            Operation::Commit => {
                world.consumer.commit();
                world.pushes = 0;
                world.model.taken.clear();
            }
            Operation::Publish => world.producer.publish(),
            Operation::RestartProducer => {
                world.producer = Producer::attach(world.words, world.entries).unwrap();
                world.pushes = 0;
            }
            Operation::RestartConsumer => world.restart_consumer(),
            Operation::Scribble { word, value } => world.scribble(word, value),
            Operation::Arm => {
                flag.arm();
                assert!(flag.is_armed());
            }
            Operation::Disarm => {
                flag.disarm();
                assert!(!flag.is_armed());
            }
            Operation::Take => {
                let armed = word.load(Relaxed) != 0;
                assert_eq!((flag.is_armed(), flag.take()), (armed, armed));
                assert!(!flag.is_armed(), "two producers are told");
            }
            Operation::ScribbleFlag(value) => word.store(value, Relaxed),
        }
        if matches!(operation, Operation::Push(_) | Operation::PushOnes) {
            world.pops = 0;
        }
        if !world.model.lied {
            assert_eq!(world.producer.position(), world.model.pushed);
            assert_eq!(world.consumer.position(), world.model.popped);
            assert_eq!(world.consumer.is_ready(), !world.model.queue.is_empty());
        }
        let used = GUARD_WORDS + world.words.len();
        let guards = memory[..GUARD_WORDS].iter().chain(&memory[used..]);
        assert!(guards.into_iter().all(|word| word.load(Relaxed) == GUARD), "wrote outside of its memory");
    }
}

/// An end attaches only to a ring of a shape that fits the memory.
fn misfit(memory: &[AtomicU64], entries: u32, words: usize) {
    let words = &memory[..words.min(memory.len())];
    let fits = entries.is_power_of_two() && words.len() >= HEADER_WORDS + entries as usize * WORDS;
    // Only looked at: attaching writes nothing.
    assert_eq!(Producer::<WORDS>::attach(words, entries).is_some(), fits);
    assert_eq!(Consumer::<WORDS>::attach(words, entries).is_some(), fits);
}
