// SPDX-License-Identifier: MIT OR Apache-2.0
//! A port that is two queues in memory.

use crate::{header, Batch, Capabilities, Packet, Port, RxChecksum};
use std::{
    collections::VecDeque,
    sync::{
        atomic::{AtomicUsize, Ordering::Relaxed},
        Arc,
    },
};

/// A frame in a `Vec`. Counts itself, so that leaks show.
pub struct MemoryPacket {
    bytes: Vec<u8>,
    checksum: RxChecksum,
    offload: bool,
    capacity: usize,
    live: Arc<AtomicUsize>,
}

impl Drop for MemoryPacket {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Relaxed);
    }
}

impl Packet for MemoryPacket {
    fn data(&self) -> &[u8] {
        &self.bytes
    }
    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
    fn capacity(&self) -> usize {
        self.capacity
    }
    fn set_len(&mut self, len: usize) {
        // What comes into the frame has any value: make it a bad one.
        self.bytes.resize(len.min(self.capacity), 0xa5);
    }
    fn checksum(&self) -> RxChecksum {
        self.checksum
    }
    fn request_tx_checksum(&mut self, l2_bytes: u8, l3_bytes: u8, l4_bytes: u8) {
        let ip_bytes = if self.bytes[12..14] == [0x86, 0xdd] { 40 } else { 20 };
        assert_eq!((l2_bytes, l3_bytes), (14, ip_bytes));
        assert_eq!(l4_bytes, self.bytes[26 + usize::from(ip_bytes)] >> 4 << 2);
        self.offload = true;
    }
    fn clear_tx_offload(&mut self) {
        self.offload = false;
    }
}

/// The port. Frames to receive go into `incoming`; what was sent is in `outgoing`.
pub struct MemoryPort {
    /// Frames to be received, oldest first.
    pub incoming: VecDeque<Vec<u8>>,
    /// Frames sent, oldest first.
    pub outgoing: VecDeque<Vec<u8>>,
    /// What the port says about received checksums.
    pub checksum: RxChecksum,
    /// What the port can do.
    pub capabilities: Capabilities,
    /// Frames the port takes before it is full, until `outgoing` is emptied.
    pub tx_room: usize,
    /// Bytes a packet has room for: a standard frame.
    pub frame_bytes: usize,
    /// Packets that can be allocated or received at a time.
    pub packets: usize,
    live: Arc<AtomicUsize>,
}

impl Default for MemoryPort {
    fn default() -> Self {
        Self {
            incoming: VecDeque::new(),
            outgoing: VecDeque::new(),
            checksum: RxChecksum::Unknown,
            capabilities: Capabilities::default(),
            tx_room: usize::MAX,
            frame_bytes: 1514,
            packets: usize::MAX,
            live: Arc::default(),
        }
    }
}

impl MemoryPort {
    /// Packets that exist.
    pub fn live(&self) -> usize {
        self.live.load(Relaxed)
    }

    fn packet(&self, bytes: Vec<u8>) -> MemoryPacket {
        self.live.fetch_add(1, Relaxed);
        MemoryPacket {
            bytes,
            checksum: self.checksum,
            offload: false,
            capacity: self.frame_bytes,
            live: self.live.clone(),
        }
    }
}

impl Port for MemoryPort {
    type Packet = MemoryPacket;

    fn receive(&mut self, into: &mut Batch<MemoryPacket>, limit: usize) -> usize {
        let before = into.len();
        while into.len() < limit {
            let Some(bytes) = self.incoming.pop_front() else {
                break;
            };
            if into.push(self.packet(bytes)).is_err() {
                break;
            }
        }
        into.len() - before
    }

    fn allocate(&mut self) -> Option<MemoryPacket> {
        (self.live() < self.packets).then(|| self.packet(Vec::with_capacity(self.frame_bytes)))
    }

    fn transmit(&mut self, batch: &mut Batch<MemoryPacket>) -> usize {
        let count = batch.len().min(self.tx_room.saturating_sub(self.outgoing.len()));
        for index in 0..count {
            let Some(mut packet) = batch.take(index) else {
                continue;
            };
            if packet.offload {
                header::write_checksums(&mut packet.bytes);
            }
            self.outgoing.push_back(std::mem::take(&mut packet.bytes));
        }
        batch.remove_front(count);
        count
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }
}
