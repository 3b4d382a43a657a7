// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reading: the bytes are in chunks that the fast path filled; the record says which.

use super::{
    connection::Connection,
    flow::{Flow, Receive},
    lock::Guard,
    memory::{chunk_offset, chunk_rest, map_index},
};
use std::sync::{atomic::Ordering::*, Arc};

impl Connection {
    /// Bytes that can be read now.
    #[inline]
    pub fn readable_bytes(&self) -> usize {
        self.flow.readable_bytes()
    }

    /// Copies out and consumes; zero when nothing is there.
    #[inline]
    pub fn read(&self, into: &mut [u8]) -> usize {
        let mut readable = self.readable();
        let copied = readable.copy(0, into);
        readable.consume(copied);
        copied
    }

    /// Copies out from `skip` bytes after the read position, without consuming.
    pub fn peek(&self, skip: usize, into: &mut [u8]) -> usize {
        self.readable().copy(skip, into)
    }

    /// Access to what can be read in place; holds the read lock.
    #[inline]
    pub fn readable(&self) -> Readable<'_> {
        let receive = self.flow.receive();
        let (start, len) = self.flow.readable_from(self.flow.rcv_read.load(Relaxed));
        Readable { flow: &self.flow, start, len, receive }
    }
}

/// What can be read in place. The bytes stay until they are consumed.
pub struct Readable<'a> {
    flow: &'a Arc<Flow>,
    start: u64,
    len: usize,
    receive: Guard<'a, Receive>,
}

impl Readable<'_> {
    /// Bytes that can be read.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first two contiguous pieces; the second is empty when there is one piece only.
    pub fn slices(&self) -> [&[u8]; 2] {
        let first = self.piece(0);
        [first, self.piece(first.len())]
    }

    /// The contiguous piece at `skip` bytes after the read position; empty at the end.
    #[inline]
    pub fn piece(&self, skip: usize) -> &[u8] {
        if skip >= self.len {
            return &[];
        }
        let position = self.start.wrapping_add(skip as u64);
        let bytes = (self.len - skip).min(chunk_rest(position));
        let entry = self.flow.record[map_index(position)].load(Relaxed);
        let chunk = entry.checked_sub(1).and_then(|chunk| self.flow.application.memory.chunk(chunk));
        let Some(chunk) = chunk else {
            return self.no_chunk();
        };
        // SAFETY: within a mapped chunk. The fast path wrote these bytes before it told of them, and
        // leaves them alone until it is told that they were read, which takes `&mut self`.
        unsafe { std::slice::from_raw_parts(chunk.as_ptr().add(chunk_offset(position)), bytes) }
    }

    /// Gives the first `bytes` back (clamped to what is there).
    #[inline]
    pub fn consume(&mut self, bytes: usize) {
        let bytes = bytes.min(self.len);
        if bytes == 0 {
            return;
        }
        self.len -= bytes;
        self.advance(self.start.wrapping_add(bytes as u64));
    }

    /// Gives back what is in front of the first byte: an urgent byte where the reader stood.
    pub(super) fn skip(&mut self) {
        if self.start != self.flow.rcv_read.load(Relaxed) {
            self.advance(self.start);
        }
    }

    /// All before `start` was read.
    #[inline]
    fn advance(&mut self, start: u64) {
        self.start = start;
        // Pairs with `announce_touched`: either it reads this position, or we read false.
        self.flow.rcv_read.store(self.start, SeqCst);
        let told = self.flow.told_read.load(Relaxed);
        let quarter = u64::from(self.flow.rx_report_bytes);
        // The peer must hear of what was read before the window that it knows is closed.
        let held = self.start.wrapping_add(self.len as u64).wrapping_sub(told);
        if self.start.wrapping_sub(told) >= quarter || held >= 3 * quarter {
            self.report();
        } else if !self.flow.touched.load(SeqCst) {
            self.defer();
        }
    }

    /// Leaves it to the next write or poll to announce what was read.
    fn defer(&mut self) {
        let mut inner = self.receive.context.lock();
        if !self.flow.touched.swap(true, Relaxed) {
            inner.touched.push(self.flow.id);
        }
    }

    #[cold]
    fn report(&mut self) {
        let context = &*self.receive.context;
        let mut inner = context.lock();
        inner.lanes.announce(self.flow);
        let pushed = inner.lanes.take_pushed();
        drop(inner);
        context.wake_cores(pushed);
    }

    #[inline]
    fn copy(&self, skip: usize, into: &mut [u8]) -> usize {
        let mut copied = 0;
        while copied < into.len() {
            let piece = self.piece(skip + copied);
            if piece.is_empty() {
                break;
            }
            let bytes = piece.len().min(into.len() - copied);
            into[copied..copied + bytes].copy_from_slice(&piece[..bytes]);
            copied += bytes;
        }
        copied
    }

    /// The fast path announced bytes and did not say where they are.
    #[cold]
    fn no_chunk(&self) -> &[u8] {
        self.flow.fail(libc::EIO);
        &[]
    }
}
