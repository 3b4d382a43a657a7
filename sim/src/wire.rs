// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames in memory, and a port that takes them from a queue.

use fastpath::{Batch, Capabilities, Packet, Port, RxChecksum, FRAME_BYTES_MAX};
use std::{cell::RefCell, collections::VecDeque, rc::Rc};

/// A frame on the heap.
#[derive(Debug, Clone)]
pub struct Frame {
    bytes: Vec<u8>,
    len: usize,
}

impl Frame {
    fn empty() -> Self {
        Self { bytes: vec![0; FRAME_BYTES_MAX], len: 0 }
    }
    /// A copy of `bytes`, cut to what a frame may have.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut frame = Self::empty();
        let len = bytes.len().min(FRAME_BYTES_MAX);
        frame.bytes[..len].copy_from_slice(&bytes[..len]);
        frame.len = len;
        frame
    }
}

impl Packet for Frame {
    fn data(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
    fn capacity(&self) -> usize {
        self.bytes.len()
    }
    fn set_len(&mut self, len: usize) {
        self.len = len.min(self.bytes.len());
    }
    fn checksum(&self) -> RxChecksum {
        RxChecksum::Unknown
    }
    fn request_tx_checksum(&mut self, _l2_bytes: u8, _l3_bytes: u8, _l4_bytes: u8) {}
}

/// The two queues of a port.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    pub(crate) received: VecDeque<Frame>,
    pub(crate) sent: VecDeque<Frame>,
    /// Frames that [`WirePort::sent`] has emptied: a port's pool.
    pub(crate) spare: Vec<Frame>,
}

/// A port whose frames come from and go to queues in memory.
#[derive(Debug, Clone, Default)]
pub struct WirePort {
    pub(crate) queues: Rc<RefCell<Queues>>,
}

impl WirePort {
    /// Puts a frame into the receive queue, as the benchmarks and tests do.
    pub fn inject(&self, bytes: &[u8]) {
        self.queues.borrow_mut().received.push_back(Frame::from_bytes(bytes));
    }
    /// Takes the next frame that was sent.
    pub fn sent(&self) -> Option<Vec<u8>> {
        let mut queues = self.queues.borrow_mut();
        let frame = queues.sent.pop_front()?;
        let bytes = frame.data().to_vec();
        queues.spare.push(frame);
        Some(bytes)
    }
}

impl WirePort {
    /// Whether nothing waits to be received.
    pub(crate) fn is_idle(&self) -> bool {
        self.queues.borrow().received.is_empty()
    }
    pub(crate) fn take_sent(&self) -> Option<Frame> {
        self.queues.borrow_mut().sent.pop_front()
    }
    pub(crate) fn push_received(&self, frame: Frame) {
        self.queues.borrow_mut().received.push_back(frame);
    }
    /// What waits to be received is lost: nobody is there.
    pub(crate) fn lose_received(&self) -> usize {
        self.queues.borrow_mut().received.drain(..).count()
    }
}

impl Port for WirePort {
    type Packet = Frame;
    fn receive(&mut self, into: &mut Batch<Frame>, limit: usize) -> usize {
        let mut queues = self.queues.borrow_mut();
        let mut taken = 0;
        while into.len() < limit && into.room() > 0 {
            let Some(frame) = queues.received.pop_front() else {
                break;
            };
            drop(into.push(frame));
            taken += 1;
        }
        taken
    }
    fn allocate(&mut self) -> Option<Frame> {
        let spare = self.queues.borrow_mut().spare.pop();
        Some(spare.map_or_else(Frame::empty, |frame| Frame { len: 0, ..frame }))
    }
    fn transmit(&mut self, batch: &mut Batch<Frame>) -> usize {
        let count = batch.len();
        let mut queues = self.queues.borrow_mut();
        for index in 0..count {
            queues.sent.extend(batch.take(index));
        }
        batch.remove_front(count);
        count
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }
}
