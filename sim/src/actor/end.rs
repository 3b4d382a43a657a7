// SPDX-License-Identifier: MIT OR Apache-2.0
//! One end of a connection.

use super::{Board, NEVER};
use crate::{
    coverage::{Event as Reached, Fault, Sometimes},
    plan::{Death, End, Plan, Side},
    stream::{fill, Check},
};
use abi::message::option;
use std::sync::Arc;
use tas::lowlevel::{Close, Connection, Context, Socket, UrgentByte};

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

/// Per thousand of turns, if there are several contexts, in which a connection moves to one.
const MOVES: u32 = 20;
/// Per thousand of writes with MSG_MORE behind which the cork is pulled.
const RELEASES: u32 = 60;
/// More than any SYN can hold.
const SYN_DATA_MAX: u64 = 1460;

/// See the module.
pub(crate) struct Live {
    pub(crate) socket: Socket,
    connection: Option<Connection>,
    pub(crate) number: usize,
    /// 0: the client's.
    pub(crate) side: usize,
    plan: Side,
    /// What the peer does.
    peer: Side,
    /// Local and remote port.
    pub(crate) names: Option<(u16, u16)>,
    gives_up_us: Option<u64>,
    established_us: u64,
    check: Check,
    /// The peer's urgent byte was seen.
    is_urgent_seen: bool,
    /// Bytes that went with the SYN.
    syn_bytes: u64,
    written: u64,
    write_at_us: u64,
    finish_at_us: u64,
    finished: bool,
    reads_again_us: u64,
    has_stopped: bool,
    ended: bool,
    error: i32,
    /// When its socket is closed, once all is over or broken.
    closes_at_us: u64,
    over: bool,
}

impl Side {
    /// What it would send with its SYN in connection `number`.
    pub(crate) fn syn_data(&self, number: usize) -> Vec<u8> {
        let bytes = self.bytes.min(SYN_DATA_MAX).min(self.urgent_at.unwrap_or(u64::MAX));
        let mut data = vec![0; bytes as usize];
        fill(number as u32 * 2, self.bytes as u32, 0, &mut data);
        data
    }
}

impl Live {
    pub(crate) fn new(
        socket: Socket,
        number: usize,
        side: usize,
        plan: &Plan,
        names: (u16, u16),
        gives_up_us: Option<u64>,
    ) -> Self {
        let sides = &plan.connections[number].sides;
        let (plan, peer) = (sides[side], sides[1 - side]);
        let mut check = Check::default();
        if let (Some(at), false) = (peer.urgent_at, plan.urgent_inline) {
            check.leaves_out(at);
        }
        Self {
            socket,
            connection: None,
            number,
            side,
            plan,
            peer,
            names: Some(names),
            gives_up_us,
            established_us: 0,
            check,
            is_urgent_seen: false,
            syn_bytes: 0,
            written: 0,
            write_at_us: 0,
            finish_at_us: NEVER,
            finished: false,
            reads_again_us: 0,
            has_stopped: false,
            ended: false,
            error: 0,
            closes_at_us: NEVER,
            over: false,
        }
    }

    /// So many bytes went with the SYN.
    pub(crate) fn went_with_syn(&mut self, bytes: u64) {
        self.syn_bytes = bytes;
    }

    /// Established: what the peer did not take of the SYN's data is written again.
    pub(crate) fn go_on_after_syn_data(&mut self, board: &mut Board) {
        let Some(connection) = self.connection.as_ref().filter(|_| self.syn_bytes > 0) else {
            return;
        };
        let taken = u64::from(connection.info().syn_data_bytes);
        if taken > self.syn_bytes {
            board.violated(format!("connection {}: {taken} bytes of SYN data were taken", self.number));
        }
        self.written = taken;
        let all = taken == self.syn_bytes;
        let what = if all { Sometimes::SynDataTaken } else { Sometimes::SynDataAgain };
        board.coverage.sometimes(what, 1);
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
        connection.set_urgent_inline(self.plan.urgent_inline);
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
        // What is due and was not done waits for something else.
        let later = |at: u64| if at > now { at } else { NEVER };
        let abort = match self.plan.end {
            End::Abort(after) => self.established_us + after,
            _ => NEVER,
        };
        let finish = if self.finished { NEVER } else { self.finish_at_us };
        let own = [self.write_at_us, self.reads_again_us, self.closes_at_us, abort, finish];
        own.into_iter().map(later).min().unwrap_or(NEVER)
    }

    /// Sometimes its events go to another context from now on.
    fn wander(&mut self, contexts: &[Arc<Context>], board: &mut Board) {
        let Some(connection) = self.connection.as_ref().filter(|_| contexts.len() > 1) else {
            return;
        };
        if !self.over && board.random.chance(MOVES) {
            let to = &contexts[board.random.below(contexts.len() as u64) as usize];
            let moves = connection.context().id() != to.id();
            // A connection that was reset meanwhile stays.
            let moved = moves && connection.move_to(to, &self.socket).is_ok();
            board.coverage.sometimes(Sometimes::Moved, u64::from(moved));
        }
    }

    /// Reads, writes, ends. `state` asks for the TCP state.
    pub(crate) fn turn(
        &mut self,
        now: u64,
        state: &dyn Fn() -> u32,
        (plan, contexts): (&Plan, &[Arc<Context>]),
        board: &mut Board,
    ) {
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
        self.read(now, plan, board);
        self.write(now, state, board);
        self.finish(now, state, board);
        self.look_for_the_end(now, state, plan, board);
        self.wander(contexts, board);
    }

