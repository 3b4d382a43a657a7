// SPDX-License-Identifier: MIT OR Apache-2.0
//! The library's state of one connection. A context's `poll` writes what the fast path tells, one
//! reader and one writer at a time write the rest.

use super::{
    application::Application,
    chunks::{Cache, Depot},
    context::Context,
    lock::{Guard, Lock},
    memory::map_index,
    urgent::{Urgent, View},
};
use crate::sys::PrivateFd;
use abi::{
    message::FlowInfo,
    pool::{BUFFER_BYTES_MAX, CHUNK_BYTES, CHUNK_SHIFT, MAP_ENTRIES},
};
use std::{
    io,
    sync::{
        atomic::{fence, AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::*},
        Arc,
    },
};

/// Bits of [`Flow::status`].
pub(super) mod status {
    /// The peer's FIN was received; `rcv_nxt` is the end of its stream.
    pub(crate) const PEER_FINISHED: u32 = 1 << 0;
    /// Our FIN and all data were acknowledged.
    pub(crate) const FINISH_ACKED: u32 = 1 << 1;
    /// The application asked for a FIN.
    pub(crate) const FINISHED: u32 = 1 << 2;
    /// The fast path was told about the FIN.
    pub(crate) const FINISH_TOLD: u32 = 1 << 3;
    /// The application closed it; it stays in the table until its data is acknowledged.
    pub(crate) const CLOSED: u32 = 1 << 4;
    /// A write came up short: tell when there is room.
    pub(crate) const WANTS_ROOM: u32 = 1 << 6;
    /// It failed with [`Flow::error`](super::Flow::error).
    pub(crate) const FAILED: u32 = 1 << 5;
    /// There is urgent data in front of the reader, or may be.
    pub(crate) const URGENT: u32 = 1 << 7;
    /// The application has written urgent data, up to `urgent_end`.
    pub(crate) const URGENT_WRITTEN: u32 = 1 << 8;
    /// The fast path was told of it.
    pub(crate) const URGENT_TOLD: u32 = 1 << 9;
    /// More will be written soon: a small segment at the end may wait for it.
    pub(crate) const MORE: u32 = 1 << 10;
    /// The fast path was told so.
    pub(crate) const MORE_TOLD: u32 = 1 << 11;
    /// The application closed it, and no other process has it.
    pub(crate) const LEFT: u32 = 1 << 12;
    /// The fast path was told so.
    pub(crate) const LEFT_TOLD: u32 = 1 << 13;
}

/// One connection.
pub(super) struct Flow {
    pub(super) record: &'static [AtomicU32],
    pub(super) token: u64,
    pub(super) id: u32,
    pub(super) generation: u32,
    pub(super) core: u32,
    /// Transmit buffer, at most what a map can hold.
    pub(super) tx_buffer_bytes: u32,
    /// Bytes read that are announced at once, a quarter of the receive buffer.
    pub(super) rx_report_bytes: u32,

    /// Readable up to here. Written by `poll`.
    pub(super) rcv_nxt: AtomicU64,
    /// Acknowledged up to here. Written by `poll`.
    pub(super) snd_una: AtomicU64,
    pub(super) status: AtomicU32,
    pub(super) error: AtomicI32,

    /// Read up to here. Written by the reader.
    pub(super) rcv_read: AtomicU64,
    /// Written up to here. Written by the writer.
    pub(super) snd_end: AtomicU64,
    /// What the fast path was last told of the two. Written under the context's lock.
    pub(super) told_read: AtomicU64,
    pub(super) told_end: AtomicU64,
    /// In the context's list of flows whose event found the ring full. Under the context's lock.
    pub(super) queued: AtomicBool,
    /// The next poll announces what was read.
    pub(super) touched: AtomicBool,

    /// Urgent data received.
    pub(super) urgent: Lock<Urgent>,
    /// Low half of the position after the last urgent byte written.
    pub(super) urgent_end: AtomicU32,
    pub(super) receive: Lock<Receive>,
    pub(super) transmit: Lock<Transmit>,
    pub(super) info: FlowInfo,
    /// Keeps `record` and the chunks mapped.
    pub(super) application: Arc<Application>,
}

/// Held by whoever reads.
pub(super) struct Receive {
    pub(super) context: Arc<Context>,
}

/// Held by whoever writes.
pub(super) struct Transmit {
    pub(super) context: Arc<Context>,
    pub(super) map: ChunkMap,
    /// Keeps the socket while the connection is closed and data is unacknowledged.
    pub(super) keep_alive: Option<PrivateFd>,
}

