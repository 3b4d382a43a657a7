// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames in memory, and a port that takes them from a queue.

use fastpath::{Batch, Capabilities, Packet, Port, RxChecksum, Steer, FRAME_BYTES_MAX};
use std::{cell::RefCell, collections::VecDeque, rc::Rc};

/// Bytes that a frame has room for from the start: those of standard Ethernet. Jumbo frames grow when they are written.
const FRAME_BYTES: usize = 1514;

/// A frame on the heap.
#[derive(Debug, Clone)]
pub struct Frame {
    bytes: Vec<u8>,
    len: usize,
}

impl Frame {
    fn empty() -> Self {
        Self { bytes: vec![0; FRAME_BYTES], len: 0 }
    }
    /// A copy of `bytes`, cut to what a frame may have.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut frame = Self::empty();
        let len = bytes.len().min(FRAME_BYTES_MAX);
        frame.set_len(len);
        frame.bytes[..len].copy_from_slice(&bytes[..len]);
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
        FRAME_BYTES_MAX
    }
    fn set_len(&mut self, len: usize) {
        self.len = len.min(FRAME_BYTES_MAX);
        if self.len > self.bytes.len() {
            self.bytes.resize(self.len, 0);
        }
    }
    fn checksum(&self) -> RxChecksum {
        RxChecksum::Unknown
    }
    fn request_tx_checksum(&mut self, _l2_bytes: u8, _l3_bytes: u8, _l4_bytes: u8) {}
}

/// Receive queues of a port at most, a core each.
pub(crate) const LANES_MAX: usize = 4;

/// The queues of a port.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    /// Of each core.
    received: [VecDeque<Frame>; LANES_MAX],
    /// Frames that other cores handed to each core.
    steered: [VecDeque<Frame>; LANES_MAX],
    sent: VecDeque<Frame>,
    /// Frames that [`WirePort::sent`] has emptied: a port's pool.
    spare: Vec<Frame>,
    /// Cores that frames are spread over, less one, and the key of the hash that does it (RSS).
    others: usize,
    key: u64,
}

impl Queues {
    /// The core that a frame goes to: by both ports, so that a connection stays on one while the key does.
    fn lane(&self, frame: &Frame) -> usize {
        if self.others == 0 {
            return 0;
        }
        let at = crate::segment::tcp_offset(frame.data());
        let ports = frame.data().get(at..at + 4).unwrap_or(&[]);
        let hash = ports
            .iter()
            .fold(self.key | 1, |hash, byte| hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(*byte));
        (hash >> 17) as usize % (self.others + 1)
    }
}

/// A port whose frames come from and go to queues in memory: what one core has of it.
#[derive(Debug, Clone, Default)]
pub struct WirePort {
    queues: Rc<RefCell<Queues>>,
    lane: usize,
}

impl WirePort {
    /// Puts a frame into the receive queue, as the benchmarks and tests do.
    pub fn inject(&self, bytes: &[u8]) {
        self.push_received(Frame::from_bytes(bytes));
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
    /// What each of `cores` has of this port, and how they hand frames to each other.
    pub(crate) fn lanes(&self, cores: u32) -> Vec<(Self, WireSteer)> {
        let lanes = (cores as usize).clamp(1, LANES_MAX);
        self.queues.borrow_mut().others = lanes - 1;
        let lane = |lane| Self { lane, queues: self.queues.clone() };
        (0..lanes).map(|number| (lane(number), WireSteer { port: lane(number) })).collect()
    }
    /// From now on frames are spread over the cores in another way.
    pub(crate) fn spread(&self, key: u64) {
        self.queues.borrow_mut().key = key;
    }
    /// Whether nothing waits to be received.
    pub(crate) fn is_idle(&self) -> bool {
        let queues = self.queues.borrow();
        queues.received[self.lane].is_empty() && queues.steered[self.lane].is_empty()
    }
    pub(crate) fn take_sent(&self) -> Option<Frame> {
        self.queues.borrow_mut().sent.pop_front()
    }
    pub(crate) fn push_received(&self, frame: Frame) {
        let mut queues = self.queues.borrow_mut();
        let lane = queues.lane(&frame);
        queues.received[lane].push_back(frame);
    }
    /// What waits to be received is lost: nobody is there.
    pub(crate) fn lose_received(&self) {
        let queues = &mut *self.queues.borrow_mut();
        queues.received.iter_mut().chain(&mut queues.steered).for_each(VecDeque::clear);
    }
}

/// A core's end of the queues between cores.
#[derive(Debug)]
pub struct WireSteer {
    port: WirePort,
}

/// Frames in a queue between cores, as the DPDK shell's.
const STEERED_MAX: usize = 256;

impl Steer<Frame> for WireSteer {
    fn offer(&mut self, core: usize, packet: Frame) -> Result<(), Frame> {
        match self.port.queues.borrow_mut().steered.get_mut(core) {
            Some(queue) if queue.len() < STEERED_MAX => {
                queue.push_back(packet);
                Ok(())
            }
            _ => Err(packet),
        }
    }
    fn take(&mut self, into: &mut Batch<Frame>, limit: usize) -> usize {
        take(&mut self.port.queues.borrow_mut().steered[self.port.lane], into, limit)
    }
    fn is_ready(&self) -> bool {
        !self.port.queues.borrow().steered[self.port.lane].is_empty()
    }
}

/// Moves frames until `into` has `limit`.
fn take(from: &mut VecDeque<Frame>, into: &mut Batch<Frame>, limit: usize) -> usize {
    let mut taken = 0;
    while into.len() < limit && into.room() > 0 {
        let Some(frame) = from.pop_front() else {
            break;
        };
        drop(into.push(frame));
        taken += 1;
    }
    taken
}

impl Port for WirePort {
    type Packet = Frame;
    fn receive(&mut self, into: &mut Batch<Frame>, limit: usize) -> usize {
        take(&mut self.queues.borrow_mut().received[self.lane], into, limit)
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
