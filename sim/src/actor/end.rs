// SPDX-License-Identifier: MIT OR Apache-2.0
//! One end of a connection.

use super::{Board, NEVER};
use crate::{
    coverage::{Event as Reached, Fault},
    plan::{End, Plan, Side},
    stream::{fill, Check},
};
use abi::message::option;
use tas::lowlevel::{Close, Connection, Socket};

/// What one end of a connection came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed {
    /// Bytes written, and read.
    pub(crate) written: u64,
    pub(crate) received: u64,
    /// It read the peer's end of stream.
    pub(crate) ended: bool,
    /// errno, or zero.
    pub(crate) error: i32,
    /// Everything was written, and its own end of stream behind it.
    pub(crate) finished: bool,
    /// Stream that the header named.
    pub(crate) stream: (u32, u32),
}

/// Asks for keepalive that outlasts every silence in a plan.
pub(crate) fn keep_alive(socket: &Socket) -> std::io::Result<()> {
    socket.set_option(option::KEEPALIVE_IDLE, 10, 0)?;
    socket.set_option(option::KEEPALIVE_INTERVAL, 2, 0)?;
    socket.set_option(option::KEEPALIVE_COUNT, 6, 0)?;
    socket.set_option(option::KEEPALIVE, 1, 0)
}

/// See the module.
pub(crate) struct Live {
    pub(crate) socket: Socket,
    connection: Option<Connection>,
    pub(crate) number: usize,
    /// 0: the client's.
    pub(crate) side: usize,
    plan: Side,
    /// Local and remote port.
    pub(crate) names: Option<(u16, u16)>,
    gives_up_us: Option<u64>,
    established_us: u64,
    check: Check,
    written: u64,
    write_at_us: u64,
    finish_at_us: u64,
    finished: bool,
    reads_again_us: u64,
    has_stopped: bool,
    ended: bool,
    error: i32,
    over: bool,
}

impl Live {
    pub(crate) fn new(
        socket: Socket,
        number: usize,
        side: usize,
        plan: Side,
        names: (u16, u16),
        gives_up_us: Option<u64>,
    ) -> Self {
        Self {
            socket,
            connection: None,
            number,
            side,
            plan,
            names: Some(names),
            gives_up_us,
            established_us: 0,
            check: Check::default(),
            written: 0,
            write_at_us: 0,
            finish_at_us: NEVER,
            finished: false,
            reads_again_us: 0,
            has_stopped: false,
            ended: false,
            error: 0,
            over: false,
        }
    }

    /// Options that an accepted socket sets itself.
    pub(crate) fn set_options(&self, keepalive: bool) {
        if keepalive {
            let _ = keep_alive(&self.socket);
        }
        // A connection that was reset meanwhile takes none.
        if self.plan.nodelay {
            let _ = self.socket.set_option(option::NODELAY, 1, 0);
        }
        if let Some(bytes) = self.plan.receive_buffer_bytes {
            let _ = self.socket.set_option(option::RECEIVE_BUFFER, bytes, 0);
        }
    }

    pub(crate) fn establish(&mut self, connection: Connection, now: u64) {
        self.connection = Some(connection);
        self.established_us = now;
        self.write_at_us = now;
        self.gives_up_us = None;
    }

    /// Whether it waits to be connected.
    pub(crate) fn is_waiting(&self) -> bool {
        self.connection.is_none()
    }

