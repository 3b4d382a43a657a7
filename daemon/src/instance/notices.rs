// SPDX-License-Identifier: MIT OR Apache-2.0
//! Notices: what the fast path's control thread must map or forget. Kept in order; each is taken
//! with NEXT_NOTICE and ended with NOTICE_DONE.

use abi::message::Notice;
use std::collections::VecDeque;

/// Notices waiting and being carried out. Bounded by the objects they speak of: two for each context
/// and one for each segment and application.
#[derive(Default)]
pub(super) struct Notices {
    waiting: VecDeque<Notice>,
    taken: Vec<Notice>,
    last: u32,
}

impl Notices {
    /// Queues a notice; its sequence number (never zero).
    pub(super) fn push(&mut self, kind: u32, application: u32, index: u32) -> u32 {
        self.last = self.last.wrapping_add(1).max(1);
        self.waiting.push_back(Notice { kind, sequence: self.last, application, index, reserved: [0; 8] });
        self.last
    }

    /// The next notice for the fast path.
    pub(super) fn take(&mut self) -> Option<Notice> {
        let notice = self.waiting.pop_front()?;
        self.taken.push(notice);
        Some(notice)
    }

    /// Ends a notice that was taken.
    pub(super) fn done(&mut self, sequence: u32) -> Option<Notice> {
        let index = self.taken.iter().position(|notice| notice.sequence == sequence)?;
        Some(self.taken.remove(index))
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// True if this notice and all before it have ended.
    pub(super) fn is_settled(&self, sequence: u32) -> bool {
        let not_after = |other: u32| (sequence.wrapping_sub(other) as i32) >= 0;
        !self.waiting.iter().chain(&self.taken).any(|notice| not_after(notice.sequence))
    }

    /// The fast path is gone: returns what it will not do any more.
    pub(super) fn clear(&mut self) -> Vec<Notice> {
        self.taken.drain(..).chain(self.waiting.drain(..)).collect()
    }
}
