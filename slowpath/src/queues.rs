// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! Queues of what is to be done: commands per flow (a bit each, so that they need no memory),
//! frames (bounded), events per context (a bit each). A ring that is full blocks only its own core
//! or context.

use crate::{
    action::Action,
    connection::{flag, pending},
    counters::Counter,
    stack::Stack,
    wire::{service::Service, tcp::Outgoing},
};
use abi::{
    flow::NONE,
    kernel_ring::{to_fast, KernelEntry},
    limits::{ETHERNET_MTU, FRAME_OVERHEAD_BYTES, MTU_MAX},
};

/// Room for a queued frame: Ethernet header, VLAN tag, MTU, rounded up.
const FRAME_BYTES: usize = 1536;
/// The same where the MTU is larger than standard Ethernet's.
const JUMBO_FRAME_BYTES: usize = 9024;
const _: () = assert!((ETHERNET_MTU + FRAME_OVERHEAD_BYTES) as usize <= FRAME_BYTES);
const _: () = assert!((MTU_MAX + FRAME_OVERHEAD_BYTES) as usize <= JUMBO_FRAME_BYTES);

/// Bytes of room for each frame that is queued or reassembled, in an instance with this MTU.
pub(crate) const fn frame_room(mtu_bytes: u32) -> usize {
    if mtu_bytes > ETHERNET_MTU {
        JUMBO_FRAME_BYTES
    } else {
        FRAME_BYTES
    }
}

/// Room for frames side by side, apart from what describes them: its size follows from the MTU.
#[derive(Default)]
pub(crate) struct FrameRoom<'m> {
    bytes: &'m mut [u8],
    each_bytes: usize,
}

impl<'m> FrameRoom<'m> {
    pub(crate) fn new(bytes: &'m mut [u8], each_bytes: usize) -> Self {
        Self { bytes, each_bytes }
    }
    /// Bytes of a frame's room.
    pub(crate) fn each_bytes(&self) -> usize {
        self.each_bytes
    }
    /// The room of a frame; an id out of range has none.
    pub(crate) fn at(&self, id: u32) -> &[u8] {
        let start = (id as usize).saturating_mul(self.each_bytes);
        self.bytes.get(start..).and_then(|rest| rest.get(..self.each_bytes)).unwrap_or_default()
    }
    /// [`Self::at`], writable.
    pub(crate) fn at_mut(&mut self, id: u32) -> &mut [u8] {
        let start = (id as usize).saturating_mul(self.each_bytes);
        self.bytes.get_mut(start..).and_then(|rest| rest.get_mut(..self.each_bytes)).unwrap_or_default()
    }
}

/// A frame for the fast path, whose bytes are in the [`FrameRoom`].
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    pub(crate) len: u16,
    /// TRANSMIT or INJECT.
    pub(crate) op: u8,
    pub(crate) flow: u32,
    pub(crate) next: u32,
}

impl Default for Frame {
    fn default() -> Self {
        Self { len: 0, op: 0, flow: NONE, next: NONE }
    }
}

/// What waits for one fast-path core.
#[derive(Debug, Clone, Copy)]
pub struct CoreQueue {
    /// Flows with pending commands.
    pub(crate) flow_head: u32,
    pub(crate) flow_tail: u32,
    /// Frames.
    pub(crate) frame_head: u32,
    pub(crate) frame_tail: u32,
    /// Its ring was full in this round.
    pub(crate) blocked: bool,
}

impl Default for CoreQueue {
    fn default() -> Self {
        Self { flow_head: NONE, flow_tail: NONE, frame_head: NONE, frame_tail: NONE, blocked: false }
    }
}

/// The action polled last, until it is known to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    Nothing,
    Command { core: u32, flow: u32, bit: u16 },
    Frame { core: u32, frame: u32 },
    Socket { context: u32, socket: u32, bit: u8 },
    Context { context: u32, bit: u8 },
}

/// How long a full ring is left alone, microseconds.
const RETRY_US: u64 = 200;

/// Operation of each [`pending`] bit, in the order they are sent.
const COMMANDS: [(u16, u8); 10] = [
    (pending::INSTALL, to_fast::INSTALL),
    (pending::ACKNOWLEDGE, to_fast::ACKNOWLEDGE),
    (pending::UPDATE, to_fast::UPDATE),
    (pending::RETRANSMIT, to_fast::RETRANSMIT),
    (pending::TAIL_PROBE, to_fast::TAIL_PROBE),
    (pending::PROBE, to_fast::PROBE),
    (pending::PROBE_PATH, to_fast::PROBE_PATH),
    (pending::FINISH, to_fast::FINISH),
    (pending::IDLE, to_fast::IDLE),
    (pending::REMOVE, to_fast::REMOVE),
];

