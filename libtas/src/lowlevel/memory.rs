// SPDX-License-Identifier: MIT OR Apache-2.0
//! The application's payload memory: one range of addresses for chunks, one for buffer maps, each
//! filled segment by segment. Whatever a chunk number or record index came from, it is checked here.

use crate::control::{ControlChannel, Mapping};
use abi::{
    pool::{
        CHUNK_BYTES, CHUNK_SHIFT, MAP_ENTRIES, MAP_RECORD_BYTES, MAP_SEGMENTS_MAX, POOL_SEGMENTS_MAX,
        SEGMENT_BYTES,
    },
    region::{Region, RegionKind},
};
use std::{
    io,
    ptr::NonNull,
    sync::{
        atomic::{AtomicU32, Ordering},
        Mutex, PoisonError,
    },
};

/// Words of a buffer map record, both directions.
const RECORD_WORDS: usize = 2 * MAP_ENTRIES as usize;

/// One growing area: pool or maps.
struct Area {
    kind: RegionKind,
    /// Segments mapped so far; everything below `segments * SEGMENT_BYTES` is accessible.
    segments: AtomicU32,
    limit: u32,
    /// Dropped before the range that they give their addresses back to.
    parts: Mutex<Vec<Mapping>>,
    range: Mapping,
}

impl Area {
    fn new(kind: RegionKind, limit: u32) -> io::Result<Self> {
        let segment = SEGMENT_BYTES as usize;
        Ok(Self {
            kind,
            range: Mapping::reserve(limit as usize * segment, segment)?,
            segments: AtomicU32::new(0),
            limit,
            parts: Mutex::new(Vec::new()),
        })
    }

    /// Maps segments until there are `granted`. Returns how many there were before.
    fn extend(&self, channel: &dyn ControlChannel, application: u32, granted: u32) -> io::Result<u32> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let before = parts.len() as u32;
        for number in before..granted.min(self.limit) {
            let byte_offset = number * SEGMENT_BYTES;
            let region = Region { kind: self.kind, index: application, byte_offset };
            let at = self.range.start().as_ptr() as usize + byte_offset as usize;
            parts.push(channel.map(region, SEGMENT_BYTES as usize, true, Some(at))?);
            self.segments.store(number + 1, Ordering::Release);
        }
        Ok(before)
    }

    /// The `number`th item of `bytes`, which divide a segment.
    #[inline]
    fn at(&self, number: u32, bytes: u32) -> Option<NonNull<u8>> {
        let offset = u64::from(number).wrapping_mul(u64::from(bytes));
        if offset >= u64::from(self.segments.load(Ordering::Acquire)).wrapping_mul(u64::from(SEGMENT_BYTES)) {
            return None;
        }
        // SAFETY: within the segments mapped, which are within the range.
        Some(unsafe { self.range.start().add(offset as usize) })
    }
}

/// Pool and buffer maps.
pub(super) struct Memory {
    pool: Area,
    maps: Area,
}

impl Memory {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            pool: Area::new(RegionKind::Pool, POOL_SEGMENTS_MAX)?,
            maps: Area::new(RegionKind::Maps, MAP_SEGMENTS_MAX)?,
        })
    }

    /// Maps pool segments until there are `granted`; returns the numbers of the new ones.
    pub(super) fn extend_pool(
        &self,
        channel: &dyn ControlChannel,
        application: u32,
        granted: u32,
    ) -> io::Result<std::ops::Range<u32>> {
        let before = self.pool.extend(channel, application, granted)?;
        Ok(before..self.pool_segments())
    }

    /// Maps segments of the buffer maps until there are `granted`.
    pub(super) fn extend_maps(
        &self,
        channel: &dyn ControlChannel,
        application: u32,
        granted: u32,
    ) -> io::Result<()> {
        self.maps.extend(channel, application, granted).map(drop)
    }

    pub(super) fn pool_segments(&self) -> u32 {
        self.pool.segments.load(Ordering::Acquire)
    }

    /// First byte of chunk `number`, if it is mapped.
    #[inline]
    pub(super) fn chunk(&self, number: u32) -> Option<NonNull<u8>> {
        self.pool.at(number, CHUNK_BYTES)
    }

    /// Record `index` of the buffer maps: receive entries, then transmit entries.
    ///
    /// # Safety
    /// The record must not be used after this value is dropped.
    pub(super) unsafe fn record(&self, index: u32) -> Option<&'static [AtomicU32]> {
        let start = self.maps.at(index, MAP_RECORD_BYTES)?;
        // SAFETY: mapped for as long as `self`, aligned to 512 bytes, words written as such.
        Some(unsafe { ring::table(start, RECORD_WORDS) })
    }
}

/// Index into a map of the chunk that holds `position`.
#[inline]
pub(super) fn map_index(position: u64) -> usize {
    (position >> CHUNK_SHIFT) as usize & (MAP_ENTRIES as usize - 1)
}

/// Offset of `position` within its chunk.
#[inline]
pub(super) fn chunk_offset(position: u64) -> usize {
    position as usize & (CHUNK_BYTES as usize - 1)
}

/// Bytes from `position` to the end of its chunk.
#[inline]
pub(super) fn chunk_rest(position: u64) -> usize {
    (CHUNK_BYTES as usize).wrapping_sub(chunk_offset(position))
}