/// The chunks that a connection sends from.
pub(super) struct ChunkMap {
    /// Chunk + 1 of each map entry, zero when empty: the record's copy in private memory.
    chunks: [u32; MAP_ENTRIES as usize],
    /// Chunk-sized steps of the stream (`position >> CHUNK_SHIFT`) that may hold chunks: from
    /// `first` to before `last`.
    first: u64,
    last: u64,
    /// Chunks from the end of the data on are being written, though nothing may be outstanding.
    is_kept: bool,
}

/// What became of an acknowledgement.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing to tell.
    Quiet,
    /// A writer waits for room, and there is some.
    Writable,
    /// The connection is closed and all its data acknowledged.
    Over,
    /// A writer is at work: look again.
    Busy,
}

impl Flow {
    /// Checks what the slow path told of a flow.
    ///
    /// # Errors
    /// EPROTO when it makes no sense.
    pub(super) fn new(context: &Arc<Context>, info: &FlowInfo, token: u64) -> io::Result<Arc<Self>> {
        let application = context.application();
        // SAFETY: the flow holds the application, which holds the mapping.
        let record = unsafe { application.memory.record(info.buffers) };
        let valid = info.flow < application.info.flows && info.core < application.info.cores;
        let (true, Some(record)) = (valid, record) else {
            return Err(crate::control::explained(libc::EPROTO, "the slow path named a flow that cannot be"));
        };
        Ok(Arc::new(Self {
            record,
            token,
            id: info.flow,
            generation: info.generation,
            core: info.core,
            tx_buffer_bytes: info.tx_buffer_bytes.min(BUFFER_BYTES_MAX),
            rx_report_bytes: info.rx_buffer_bytes / 4,
            rcv_nxt: info.rx_start.into(),
            snd_una: info.tx_start.into(),
            status: 0.into(),
            error: 0.into(),
            rcv_read: info.rx_start.into(),
            snd_end: info.tx_start.into(),
            told_read: info.rx_start.into(),
            told_end: info.tx_start.into(),
            queued: false.into(),
            touched: false.into(),
            urgent: Lock::new(Urgent::default()),
            urgent_end: 0.into(),
            receive: Lock::new(Receive { context: context.clone() }),
            transmit: Lock::new(Transmit {
                context: context.clone(),
                map: ChunkMap::new(info.tx_start),
                keep_alive: None,
            }),
            info: *info,
            application: application.clone(),
        }))
    }

    #[inline]
    pub(super) fn receive(&self) -> Guard<'_, Receive> {
        self.receive.lock()
    }

    #[inline]
    pub(super) fn transmit(&self) -> Guard<'_, Transmit> {
        self.transmit.lock()
    }

    #[inline]
    pub(super) fn has(&self, bits: u32) -> bool {
        self.status.load(Acquire) & bits != 0
    }

    /// Bytes that can be read before the end or urgent data.
    #[inline]
    pub(super) fn readable_bytes(&self) -> usize {
        if self.has(status::CLOSED | status::URGENT) {
            return self.unusual_view().len;
        }
        self.unread_bytes()
    }

    /// What a reader sees; `read` is where it stands.
    #[inline]
    pub(super) fn readable_from(&self, read: u64) -> (u64, usize) {
        if self.has(status::CLOSED | status::URGENT) {
            let view = self.unusual_view();
            return (view.start, view.len);
        }
        (read, self.rcv_nxt.load(Acquire).wrapping_sub(read) as usize)
    }

    #[cold]
    fn unusual_view(&self) -> View {
        let view = self.urgent_view();
        View { len: if self.has(status::CLOSED) { 0 } else { view.len }, ..view }
    }

    /// Bytes written and not acknowledged.
    #[inline]
    pub(super) fn unacknowledged_bytes(&self) -> u64 {
        // In this order: an acknowledgement in between must not make the difference negative.
        let una = self.snd_una.load(Acquire);
        self.snd_end.load(Acquire).wrapping_sub(una)
    }

    /// Room in the transmit buffer.
    #[inline]
    pub(super) fn room_bytes(&self) -> usize {
        u64::from(self.tx_buffer_bytes).saturating_sub(self.unacknowledged_bytes()) as usize
    }

    /// Linux tells of room when a third of the buffer is free (`sk_stream_is_writeable`).
    pub(super) fn has_room(&self) -> bool {
        self.room_bytes() >= self.tx_buffer_bytes as usize / 3
    }

    /// After `snd_una` moved past a chunk's end, or while somebody waits for room or the end: frees
    /// acknowledged chunks and says what is to be told.
    pub(super) fn acknowledged(&self, cache: &mut Cache, depot: &Depot) -> Progress {
        let Some(mut transmit) = self.transmit.try_lock() else {
            return Progress::Busy;
        };
        let una = self.snd_una.load(Relaxed);
        transmit.map.release(self.record, una, &mut |chunk| cache.give(chunk, depot));
        if self.has(status::CLOSED) && una == self.snd_end.load(Relaxed) {
            transmit.map.release_all(self.record, &mut |chunk| cache.give(chunk, depot));
            transmit.keep_alive = None;
            return Progress::Over;
        }
        if self.has(status::WANTS_ROOM) && self.has_room() {
            self.status.fetch_and(!status::WANTS_ROOM, Relaxed);
            return Progress::Writable;
        }
        Progress::Quiet
    }

    /// A write came up short. False: there is room by now, and nobody will be told of it.
    pub(super) fn wait_for_room(&self) -> bool {
        // Pairs with `Inner::flow_event`: either it sees the bit or we see the acknowledgement.
        self.status.fetch_or(status::WANTS_ROOM, SeqCst);
        fence(SeqCst);
        !self.has_room()
    }

    /// The next announcement says everything, whatever was told before.
    pub(super) fn forget_told(&self) {
        self.told_end.store(!self.snd_end.load(Relaxed), Relaxed);
        self.told_read.store(!self.rcv_read.load(Relaxed), Relaxed);
        let told = status::FINISH_TOLD | status::URGENT_TOLD | status::LEFT_TOLD;
        self.status.fetch_and(!told, Relaxed);
    }

    /// Records why the connection failed; the first reason counts.
    pub(super) fn fail(&self, errno: i32) {
        let _ = self.error.compare_exchange(0, errno, Relaxed, Relaxed);
        self.status.fetch_or(status::FAILED, Release);
    }
}

