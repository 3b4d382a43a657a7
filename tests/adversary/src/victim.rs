// SPDX-License-Identifier: MIT OR Apache-2.0
//! The victim: a server on the host under attack and a client on the honest one, which send to each other without
//! end and check every byte. The server also serves whoever else connects: it sends to them as much as they take.

use crate::{Arena, TARGET};
use abi::message::Endpoint;
use std::sync::Arc;
use tas::lowlevel::{event, Application, Connection, Context, Event, Socket};

/// The server's port.
pub const PORT: u16 = 80;
const LISTENER: u64 = u64::MAX;
const CLIENT: u64 = 1;
/// Bytes read or written at once.
const PIECE_BYTES: usize = 8192;
/// Each end sends so many bytes each millisecond, if it can: a sixth of the link, so that what it falls behind by is
/// due to the attack, and not to how two streams share a queue.
const BYTES_PER_MS: u64 = 2000;
/// Connections that the server accepts; the rest wait.
const ACCEPTED_MAX: usize = 300;

/// The byte at `position` of the stream sent by side `side`.
fn byte_at(side: u64, position: u64) -> u8 {
    ((position ^ side << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// One end of the victim's connection.
struct End {
    side: u64,
    socket: Option<Socket>,
    connection: Option<Connection>,
    sent: u64,
    received: u64,
    start_us: u64,
    last_received_us: u64,
    longest_silence_us: u64,
}

impl End {
    fn new(side: u64, start_us: u64) -> Self {
        let (socket, connection) = (None, None);
        Self {
            side,
            socket,
            connection,
            sent: 0,
            received: 0,
            start_us,
            last_received_us: 0,
            longest_silence_us: 0,
        }
    }

    /// Sends and reads what it can.
    fn turn(&mut self, now_us: u64) {
        let Some(connection) = &self.connection else { return };
        assert_eq!(connection.error(), 0, "side {} of the victim", self.side);
        assert!(!connection.has_peer_finished(), "side {} of the victim saw an end of stream", self.side);
        let mut piece = [0; PIECE_BYTES];
        let wanted = (now_us - self.start_us) * BYTES_PER_MS / 1000 - self.sent;
        let room = connection.writable_bytes().min(PIECE_BYTES).min(wanted as usize);
        for (at, byte) in piece[..room].iter_mut().enumerate() {
            *byte = byte_at(self.side, self.sent + at as u64);
        }
        self.sent += connection.write(&piece[..room]) as u64;
        loop {
            let count = connection.read(&mut piece);
            if count == 0 {
                break;
            }
            for (at, byte) in piece[..count].iter().enumerate() {
                let position = self.received + at as u64;
                assert_eq!(
                    *byte,
                    byte_at(1 - self.side, position),
                    "byte {position} of side {}",
                    1 - self.side
                );
            }
            self.received += count as u64;
            self.longest_silence_us = self.silence_us(now_us);
            self.last_received_us = now_us;
        }
    }

    fn silence_us(&self, now_us: u64) -> u64 {
        self.longest_silence_us.max(now_us - self.last_received_us)
    }
}

/// How the victim fared.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Bytes received and checked, both directions.
    pub bytes: u64,
    /// The longest time without any, of the worse direction, microseconds.
    pub longest_silence_us: u64,
}

/// The victim.
pub struct Victim {
    /// The server's application.
    pub application: Arc<Application>,
    contexts: [Arc<Context>; 2],
    listener: Socket,
    ends: [End; 2],
    /// What the server accepted besides the victim.
    pub others: Vec<(Socket, Connection)>,
    /// More connections of the honest host: established ones and those that failed.
    pub honest: Vec<(Socket, Option<Connection>)>,
    /// Those that failed.
    pub failed: usize,
    /// Does the server send to others?
    pub sends_to_others: bool,
    base: [u64; 2],
}

impl Victim {
    /// Makes the server and the client and has them connect.
    ///
    /// # Panics
    /// They cannot.
    pub fn new(arena: &mut Arena) -> Self {
        let applications = arena.hosts.each_mut().map(|host| host.application().expect("an application"));
        let contexts = applications.each_ref().map(|one| Context::new(one).expect("a context"));
        for host in &mut arena.hosts {
            host.carry_out_notices().expect("notices");
        }
        let listener = Socket::new(&contexts[0], LISTENER, 0).expect("a socket");
        listener.bind(&Endpoint::ipv4(TARGET, PORT)).expect("bind");
        listener.listen(128).expect("listen");
        let mut ends = [0, 1].map(|side| End::new(side, arena.now_us()));
        let socket = Socket::new(&contexts[1], CLIENT, 0).expect("a socket");
        socket.connect(&contexts[1], &Endpoint::ipv4(TARGET, PORT)).expect("connect");
        ends[1].socket = Some(socket);
        let [application, _] = applications;
        Self {
            application,
            contexts,
            listener,
            ends,
            others: Vec::new(),
            honest: Vec::new(),
            failed: 0,
            sends_to_others: true,
            base: [0; 2],
        }
    }

    /// The honest host opens another connection to the server.
    ///
    /// # Panics
    /// It has no socket.
    pub fn connect_another(&mut self) {
        let token = CLIENT + 1 + self.honest.len() as u64;
        let socket = Socket::new(&self.contexts[1], token, 0).expect("a socket");
        socket.connect(&self.contexts[1], &Endpoint::ipv4(TARGET, PORT)).expect("connect");
        self.honest.push((socket, None));
    }

    /// Further connections of the honest host that are established.
    pub fn established(&self) -> usize {
        self.honest.iter().filter(|(_, connection)| connection.is_some()).count()
    }

    /// Progress counts from here.
    pub fn start_again(&mut self, arena: &Arena) {
        for (end, base) in self.ends.iter_mut().zip(&mut self.base) {
            *base = end.received;
            end.longest_silence_us = 0;
            end.last_received_us = arena.now_us();
        }
    }

    /// How the victim fared since then.
    pub fn progress(&self, arena: &Arena) -> Progress {
        let now_us = arena.now_us();
        let bytes = self.ends.iter().zip(&self.base).map(|(end, base)| end.received - base).sum();
        let longest_silence_us = self.ends.iter().map(|end| end.silence_us(now_us)).max().unwrap_or(0);
        Progress { bytes, longest_silence_us }
    }

    /// Everybody does what there is to do.
    ///
    /// # Panics
    /// A byte is wrong, or the victim's connection ended.
    pub fn turn(&mut self, arena: &mut Arena) {
        let now_us = arena.now_us();
        self.take_events();
        while self.others.len() < ACCEPTED_MAX {
            let Ok((socket, connection)) = self.listener.accept(&self.contexts[0], 0, 0) else { break };
            self.accepted(socket, connection);
        }
        for end in &mut self.ends {
            end.turn(now_us);
        }
        self.serve_others();
    }

    fn accepted(&mut self, socket: Socket, connection: Connection) {
        // The first is the victim's: nobody attacks before it is up.
        if self.ends[0].connection.is_none() {
            (self.ends[0].socket, self.ends[0].connection) = (Some(socket), Some(connection));
            return;
        }
        self.others.push((socket, connection));
    }

    fn serve_others(&mut self) {
        let mut piece = [0x55; 1024];
        for (_, connection) in &self.others {
            if self.sends_to_others && connection.error() == 0 {
                connection.write(&piece);
            }
            while connection.read(&mut piece) > 0 {}
        }
    }

    fn take_events(&mut self) {
        let mut events = [Event::default(); 32];
        for context in &self.contexts {
            loop {
                let count = context.poll(&mut events);
                for happened in &events[..count] {
                    self.ends[1].established(happened);
                    take_honest(&mut self.honest, &mut self.failed, happened);
                }
                if count == 0 {
                    break;
                }
            }
        }
    }
}

impl End {
    fn established(&mut self, happened: &Event) {
        let is_ours = happened.token == CLIENT && happened.flags & event::CONNECTED != 0;
        if let Some(socket) = self.socket.as_ref().filter(|_| is_ours && self.connection.is_none()) {
            self.connection = Some(socket.established().expect("an established connection"));
        }
    }
}

fn take_honest(honest: &mut [(Socket, Option<Connection>)], failed: &mut usize, happened: &Event) {
    let Some(index) = happened.token.checked_sub(CLIENT + 1) else { return };
    let Some((socket, connection)) = honest.get_mut(index as usize) else { return };
    if happened.flags & event::CONNECTED != 0 {
        *connection = socket.established().ok();
    }
    *failed += usize::from(happened.flags & event::FAILED != 0);
}
