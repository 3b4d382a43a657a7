// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writing: bytes go into chunks of ours; the fast path learns where the data ends.

use super::{
    connection::Connection,
    context::{Context, Inner},
    flow::{status, ChunkMap, Flow, Transmit},
    lock::Guard,
    memory::{chunk_offset, chunk_rest},
};
use abi::pool::CHUNK_BYTES;
use std::{
    io::IoSlice,
    sync::{atomic::Ordering::*, Arc},
};

/// Largest copy made under the context's lock: one chunk, as a second lock costs about as much.
const LOCKED_COPY_MAX: usize = CHUNK_BYTES as usize;

/// Nothing more can be written.
const SHUT: u32 = status::FINISHED | status::CLOSED | status::FAILED;

impl Connection {
    /// Bytes that a write would take now, memory permitting.
    #[inline]
    pub fn writable_bytes(&self) -> usize {
        if self.flow.has(SHUT) {
            return 0;
        }
        self.flow.room_bytes()
    }

    /// Bytes written and not yet acknowledged by the peer.
    pub fn unacknowledged_bytes(&self) -> usize {
        self.flow.unacknowledged_bytes() as usize
    }

    /// Copies in as much as fits and tells the fast path at once. Less than all: a WRITABLE event
    /// follows. Zero after [`Self::finish`] and after a failure.
    #[inline]
    pub fn write(&self, from: &[u8]) -> usize {
        let flow = &self.flow;
        let transmit = flow.transmit();
        let start = flow.snd_end.load(Relaxed);
        // The common case: a small write into the chunk that the last one went to.
        let fits = from.len() <= chunk_rest(start).min(flow.room_bytes());
        if fits
            && !from.is_empty()
            && flow.status.load(Relaxed) & SHUT == 0
            && !transmit.map.lags(flow.snd_una.load(Relaxed))
        {
            // SAFETY: in a mapped chunk of this connection, and we hold the write lock.
            let to = unsafe { &mut *piece(flow, &transmit.map, start, from.len()) };
            if to.len() == from.len() {
                to.copy_from_slice(from);
                let mut inner = transmit.context.lock();
                if inner.lanes.has_room(flow.core) {
                    send(flow, &transmit.context, inner, from.len());
                    return from.len();
                }
            }
        }
        drop(transmit);
        self.write_pieces(from.len(), |skip, to| to.copy_from_slice(&from[skip..skip + to.len()]))
    }

    /// As [`Self::write`], of several pieces with one announcement.
    pub fn write_vectored(&self, from: &[IoSlice<'_>]) -> usize {
        let bytes = from.iter().map(|piece| piece.len()).sum();
        let (mut rest, mut used) = (from, 0);
        // Called with ascending positions: `rest[0][used..]` is the next byte.
        self.write_pieces(bytes, |_, mut to| {
            while let (Some(piece), false) = (rest.first(), to.is_empty()) {
                let bytes = (piece.len() - used).min(to.len());
                let (now, later) = to.split_at_mut(bytes);
                now.copy_from_slice(&piece[used..used + bytes]);
                (to, used) = (later, used + bytes);
                if used == piece.len() {
                    (rest, used) = (&rest[1..], 0);
                }
            }
        })
    }

    /// As [`Self::write`]; what is written is urgent data, the last byte *the* urgent one (MSG_OOB).
    pub fn write_urgent(&self, from: &[u8]) -> usize {
        self.write_marked(from.len(), true, |skip, to| to.copy_from_slice(&from[skip..skip + to.len()]))
    }

    /// `fill(skip, to)` writes the bytes from `skip` on into `to`.
    fn write_pieces(&self, bytes: usize, fill: impl FnMut(usize, &mut [u8])) -> usize {
        self.write_marked(bytes, false, fill)
    }

    fn write_marked(&self, bytes: usize, urgent: bool, mut fill: impl FnMut(usize, &mut [u8])) -> usize {
        let flow = &self.flow;
        let mut transmit = flow.transmit();
        let Transmit { context, map, .. } = &mut *transmit;
        let mut written = 0;
        while written < bytes && !flow.has(SHUT) {
            let start = flow.snd_end.load(Relaxed);
            let want = (bytes - written).min(flow.room_bytes());
            let mut inner = context.lock();
            let Some(got) = reserve(flow, map, &mut inner, start, want) else {
                break;
            };
            if got <= LOCKED_COPY_MAX {
                fill_chunks(flow, map, start, got, |skip, to| fill(written + skip, to));
            } else {
                drop(inner);
                fill_chunks(flow, map, start, got, |skip, to| fill(written + skip, to));
                inner = context.lock();
            }
            if urgent {
                send_urgent(flow, context, inner, got);
            } else {
                send(flow, context, inner, got);
            }
            written += got;
            if written < bytes && !worth_another_try(flow, context, got, want) {
                break;
            }
        }
        written
    }

    /// Memory to write up to `bytes` in place; holds the write lock.
    pub fn writable(&self, bytes: usize) -> Writable<'_> {
        let flow = &self.flow;
        let mut transmit = flow.transmit();
        let Transmit { context, map, .. } = &mut *transmit;
        let start = flow.snd_end.load(Relaxed);
        let mut len = 0;
        while !flow.has(SHUT) {
            let want = bytes.min(flow.room_bytes());
            let got = reserve(flow, map, &mut context.lock(), start, want);
            len = got.unwrap_or(0);
            if got.is_none() || len == bytes || !worth_another_try(flow, context, len, want) {
                break;
            }
        }
        Writable { flow, start, len, transmit }
    }

