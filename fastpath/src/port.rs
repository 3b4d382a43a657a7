// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the fast path needs from the thing that moves frames.

/// Most packets in a [`Batch`]: two bursts of the original's sixteen.
pub const BATCH_MAX: usize = 32;
/// Bytes of the largest frame of any instance: [`abi::limits::MTU_MAX`] with an Ethernet header.
pub const FRAME_BYTES_MAX: usize = abi::limits::MTU_MAX as usize + 14;

/// What the port says about the checksums of a received frame: TCP's, and over IPv4 the header's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RxChecksum {
    /// The port verified both.
    Good,
    /// The port found one of them wrong.
    Bad,
    /// The port did not look at both; the core verifies them.
    Unknown,
}

/// What a port can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// The port fills in the IPv4 and TCP checksum when asked by [`Packet::request_tx_checksum`].
    pub tx_checksum: bool,
    /// Received frames of one flow may reach any core (no RSS, or fewer queues than cores): spread
    /// new flows over the cores in software.
    pub steer_in_software: bool,
}

/// One frame in one contiguous buffer. Dropping it gives the buffer back to its pool.
pub trait Packet {
    /// The frame, from the Ethernet header on, without FCS.
    fn data(&self) -> &[u8];
    /// The frame, writable.
    fn data_mut(&mut self) -> &mut [u8];
    /// Bytes the frame may have: at least the MTU ([`crate::Config::mtu_bytes`]) and an Ethernet header.
    fn capacity(&self) -> usize;
    /// Sets the frame's length; `len` is at most [`Self::capacity`] (the port clamps it). Bytes that
    /// become part of the frame have any value.
    fn set_len(&mut self, len: usize);
    /// What the port found out about the checksums of a received frame.
    fn checksum(&self) -> RxChecksum;
    /// Asks the port to fill in both checksums on transmit. The core has set the IPv4 checksum to
    /// zero and the TCP checksum to the pseudo-header's sum, as DPDK wants it. Lengths in bytes of
    /// the Ethernet, IP and TCP headers; an IP header of 40 bytes is IPv6's, which has no checksum of its own.
    /// Called only if [`Capabilities::tx_checksum`], and before the payload is there.
    fn request_tx_checksum(&mut self, l2_bytes: u8, l3_bytes: u8, l4_bytes: u8);
    /// Forgets any earlier request: a received packet is about to be sent.
    fn clear_tx_offload(&mut self) {}
    /// Brings the frame's first cache line near. A hint.
    #[inline]
    fn prefetch(&self) {}
}

/// A source and sink of frames that belongs to one core.
pub trait Port {
    /// The port's packet.
    type Packet: Packet;
    /// Appends received frames to `into` until it has `limit` packets or none is left. Returns how many were added.
    fn receive(&mut self, into: &mut Batch<Self::Packet>, limit: usize) -> usize;
    /// Frames of other VLANs than the port serves that were dropped since the last call.
    #[inline]
    fn take_foreign(&mut self) -> u64 {
        0
    }
    /// An empty packet to fill, or `None` if the pool is exhausted.
    fn allocate(&mut self) -> Option<Self::Packet>;
    /// Sends packets from the front of `batch` and removes them from it (a frame the port cannot send at
    /// all is dropped like one that was sent). What the port has no room for stays in the batch, in
    /// order, and is offered again. Returns how many were removed.
    fn transmit(&mut self, batch: &mut Batch<Self::Packet>) -> usize;
    /// What the port can do; asked once.
    fn capabilities(&self) -> Capabilities;
    /// Brings a cache line near. A hint.
    #[inline]
    fn prefetch<T>(_line: &T) {}
}

/// Hands frames to the cores that own their flows, where the port cannot. Bounded queues
/// between the cores of one process.
pub trait Steer<K> {
    /// Queues `packet` for `core`; gives it back if that core's queue is full.
    ///
    /// # Errors
    /// The packet, which the caller drops and counts.
    fn offer(&mut self, core: usize, packet: K) -> Result<(), K>;
    /// Appends frames that others queued for this core until `into` has `limit` packets.
    fn take(&mut self, into: &mut Batch<K>, limit: usize) -> usize;
    /// True if [`Self::take`] would add a frame.
    fn is_ready(&self) -> bool;
}

/// No other core to steer to.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSteer;