impl ChunkMap {
    fn new(start: u64) -> Self {
        let step = start >> CHUNK_SHIFT;
        Self { chunks: [0; MAP_ENTRIES as usize], first: step, last: step, is_kept: false }
    }

    /// Gives back the chunks before the one that holds `una`. That one stays, though all may be
    /// acknowledged: the next write continues there.
    #[inline]
    pub(super) fn release(&mut self, record: &[AtomicU32], una: u64, give: &mut impl FnMut(u32)) {
        while self.first < una >> CHUNK_SHIFT {
            self.take(record, self.first, give);
            self.first += 1;
        }
    }

    /// Gives back everything of a connection that has nothing outstanding.
    pub(super) fn release_idle(
        &mut self,
        record: &[AtomicU32],
        una: u64,
        end: u64,
        give: &mut impl FnMut(u32),
    ) {
        if una == end && !self.is_kept && self.first < self.last {
            self.release_all(record, give);
            self.first = end >> CHUNK_SHIFT;
            self.last = self.first;
        }
    }

    /// Gives back the chunks behind the one where `end` is: reserved and not used.
    pub(super) fn trim(&mut self, record: &[AtomicU32], end: u64, give: &mut impl FnMut(u32)) {
        let last = end.div_ceil(u64::from(CHUNK_BYTES));
        while self.last > last && !self.is_kept {
            self.last -= 1;
            self.take(record, self.last, give);
        }
    }

    /// Whether [`Self::release`] would give something back.
    #[inline]
    pub(super) fn lags(&self, una: u64) -> bool {
        self.first < una >> CHUNK_SHIFT
    }

    /// Gives back all chunks, wherever the stream is.
    pub(super) fn release_all(&mut self, record: &[AtomicU32], give: &mut impl FnMut(u32)) {
        for step in 0..u64::from(MAP_ENTRIES) {
            self.take(record, step, give);
        }
        self.first = self.last;
    }

    #[inline]
    fn take(&mut self, record: &[AtomicU32], step: u64, give: &mut impl FnMut(u32)) {
        let index = map_index(step << CHUNK_SHIFT);
        let entry = std::mem::take(&mut self.chunks[index]);
        if entry != 0 {
            record[MAP_ENTRIES as usize + index].store(0, Relaxed);
            give(entry - 1);
        }
    }

    /// Whether chunks without data stay; see [`Writable::keep`](super::Writable::keep).
    pub(super) fn keep(&mut self, keep: bool) {
        self.is_kept = keep;
    }

    /// Chunk that holds `position`, if there is one.
    #[inline]
    pub(super) fn chunk(&self, position: u64) -> Option<u32> {
        self.chunks[map_index(position)].checked_sub(1)
    }

    /// Sees to it that `position`'s chunk exists. False: no memory.
    #[inline]
    pub(super) fn ensure(
        &mut self,
        record: &[AtomicU32],
        position: u64,
        cache: &mut Cache,
        depot: &Depot,
    ) -> bool {
        let index = map_index(position);
        if self.chunks[index] == 0 {
            let Some(chunk) = cache.take(depot) else {
                return false;
            };
            self.chunks[index] = chunk + 1;
            record[MAP_ENTRIES as usize + index].store(chunk + 1, Relaxed);
            self.last = self.last.max((position >> CHUNK_SHIFT) + 1);
        }
        true
    }
}