    /// Sends the first `bytes` of what [`Writable::keep`] left, and gives up the rest. Returns how
    /// many there were: fewer than asked for if less was reserved.
    pub fn commit(&self, bytes: usize) -> usize {
        let flow = &self.flow;
        let mut transmit = flow.transmit();
        let start = flow.snd_end.load(Relaxed);
        let mut len = 0;
        while len < bytes {
            let position = start.wrapping_add(len as u64);
            let piece_bytes = piece(flow, &transmit.map, position, bytes - len).len();
            if piece_bytes == 0 {
                break;
            }
            len += piece_bytes;
        }
        let is_open = !flow.has(SHUT);
        let len = if is_open { len.min(flow.room_bytes()) } else { 0 };
        transmit.map.keep(false);
        // Its drop gives back the chunks of a connection that has become idle.
        Writable { flow, start, len, transmit }.commit(len);
        len
    }

    /// Whether more will be written soon, so that a small segment at the end of what is written may wait for it, at
    /// most 200 ms. Holds for writes from now on; see also [`Self::release`].
    pub fn hold(&self, more: bool) {
        if more {
            self.flow.status.fetch_or(status::MORE, Relaxed);
        } else {
            self.flow.status.fetch_and(!status::MORE, Relaxed);
        }
    }

    /// Sends what waits because of [`Self::hold`], which is over.
    pub fn release(&self) {
        let transmit = self.flow.transmit();
        self.hold(false);
        tell(&self.flow, &transmit.context);
    }

    /// Sends FIN after what was written.
    pub fn finish(&self) {
        let transmit = self.flow.transmit();
        if self.flow.status.fetch_or(status::FINISHED, AcqRel) & status::FINISHED == 0 {
            tell(&self.flow, &transmit.context);
        }
    }

    /// Whether [`Self::finish`] was called.
    pub fn has_finished(&self) -> bool {
        self.flow.has(status::FINISHED)
    }

    /// All data and our FIN were acknowledged.
    pub fn is_finish_acknowledged(&self) -> bool {
        self.flow.has(status::FINISH_ACKED)
    }
}

/// Gets chunks for up to `want` bytes from `start` on; returns for how many there are. None when
/// the ring is full: what is written must be announced at once.
#[inline]
fn reserve(
    flow: &Arc<Flow>,
    map: &mut ChunkMap,
    inner: &mut Inner,
    start: u64,
    want: usize,
) -> Option<usize> {
    let depot = &flow.application.depot;
    let una = flow.snd_una.load(Acquire);
    if map.lags(una) {
        map.release(flow.record, una, &mut |chunk| inner.cache.give(chunk, depot));
    }
    if want == 0 {
        return Some(0);
    }
    if !inner.lanes.has_room(flow.core) {
        inner.crowded.push(flow.id);
        return None;
    }
    let mut got = 0;
    while got < want {
        let position = start.wrapping_add(got as u64);
        if !map.ensure(flow.record, position, &mut inner.cache, depot) {
            break;
        }
        got += chunk_rest(position);
    }
    Some(got.min(want))
}

/// Calls `fill` for each contiguous piece of the `bytes` from `start` on.
#[inline]
fn fill_chunks(
    flow: &Flow,
    map: &ChunkMap,
    start: u64,
    bytes: usize,
    mut fill: impl FnMut(usize, &mut [u8]),
) {
    let mut done = 0;
    while done < bytes {
        let piece = piece(flow, map, start.wrapping_add(done as u64), bytes - done);
        if piece.len() == 0 {
            break;
        }
        // SAFETY: in a mapped chunk of this connection; the caller holds the write lock.
        fill(done, unsafe { &mut *piece });
        done += piece.len();
    }
}

