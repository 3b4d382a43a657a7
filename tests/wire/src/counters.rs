// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a lane did.

/// Frames of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Given to the wire.
    pub offered: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Longer than the wire's MTU: dropped without a word.
    pub too_long: u64,
    /// Dropped because the queue was full.
    pub overflowed: u64,
    /// One bit flipped.
    pub corrupted: u64,
    /// Copies made.
    pub duplicated: u64,
    /// Marked CE.
    pub marked: u64,
    /// Held back so that later ones may overtake them.
    pub held_back: u64,
    /// Handed over behind a frame that came after them.
    pub overtaken: u64,
    /// Handed over.
    pub delivered: u64,
    /// Bytes of the delivered ones.
    pub delivered_bytes: u64,
}

impl Counters {
    /// Names and values.
    pub fn named(&self) -> [(&'static str, u64); 11] {
        [
            ("offered", self.offered),
            ("lost", self.lost),
            ("too_long", self.too_long),
            ("overflowed", self.overflowed),
            ("corrupted", self.corrupted),
            ("duplicated", self.duplicated),
            ("marked", self.marked),
            ("held_back", self.held_back),
            ("overtaken", self.overtaken),
            ("delivered", self.delivered),
            ("delivered_bytes", self.delivered_bytes),
        ]
    }

    /// Nothing appeared or vanished without being counted; `in_flight` frames are still on the wire.
    pub fn is_balanced(&self, in_flight: u64) -> bool {
        self.offered + self.duplicated
            == self.lost + self.too_long + self.overflowed + self.delivered + in_flight
    }
}
