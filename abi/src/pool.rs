// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Payload memory of one application: fixed chunks, and a buffer map record per flow.
//!
//! Both areas are reserved as one contiguous range of addresses and grow by segments of 2 MiB
//! ([`SEGMENT_BYTES`]). They are writable by the application and by the fast path, which masks
//! every index it reads from them: an application that scribbles harms its own data only.
//!
//! **Buffer map record** of a flow: [`MAP_ENTRIES`] chunk numbers for receive, then as many for
//! transmit. The byte at stream position `p` lives in chunk
//! `map[(p >> CHUNK_SHIFT) & (MAP_ENTRIES - 1)]` at offset `p & (CHUNK_BYTES - 1)`.
//! An entry holds `chunk + 1`; zero is empty.
//!
//! **Who allocates**: in every segment the first half of the chunks is for receive, allocated and
//! freed by the fast path alone (it frees a chunk when the application has read past it, and the
//! last one when the application has read everything: an idle flow holds none). The second half is
//! for transmit, allocated and freed by the application library alone.

/// log2 of [`CHUNK_BYTES`].
pub const CHUNK_SHIFT: u32 = 12;
/// Bytes of a chunk: a page, so that the common small RPC stays within one.
pub const CHUNK_BYTES: u32 = 1 << CHUNK_SHIFT;
/// Entries of a map for one direction.
pub const MAP_ENTRIES: u32 = 64;
/// Largest buffer of one direction: one chunk less, as a stream need not start at a chunk's edge.
pub const BUFFER_BYTES_MAX: u32 = (MAP_ENTRIES - 1) * CHUNK_BYTES;
/// Bytes of a flow's buffer map record, both directions.
pub const MAP_RECORD_BYTES: u32 = 2 * 4 * MAP_ENTRIES;
/// Bytes of a segment, the unit of growth: one huge page.
pub const SEGMENT_BYTES: u32 = 2 << 20;
/// Chunks of a segment.
pub const SEGMENT_CHUNKS: u32 = SEGMENT_BYTES / CHUNK_BYTES;
/// Receive chunks of a segment: its first half.
pub const SEGMENT_RECEIVE_CHUNKS: u32 = SEGMENT_CHUNKS / 2;
/// Map records of a segment.
pub const SEGMENT_RECORDS: u32 = SEGMENT_BYTES / MAP_RECORD_BYTES;
/// Most pool segments of an application (1 GiB).
pub const POOL_SEGMENTS_MAX: u32 = 512;
/// Most map segments of an application: room for 131,072 flows.
pub const MAP_SEGMENTS_MAX: u32 = 32;

const _: () = assert!(MAP_RECORD_BYTES == 512 && SEGMENT_RECORDS == 4096);
const _: () = assert!(SEGMENT_RECORDS * MAP_SEGMENTS_MAX == 131_072);