/// The contiguous bytes at `position`, at most `bytes`, in a chunk that `map` holds. From `snd_end` on
/// they belong to the holder of the write lock alone: the fast path has not been told of them.
#[inline]
fn piece(flow: &Flow, map: &ChunkMap, position: u64, bytes: usize) -> *mut [u8] {
    let chunk = map.chunk(position).and_then(|chunk| flow.application.memory.chunk(chunk));
    let Some(chunk) = chunk else {
        return &mut [];
    };
    let bytes = bytes.min(chunk_rest(position));
    let start = chunk.as_ptr().wrapping_add(chunk_offset(position));
    std::ptr::slice_from_raw_parts_mut(start, bytes)
}

/// The next `bytes` are written: tells the fast path, and wakes its core if it sleeps.
#[inline]
fn send(flow: &Arc<Flow>, context: &Context, mut inner: Guard<'_, Inner>, bytes: usize) {
    if bytes == 0 {
        return;
    }
    let end = flow.snd_end.load(Relaxed).wrapping_add(bytes as u64);
    flow.snd_end.store(end, Release);
    inner.lanes.announce_write(flow, end);
    drop(inner);
    context.application().wake_core(flow.core);
}

/// As [`send`]: the next `bytes` are urgent.
#[cold]
fn send_urgent(flow: &Arc<Flow>, context: &Context, mut inner: Guard<'_, Inner>, bytes: usize) {
    if bytes == 0 {
        return;
    }
    let end = flow.snd_end.load(Relaxed).wrapping_add(bytes as u64);
    flow.urgent_end.store(end as u32, Relaxed);
    flow.status.fetch_and(!status::URGENT_TOLD, Relaxed);
    flow.status.fetch_or(status::URGENT_WRITTEN, Relaxed);
    flow.snd_end.store(end, Release);
    inner.lanes.announce(flow);
    drop(inner);
    context.application().wake_core(flow.core);
}

/// Tells the fast path what changed.
pub(super) fn tell(flow: &Arc<Flow>, context: &Context) {
    let mut inner = context.lock();
    inner.lanes.announce(flow);
    let pushed = inner.lanes.take_pushed();
    drop(inner);
    context.wake_cores(pushed);
}

/// A write got less than it asked for: `got` of `want`, where `want` is what the buffer has room for.
#[cold]
fn worth_another_try(flow: &Flow, context: &Context, got: usize, want: usize) -> bool {
    let has_room = !flow.wait_for_room();
    if got == want {
        return has_room;
    }
    // There were too few chunks. This comes first, lest some that are freed in between go unnoticed.
    context.lock().starved.push(flow.id);
    flow.application.relieve()
}

/// Memory to write in place.
pub struct Writable<'a> {
    flow: &'a Arc<Flow>,
    start: u64,
    len: usize,
    transmit: Guard<'a, Transmit>,
}

impl Writable<'_> {
    /// Bytes that can be written.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first two contiguous pieces; the second is empty when there is one piece only.
    pub fn slices(&mut self) -> [&mut [u8]; 2] {
        let first = self.raw_piece(0);
        let second = self.raw_piece(first.len());
        // SAFETY: in mapped chunks of this connection, apart from each other; `self` holds the write
        // lock and is borrowed mutably.
        unsafe { [&mut *first, &mut *second] }
    }

    /// The contiguous piece at `skip` bytes after the write position; empty at the end.
    pub fn piece(&mut self, skip: usize) -> &mut [u8] {
        // SAFETY: in a mapped chunk of this connection; `self` holds the write lock and is borrowed
        // mutably.
        unsafe { &mut *self.raw_piece(skip) }
    }

    fn raw_piece(&self, skip: usize) -> *mut [u8] {
        let rest = self.len.saturating_sub(skip);
        if rest == 0 {
            return &mut [];
        }
        piece(self.flow, &self.transmit.map, self.start.wrapping_add(skip as u64), rest)
    }

    /// Leaves the memory to the caller without the lock, to be sent by [`Connection::commit`]. Until
    /// then the caller writes nothing else; the memory is lost with the connection.
    pub fn keep(mut self) {
        self.transmit.map.keep(true);
    }

    /// Sends the first `bytes` (clamped to [`Self::len`]).
    pub fn commit(self, bytes: usize) {
        let context = &*self.transmit.context;
        send(self.flow, context, context.lock(), bytes.min(self.len));
    }
}

impl Drop for Writable<'_> {
    fn drop(&mut self) {
        let Transmit { context, map, .. } = &mut *self.transmit;
        let (depot, mut inner) = (&self.flow.application.depot, context.lock());
        map.trim(self.flow.record, self.flow.snd_end.load(Relaxed), &mut |chunk| {
            inner.cache.give(chunk, depot)
        });
    }
}