impl Stack<'_> {
    /// Gives the flow's core the commands in `bits`.
    pub(crate) fn command(&mut self, flow: u32, bits: u16) {
        let connection = self.connections.at_mut(flow);
        connection.pending |= bits;
        if connection.is(flag::QUEUED) {
            return;
        }
        connection.set(flag::QUEUED, true);
        connection.next = NONE;
        let core = connection.core;
        let tail = self.queues.at(core).flow_tail;
        if self.connections.has(tail) {
            self.connections.at_mut(tail).next = flow;
        }
        let queue = self.queues.at_mut(core);
        if queue.flow_head == NONE {
            queue.flow_head = flow;
        }
        queue.flow_tail = flow;
    }

    fn pop_command_flow(&mut self, core: u32) {
        let head = self.queues.at(core).flow_head;
        let connection = self.connections.at_mut(head);
        let next = connection.next;
        connection.set(flag::QUEUED, false);
        connection.next = NONE;
        let queue = self.queues.at_mut(core);
        queue.flow_head = next;
        if next == NONE {
            queue.flow_tail = NONE;
        }
    }

    fn next_command(&mut self, core: u32) -> Option<Action> {
        loop {
            let flow = self.queues.at(core).flow_head;
            if !self.connections.has(flow) {
                return None;
            }
            let owed = self.connections.at(flow).pending;
            let Some((bit, op)) = COMMANDS.into_iter().find(|(bit, _)| owed & bit != 0) else {
                self.pop_command_flow(core);
                if !self.connections.at(flow).is(flag::USED) {
                    self.recycle_connection(flow);
                }
                continue;
            };
            let connection = self.connections.at_mut(flow);
            connection.pending &= !bit;
            let value = match bit {
                pending::RETRANSMIT => connection.retransmit_window as u64,
                pending::PROBE_PATH => connection.search.asked_bytes(),
                _ => 0,
            };
            self.last = Last::Command { core, flow, bit };
            return Some(Action::ToFast { core, entry: KernelEntry { op, reason: 0, flow, value } });
        }
    }

    /// A free frame, to be filled and given to [`Stack::send`] (or lost to [`Stack::free_frame`]).
    pub(crate) fn new_frame(&mut self) -> Option<u32> {
        let id = self.frame_free;
        if !self.attached || !self.frames.has(id) {
            self.counters.add(Counter::FramesDropped);
            return None;
        }
        let frame = self.frames.at_mut(id);
        self.frame_free = frame.next;
        frame.next = NONE;
        Some(id)
    }

    pub(crate) fn free_frame(&mut self, id: u32) {
        self.frames.at_mut(id).next = self.frame_free;
        self.frame_free = id;
    }

    /// Queues a filled frame for a core.
    pub(crate) fn send(&mut self, core: u32, id: u32, op: u8, flow: u32, length: usize) {
        let core = if core < self.config.cores { core } else { 0 };
        let room = self.frame_bytes.each_bytes();
        let frame = self.frames.at_mut(id);
        frame.op = op;
        frame.flow = flow;
        frame.len = length.min(room) as u16;
        frame.next = NONE;
        let tail = self.queues.at(core).frame_tail;
        if self.frames.has(tail) {
            self.frames.at_mut(tail).next = id;
        }
        let queue = self.queues.at_mut(core);
        if queue.frame_head == NONE {
            queue.frame_head = id;
        }
        queue.frame_tail = id;
    }

    /// Queues a segment without payload.
    pub(crate) fn transmit(&mut self, core: u32, segment: &Outgoing) {
        self.transmit_as(core, segment, Service::DEFAULT);
    }

    /// [`Self::transmit`] for a socket that chose its DiffServ field or time to live.
    pub(crate) fn transmit_as(&mut self, core: u32, segment: &Outgoing, service: Service) {
        self.transmit_for(NONE, core, segment, service);
    }

    /// [`Self::transmit_as`] of the SYN-ACK of a flow, which may send once that has left.
    pub(crate) fn transmit_for(&mut self, flow: u32, core: u32, segment: &Outgoing, service: Service) {
        let mac = self.config.mac;
        let Some(id) = self.new_frame() else { return };
        let length = segment.write(self.frame_bytes.at_mut(id), mac, &[]);
        service.apply(self.frame_bytes.at_mut(id));
        self.send(core, id, to_fast::TRANSMIT, flow, length);
    }

    /// Queues a copy of a received frame for the core that owns `flow`.
    pub(crate) fn inject(&mut self, flow: u32, bytes: &[u8]) {
        if bytes.len() > self.frame_bytes.each_bytes() {
            return;
        }
        let Some(id) = self.new_frame() else { return };
        crate::wire::put(self.frame_bytes.at_mut(id), 0, bytes);
        self.counters.add(Counter::Injected);
        let core = self.connections.at(flow).core;
        self.send(core, id, to_fast::INJECT, flow, bytes.len());
    }

    fn next_frame(&mut self, core: u32, target: &mut [u8]) -> Option<Action> {
        let id = self.queues.at(core).frame_head;
        if !self.frames.has(id) {
            return None;
        }
        let frame = self.frames.at(id);
        let entry = KernelEntry { op: frame.op, reason: 0, flow: frame.flow, value: frame.len as u64 };
        let length = frame.len as usize;
        if let (Some(target), Some(bytes)) = (target.get_mut(..length), self.frame_bytes.at(id).get(..length))
        {
            target.copy_from_slice(bytes);
        }
        let next = frame.next;
        let queue = self.queues.at_mut(core);
        queue.frame_head = next;
        if next == NONE {
            queue.frame_tail = NONE;
        }
        self.last = Last::Frame { core, frame: id };
        Some(Action::ToFast { core, entry })
    }

    /// Drops every queued frame: the fast path went away.
    pub(crate) fn drop_frames(&mut self) {
        self.settle();
        for core in 0..self.queues.len() {
            loop {
                let id = self.queues.at(core).frame_head;
                if !self.frames.has(id) {
                    break;
                }
                self.queues.at_mut(core).frame_head = self.frames.at(id).next;
                self.free_frame(id);
            }
            self.queues.at_mut(core).frame_tail = NONE;
        }
    }

    /// The action polled last was carried out.
    fn settle(&mut self) {
        if let Last::Frame { frame, .. } = self.last {
            self.free_frame(frame);
        }
        self.last = Last::Nothing;
    }

    /// The next thing to do. Bytes of a frame are written to `frame`, which is as large as a slot of the kernel ring.
    pub fn poll_action(&mut self, frame: &mut [u8]) -> Option<Action> {
        self.settle();
        if self.attached {
            for core in 0..self.config.cores {
                if self.queues.at(core).blocked {
                    continue;
                }
                if let Some(action) = self.next_command(core) {
                    return Some(action);
                }
                if let Some(action) = self.next_frame(core, frame) {
                    return Some(action);
                }
            }
        }
        if let Some(action) = self.next_event() {
            return Some(action);
        }
        if let Some(action) = self.next_drained() {
            return Some(action);
        }
        for core in 0..self.config.cores {
            self.queues.at_mut(core).blocked = false;
        }
        self.unstall_contexts();
        None
    }

    /// The action polled last could not be carried out (ring full): it is kept. Actions for others
    /// still come in this round; this core's or context's own come again once `poll_action` has
    /// answered `None` (`next_deadline` says when to try).
    pub fn keep_action(&mut self) {
        self.retry_us = Some(self.clock_us.saturating_add(RETRY_US));
        match core::mem::replace(&mut self.last, Last::Nothing) {
            Last::Nothing => {}
            Last::Command { core, flow, bit } => {
                self.queues.at_mut(core).blocked = true;
                // It still leads its queue: only `next_command` takes it out.
                self.connections.at_mut(flow).pending |= bit;
            }
            Last::Frame { core, frame } => {
                let head = self.queues.at(core).frame_head;
                self.frames.at_mut(frame).next = head;
                let queue = self.queues.at_mut(core);
                queue.blocked = true;
                queue.frame_head = frame;
                if head == NONE {
                    queue.frame_tail = frame;
                }
            }
            Last::Socket { context, socket, bit } => {
                self.sockets.at_mut(socket).pending |= bit;
                self.queue_socket_event(socket);
                self.stall_context(context);
            }
            Last::Context { context, bit } => {
                self.contexts.at_mut(context).pending |= bit;
                self.stall_context(context);
            }
        }
    }
}
