// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Buffer map records ([`abi::pool`]): which of an application's are taken.

use crate::{applications::context_event, counters::Counter, errno::Errno, stack::Stack};
use abi::{
    flow::NONE,
    pool::{MAP_SEGMENTS_MAX, SEGMENT_RECORDS},
};

/// Words of a segment's bitmap.
pub(crate) const SEGMENT_WORDS: usize = SEGMENT_RECORDS as usize / 64;

/// Which records of one map segment are taken.
#[derive(Debug, Clone, Copy)]
pub struct RecordSegment {
    pub(crate) taken: [u64; SEGMENT_WORDS],
    pub(crate) used: u32,
    /// Number of the segment within its application.
    pub(crate) number: u32,
    /// Next of the application, or of the free list.
    pub(crate) next: u32,
}

impl Default for RecordSegment {
    fn default() -> Self {
        Self { taken: [0; SEGMENT_WORDS], used: 0, number: 0, next: NONE }
    }
}

/// Free records below which an application is asked to grow its maps.
const RECORDS_LOW: u32 = 128;
impl Stack<'_> {
    /// The application has `usable` buffer map records (a multiple of SEGMENT_RECORDS; it only
    /// grows): call it when the fast path has mapped them.
    ///
    /// # Errors
    /// EINVAL: no such application. ENOBUFS: no room to keep track of them.
    pub fn set_map_records(&mut self, application: u32, usable: u32) -> Result<(), Errno> {
        let segments = usable / SEGMENT_RECORDS;
        if !self.is_application(application) || segments > MAP_SEGMENTS_MAX {
            return Err(Errno::EINVAL);
        }
        while self.applications.at(application).segments < segments {
            let id = self.segment_free;
            if !self.records.has(id) {
                return Err(Errno::ENOBUFS);
            }
            self.segment_free = self.records.at(id).next;
            let owner = self.applications.at_mut(application);
            let number = owner.segments;
            *self.records.at_mut(id) =
                RecordSegment { number, next: owner.segment_head, ..RecordSegment::default() };
            owner.segment_head = id;
            owner.segments = number.saturating_add(1);
        }
        Ok(())
    }

    /// A free buffer map record of an application.
    pub(crate) fn take_record(&mut self, application: u32) -> Option<u32> {
        let mut id = self.applications.at(application).segment_head;
        let mut taken = None;
        while self.records.has(id) && taken.is_none() {
            let segment = self.records.at_mut(id);
            if segment.used < SEGMENT_RECORDS {
                taken = segment.take();
            }
            id = segment.next;
        }
        let owner = self.applications.at_mut(application);
        if taken.is_some() {
            owner.records_used = owner.records_used.saturating_add(1);
        } else {
            self.counters.add(Counter::Exhausted);
        }
        let usable = owner.segments.saturating_mul(SEGMENT_RECORDS);
        let low = usable.saturating_sub(owner.records_used) < RECORDS_LOW;
        let (context, grown) = (owner.context_head, owner.segments >= MAP_SEGMENTS_MAX);
        if low && !grown {
            self.notify_context(context, context_event::MAPS_LOW);
        }
        taken
    }

    /// Gives a record back.
    pub(crate) fn give_record(&mut self, application: u32, record: u32) {
        let number = record / SEGMENT_RECORDS;
        let mut id = self.applications.at(application).segment_head;
        while self.records.has(id) {
            let segment = self.records.at_mut(id);
            if segment.number == number {
                if segment.give(record % SEGMENT_RECORDS) {
                    let owner = self.applications.at_mut(application);
                    owner.records_used = owner.records_used.saturating_sub(1);
                }
                return;
            }
            id = segment.next;
        }
    }
}

impl RecordSegment {
    /// Takes a free record: its number within the application.
    fn take(&mut self) -> Option<u32> {
        let mut base = self.number.wrapping_mul(SEGMENT_RECORDS);
        for word in self.taken.iter_mut() {
            if *word != u64::MAX {
                let bit = word.trailing_ones();
                *word |= 1u64.wrapping_shl(bit);
                self.used = self.used.saturating_add(1);
                return Some(base.wrapping_add(bit));
            }
            base = base.wrapping_add(64);
        }
        None
    }

    /// Gives record `index` of the segment back; false if it was free.
    fn give(&mut self, index: u32) -> bool {
        let Some(word) = self.taken.get_mut((index / 64) as usize) else {
            return false;
        };
        let bit = 1u64.wrapping_shl(index % 64);
        if *word & bit == 0 {
            return false;
        }
        *word &= !bit;
        self.used = self.used.saturating_sub(1);
        true
    }
}