    fn read(&mut self, now: u64, plan: &Plan, board: &mut Board) {
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
            // Reads stop in front of the urgent byte.
            match connection.receive_urgent(false) {
                UrgentByte::Is(byte) if !self.is_urgent_seen => {
                    self.is_urgent_seen = true;
                    self.compare_urgent(byte, plan, board);
                }
                _ => {}
            }
            let count = connection.read(&mut buffer);
            self.check.take(&buffer[..count]);
            if count == 0 {
                break;
            }
        }
        self.ended = connection.has_peer_finished() && connection.readable_bytes() == 0;
        if self.ended {
            // As the sockets do when a call finds the end.
            connection.pass_mark();
        }
        if self.ended && self.is_urgent_seen {
            self.check.take_apart();
        }
    }

    /// The urgent byte, apart from the stream.
    fn compare_urgent(&self, byte: u8, plan: &Plan, board: &mut Board) {
        board.coverage.sometimes(Sometimes::UrgentApart, 1);
        let mut wanted = [0];
        let stream = (self.number * 2 + 1 - self.side) as u32;
        fill(stream, self.peer.bytes as u32, self.peer.urgent_at.unwrap_or(0), &mut wanted);
        if (self.peer.urgent_at.is_none() || wanted != [byte]) && !self.peer_lies(plan) {
            board.violated(format!("connection {}: a wrong urgent byte {byte:#x}", self.number));
        }
    }

    /// Whether the peer's application lies, at some time.
    fn peer_lies(&self, plan: &Plan) -> bool {
        let connect = &plan.connections[self.number];
        let peer = if self.side == 0 { connect.server } else { Some(connect.client) };
        peer.is_some_and(|process| matches!(plan.processes[process].death, Some((_, Death::Lie))))
    }

    fn write(&mut self, now: u64, state: &dyn Fn() -> u32, board: &mut Board) {
        let Some(connection) = &self.connection else {
            return;
        };
        while now >= self.write_at_us && self.written < self.plan.bytes && connection.error() == 0 {
            let piece = 1 + board.random.below(self.plan.piece_bytes);
            let urgent = self.plan.urgent_at.filter(|at| *at >= self.written);
            let is_urgent = urgent == Some(self.written);
            let most = match urgent {
                Some(at) if !is_urgent => at - self.written,
                Some(_) => 1,
                None => u64::MAX,
            };
            let piece = piece.min(self.plan.bytes - self.written).min(most) as usize;
            let mut bytes = vec![0; piece];
            let stream = (self.number * 2 + self.side) as u32;
            fill(stream, self.plan.bytes as u32, self.written, &mut bytes);
            if self.plan.more > 0 {
                let more = board.random.chance(self.plan.more);
                connection.hold(more);
                board.coverage.sometimes(Sometimes::More, u64::from(more));
            }
            let taken = if is_urgent { connection.write_urgent(&bytes) } else { connection.write(&bytes) };
            if self.plan.more > 0 && board.random.chance(RELEASES) {
                connection.release();
                board.coverage.sometimes(Sometimes::Released, 1);
            }
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
        let is_broken = connection.error() != 0 && !is_complete && now >= self.reads_again_us;
        if is_broken {
            self.error = connection.error();
        }
        if (is_complete || is_broken) && self.closes_at_us == NEVER {
            self.closes_at_us = now + self.plan.keeps_us;
            let what = if is_broken { Sometimes::KeptBroken } else { Sometimes::Kept };
            board.coverage.sometimes(what, u64::from(self.plan.keeps_us > 0));
            let marked = self.peer.urgent_at.is_some_and(|at| at < self.check.received());
            let in_line = marked && self.plan.urgent_inline;
            board.coverage.sometimes(Sometimes::UrgentInline, u64::from(in_line));
        }
        let resets = |after: u64| self.established_us + after <= now;
        match self.plan.end {
            End::Abort(after) if resets(after) && !is_broken => self.abort(state, board),
            _ if is_complete || is_broken => {
                if self.closes_at_us <= now {
                    self.leave(state, board);
                }
            }
            End::Early(bytes) if self.check.received() >= bytes => {
                board.coverage.fault(Fault::EarlyClose, 1);
                self.leave(state, board);
            }
            _ => {}
        }
        self.look_for_wrong_bytes(plan, board);
    }

    fn look_for_wrong_bytes(&self, plan: &Plan, board: &mut Board) {
        let wrong = self.check.wrong_at().filter(|_| !self.peer_lies(plan));
        if let Some(at) = wrong {
            let side = ["client", "server"][self.side];
            board.violated(format!(
                "connection {}: the {side} read a wrong byte at {at} of stream {:?}",
                self.number,
                self.check.stream()
            ));
        }
    }

    /// Closes as it is used to.
    fn leave(&mut self, state: &dyn Fn() -> u32, board: &mut Board) {
        if self.plan.lingers_zero || matches!(self.plan.end, End::Abort(_)) {
            self.abort(state, board);
            return;
        }
        board.coverage.reached(state(), Reached::Close);
        self.close(Close::Finish);
    }

    fn abort(&mut self, state: &dyn Fn() -> u32, board: &mut Board) {
        board.coverage.reached(state(), Reached::Abort);
        board.coverage.fault(Fault::AppAbort, 1);
        // Refused if the connection is gone already.
        let _ = self.socket.set_option(option::LINGER, 1, 0);
        self.close(Close::Abort);
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