    pub(crate) fn fail(&mut self, error: i32) {
        if self.error == 0 {
            self.error = error;
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    pub(crate) fn into_closed(self) -> Closed {
        Closed {
            written: self.written,
            received: self.check.received(),
            ended: self.ended,
            error: self.error,
            finished: self.finished,
            stream: self.check.stream(),
        }
    }

    /// When it wants to run without an event.
    pub(crate) fn next_us(&self, now: u64) -> u64 {
        if self.connection.is_none() {
            return self.gives_up_us.unwrap_or(NEVER);
        }
        let later = |at: u64| if at > now { at } else { NEVER };
        let abort = match self.plan.end {
            End::Abort(after) => self.established_us + after,
            _ => NEVER,
        };
        let finish = if self.finished { NEVER } else { self.finish_at_us };
        later(self.write_at_us).min(later(self.reads_again_us)).min(abort).min(finish)
    }

    /// Reads, writes, ends. `state` asks for the TCP state.
    pub(crate) fn turn(&mut self, now: u64, state: &dyn Fn() -> u32, plan: &Plan, board: &mut Board) {
        if self.connection.is_none() {
            let gives_up = self.gives_up_us.is_some_and(|at| at <= now);
            if gives_up {
                board.coverage.reached(state(), Reached::Close);
            }
            if gives_up || self.error != 0 {
                self.close(Close::Finish);
            }
            return;
        }
        self.read(now, board);
        self.write(now, state, board);
        self.finish(now, state, board);
        self.look_for_the_end(now, state, plan, board);
    }

    fn read(&mut self, now: u64, board: &mut Board) {
        let Some(connection) = &self.connection else {
            return;
        };
        let mut buffer = vec![0; self.plan.read_bytes as usize];
        loop {
            if let Some((after, pause)) = self.plan.read_stop.filter(|_| !self.has_stopped) {
                if self.check.received() >= after {
                    self.has_stopped = true;
                    self.reads_again_us = now + pause;
                    board.coverage.fault(Fault::StopReading, 1);
                }
            }
            if now < self.reads_again_us {
                return;
            }
            let count = connection.read(&mut buffer);
            self.check.take(&buffer[..count]);
            if count < buffer.len() {
                break;
            }
        }
        self.ended = connection.has_peer_finished() && connection.readable_bytes() == 0;
    }

    fn write(&mut self, now: u64, state: &dyn Fn() -> u32, board: &mut Board) {
        let Some(connection) = &self.connection else {
            return;
        };
        while now >= self.write_at_us && self.written < self.plan.bytes && connection.error() == 0 {
            let piece = 1 + board.random.below(self.plan.piece_bytes);
            let piece = piece.min(self.plan.bytes - self.written) as usize;
            let mut bytes = vec![0; piece];
            let stream = (self.number * 2 + self.side) as u32;
            fill(stream, self.plan.bytes as u32, self.written, &mut bytes);
            let taken = connection.write(&bytes);
            if taken > 0 {
                board.coverage.reached(state(), Reached::Write);
            }
            self.written += taken as u64;
            if taken < piece {
                // A WRITABLE event follows.
                return;
            }
            if self.plan.write_pause_us > 0 {
                self.write_at_us = now + self.plan.write_pause_us;
            }
        }
    }

    fn finish(&mut self, now: u64, state: &dyn Fn() -> u32, board: &mut Board) {
        let Some(connection) = &self.connection else {
            return;
        };
        if self.finished || self.written < self.plan.bytes || connection.error() != 0 {
            return;
        }
        if self.finish_at_us == NEVER {
            self.finish_at_us = match self.plan.end {
                End::AfterPause(pause) => now + pause,
                End::AfterPeer if !self.ended => return,
                _ => now,
            };
        }
        if self.finish_at_us <= now {
            board.coverage.reached(state(), Reached::Finish);
            connection.finish();
            self.finished = true;
        }
    }

    fn look_for_the_end(&mut self, now: u64, state: &dyn Fn() -> u32, plan: &Plan, board: &mut Board) {
        let Some(connection) = &self.connection else {
            return;
        };
        // What was received before a reset can still be read, and an end that is complete is one.
        let is_complete = self.finished && self.ended;
        if connection.error() != 0 && !is_complete && now >= self.reads_again_us {
            self.error = connection.error();
            self.close(Close::Finish);
            return;
        }
        match self.plan.end {
            _ if is_complete => {
                board.coverage.reached(state(), Reached::Close);
                self.close(Close::Finish);
            }
            End::Early(bytes) if self.check.received() >= bytes => {
                board.coverage.reached(state(), Reached::Close);
                board.coverage.fault(Fault::EarlyClose, 1);
                self.close(Close::Finish);
            }
            End::Abort(after) if self.established_us + after <= now => {
                board.coverage.reached(state(), Reached::Abort);
                board.coverage.fault(Fault::AppAbort, 1);
                // Refused if the connection is gone already.
                let _ = self.socket.set_option(option::LINGER, 1, 0);
                self.close(Close::Abort);
            }
            _ => {}
        }
        if let Some(at) = self.check.wrong_at() {
            let connect = &plan.connections[self.number];
            let sender = if self.side == 0 { connect.server } else { Some(connect.client) };
            let lies = |process: Option<usize>| {
                process.is_some_and(|process| {
                    matches!(plan.processes[process].death, Some((_, crate::plan::Death::Lie)))
                })
            };
            if !lies(sender) {
                let side = ["client", "server"][self.side];
                board.violated(format!(
                    "connection {}: the {side} read a wrong byte at {at} of stream {:?}",
                    self.number,
                    self.check.stream()
                ));
            }
        }
    }

    fn close(&mut self, how: Close) {
        if let Some(connection) = self.connection.take() {
            connection.close(&self.socket, how);
        }
        drop(self.socket.take_descriptor());
        self.over = true;
    }

    pub(crate) fn describe(&self) -> String {
        let state = match &self.connection {
            None => "not connected".to_owned(),
            Some(connection) => format!("{connection:?} peer finished {}", connection.has_peer_finished()),
        };
        format!(
            "connection {} {} ports {:?}: wrote {} of {}, finished {}, read {}, ended {}, error {}; {state}",
            self.number,
            ["client", "server"][self.side],
            self.names,
            self.written,
            self.plan.bytes,
            self.finished,
            self.check.received(),
            self.ended,
            self.error
        )
    }
}
