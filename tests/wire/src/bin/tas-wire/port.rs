// SPDX-License-Identifier: MIT OR Apache-2.0
//! The two kinds of ends: a tap of our own, and a packet socket on an interface that is there.

use crate::socket::{self, PacketSocket, Received};
use anyhow::{bail, Context, Result};
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The largest frame: that of a jumbo MTU with room for a tag. Interfaces that would hand over larger ones
/// (segmentation offload) are told not to, or counted.
const FRAME_BYTES_MAX: usize = 16 * 1024;
/// Frames an interface queues towards the wire: the default of 500 to 1000 overflows while this thread waits for a processor.
const QUEUE_FRAMES: i32 = 8192;

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The interface has it, or cannot have it (it is down, or the frame is too long for it), which is counted.
    Taken,
    /// The interface's queue is full: later again.
    NoRoom,
}

/// Events at an end.
#[derive(Debug, Clone, Copy, Default)]
struct Counters {
    completed_checksums: u64,
    unsegmented: u64,
    refused: u64,
    no_room: u64,
    overrun: u64,
}

/// An end of the wire.
pub(crate) struct Port {
    kind: Kind,
    buffer: Vec<u8>,
    counters: Counters,
}

enum Kind {
    Tap(OwnedFd),
    Packet(PacketSocket),
}

impl Port {
    /// Opens `tap:NAME` or `packet:NAME`.
    pub(crate) fn open(end: &str) -> Result<Self> {
        let (kind, name) = end.split_once(':').unwrap_or(("", end));
        let kind = match kind {
            "tap" => Kind::Tap(socket::open_tap(name).with_context(|| format!("making the tap {name}"))?),
            "packet" => Kind::Packet(
                PacketSocket::open(name).with_context(|| format!("opening the interface {name}"))?,
            ),
            _ => bail!("{end}: an end is tap:NAME or packet:NAME"),
        };
        socket::set_queue_frames(name, QUEUE_FRAMES)
            .with_context(|| format!("setting the queue of {name}"))?;
        Ok(Self { kind, buffer: vec![0; FRAME_BYTES_MAX], counters: Counters::default() })
    }

    /// The next frame that came, with its checksum filled in.
    pub(crate) fn receive(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let received = match &mut self.kind {
                Kind::Tap(tap) => socket::read_frame(tap.as_fd(), &mut self.buffer),
                Kind::Packet(packet) => packet.receive(&mut self.buffer),
            };
            match received? {
                Received::Nothing => return Ok(None),
                Received::Unsegmented => self.counters.unsegmented += 1,
                Received::Frame { range, checksum, tag } => {
                    let mut frame = Vec::with_capacity(range.len() + 4);
                    frame.extend_from_slice(&self.buffer[range]);
                    if let Some((start, offset)) = checksum {
                        self.counters.completed_checksums +=
                            u64::from(wire::complete_checksum(&mut frame, start, offset));
                    }
                    if let Some(tag) = tag {
                        frame.splice(12..12, tag);
                    }
                    return Ok(Some(frame));
                }
            }
        }
    }

    /// Hands a frame to the interface.
    pub(crate) fn send(&mut self, frame: &[u8]) -> Sent {
        let sent = match &self.kind {
            Kind::Tap(tap) => nix::unistd::write(tap, frame).map(drop),
            Kind::Packet(packet) => packet.send(frame),
        };
        match sent {
            Ok(()) => Sent::Taken,
            Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::EINTR) => {
                self.counters.no_room += 1;
                Sent::NoRoom
            }
            Err(_) => {
                self.counters.refused += 1;
                Sent::Taken
            }
        }
    }

    /// Names and values.
    pub(crate) fn counters(&mut self) -> [(&'static str, u64); 5] {
        if let Kind::Packet(packet) = &self.kind {
            // The kernel's own count starts again with each look.
            self.counters.overrun += packet.overrun();
        }
        let counters = &self.counters;
        [
            ("completed_checksums", counters.completed_checksums),
            ("unsegmented", counters.unsegmented),
            ("refused", counters.refused),
            ("no_room", counters.no_room),
            ("overrun", counters.overrun),
        ]
    }

    /// They start again at zero.
    pub(crate) fn reset_counters(&mut self) {
        self.counters();
        self.counters = Counters::default();
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Tap(tap) => tap.as_fd(),
            Kind::Packet(packet) => packet.as_fd(),
        }
    }
}