impl<K> Steer<K> for NoSteer {
    fn offer(&mut self, _core: usize, packet: K) -> Result<(), K> {
        Err(packet)
    }
    #[inline]
    fn take(&mut self, _into: &mut Batch<K>, _limit: usize) -> usize {
        0
    }
    fn is_ready(&self) -> bool {
        false
    }
}

/// Up to [`BATCH_MAX`] packets in order, without allocation.
#[derive(Debug)]
pub struct Batch<K> {
    slots: [Option<K>; BATCH_MAX],
    len: usize,
}

impl<K> Default for Batch<K> {
    fn default() -> Self {
        Self { slots: [const { None }; BATCH_MAX], len: 0 }
    }
}

impl<K> Batch<K> {
    /// Packets in the batch.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }
    /// True if there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Packets that can be added.
    #[inline]
    pub fn room(&self) -> usize {
        BATCH_MAX - self.len
    }
    /// Adds a packet at the end.
    ///
    /// # Errors
    /// The packet, if the batch is full.
    #[inline]
    pub fn push(&mut self, packet: K) -> Result<(), K> {
        match self.slots.get_mut(self.len) {
            Some(slot) => {
                debug_assert!(slot.is_none());
                // Beyond the length every slot is empty: nothing is there to be dropped, and no test for it.
                std::mem::forget(slot.replace(packet));
                self.len += 1;
                Ok(())
            }
            None => Err(packet),
        }
    }
    /// The packet at `index`.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&K> {
        self.slots.get(index)?.as_ref()
    }
    /// The packet at `index`, writable.
    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut K> {
        self.slots.get_mut(index)?.as_mut()
    }
    /// Takes the packet at `index` out and leaves a gap; close the gaps with [`Self::remove_front`]
    /// (everything before was taken) or [`Self::clear`].
    #[inline]
    pub fn take(&mut self, index: usize) -> Option<K> {
        self.slots.get_mut(index)?.take()
    }
    /// Moves the first `count` packets out, in order, and the rest to the front.
    #[inline]
    pub fn take_front(&mut self, count: usize, mut each: impl FnMut(K)) {
        let Some(used) = self.slots.get_mut(..self.len) else {
            return;
        };
        let count = count.min(used.len());
        for packet in used.iter_mut().take(count).filter_map(Option::take) {
            each(packet);
        }
        if count < used.len() {
            used.rotate_left(count);
        }
        self.len -= count;
    }
    /// Removes the first `count` places, dropping what is still in them, and moves the rest to the front.
    #[inline]
    pub fn remove_front(&mut self, count: usize) {
        let Some(used) = self.slots.get_mut(..self.len) else {
            return;
        };
        let count = count.min(used.len());
        if let Some(front) = used.get_mut(..count) {
            front.iter_mut().filter(|slot| slot.is_some()).for_each(|slot| *slot = None);
        }
        if count < used.len() {
            used.rotate_left(count);
        }
        self.len -= count;
    }
    /// The batch is empty: every packet was taken.
    #[inline]
    pub(crate) fn reset(&mut self) {
        debug_assert!(self.slots.iter().all(Option::is_none));
        self.len = 0;
    }
    /// Drops every packet.
    #[inline]
    pub fn clear(&mut self) {
        self.remove_front(self.len);
    }
    /// The packets in order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = &K> {
        self.slots.get(..self.len).unwrap_or(&[]).iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_keeps_order_over_a_partial_removal() {
        let mut batch = Batch::default();
        for value in 0..BATCH_MAX {
            assert!(batch.push(value).is_ok());
        }
        assert_eq!(batch.push(99), Err(99));
        batch.remove_front(30);
        assert_eq!(batch.iter().copied().collect::<Vec<_>>(), [30, 31]);
        assert_eq!(batch.take(0), Some(30));
        batch.remove_front(1);
        assert_eq!((batch.len(), batch.get(0)), (1, Some(&31)));
        assert!(batch.push(32).is_ok());
        let mut out = Vec::new();
        batch.take_front(1, |packet| out.push(packet));
        assert_eq!((out.as_slice(), batch.get(0)), (&[31][..], Some(&32)));
        batch.take_front(9, |packet| out.push(packet));
        assert!(batch.is_empty() && out == [31, 32]);
    }
}
