// SPDX-License-Identifier: MIT OR Apache-2.0
//! A client and a server over `tas::lowlevel` for the tests of the simulator.
#![allow(dead_code)]

use sim::{HostConfig, Random, World};
use std::{collections::BTreeMap, sync::Arc};
use tas::lowlevel::{event, Application, Close, Connection, Context, Event, Socket};

pub(crate) const PORT: u16 = 80;

/// One connection's data, both ways, as a test wants it.
pub(crate) struct Stream {
    pub socket: Socket,
    pub connection: Option<Connection>,
    pub to_send: Vec<u8>,
    pub sent: usize,
    pub received: Vec<u8>,
    pub finished: bool,
    pub peer_finished: bool,
    pub acknowledged: bool,
    pub error: i32,
    /// Most bytes read per turn; zero stops reading.
    pub read_at_once: usize,
    pub closed: bool,
    /// Does not finish by itself.
    pub hold: bool,
}

impl Stream {
    pub(crate) fn new(socket: Socket, connection: Option<Connection>, to_send: Vec<u8>) -> Self {
        Self {
            socket,
            connection,
            to_send,
            sent: 0,
            received: Vec::new(),
            finished: false,
            peer_finished: false,
            acknowledged: false,
            error: 0,
            read_at_once: 1 << 16,
            closed: false,
            hold: false,
        }
    }

    /// Sends, reads and finishes as far as possible, in pieces of random size.
    pub(crate) fn turn(&mut self, random: &mut Random) {
        let Some(connection) = &self.connection else {
            return;
        };
        let mut buffer = vec![0; 1 + random.below(20_000) as usize];
        let limit = buffer.len().min(self.read_at_once);
        if limit > 0 {
            let count = connection.read(&mut buffer[..limit]);
            self.received.extend_from_slice(&buffer[..count]);
        }
        if self.sent < self.to_send.len() {
            let piece = 1 + random.below(9_000) as usize;
            let end = (self.sent + piece).min(self.to_send.len());
            self.sent += connection.write(&self.to_send[self.sent..end]);
        } else if !self.finished && !self.hold {
            connection.finish();
            self.finished = true;
        }
        self.peer_finished = connection.has_peer_finished() && connection.readable_bytes() == 0;
        self.acknowledged = connection.is_finish_acknowledged();
        self.error = connection.error();
        if self.is_complete() && !self.closed {
            self.closed = true;
            connection.close(&self.socket, Close::Finish);
            drop(self.socket.take_descriptor());
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.finished && self.peer_finished && self.sent == self.to_send.len()
    }
}

/// One side: an application with a context.
pub(crate) struct Side {
    pub application: Arc<Application>,
    pub context: Arc<Context>,
    pub listener: Option<Socket>,
    pub streams: BTreeMap<u64, Stream>,
    /// Accepted streams do not finish by themselves.
    pub hold_accepted: bool,
    next_token: u64,
    config: HostConfig,
}

const LISTENER: u64 = u64::MAX;

impl Side {
    pub(crate) fn new(world: &mut World, host: usize) -> Self {
        let application = world.hosts[host].application().expect("attach");
        let context = Context::new(&application).expect("context");
        world.hosts[host].carry_out_notices().expect("notices");
        Self {
            application,
            context,
            listener: None,
            streams: BTreeMap::new(),
            hold_accepted: false,
            next_token: 1,
            config: world.hosts[host].config().clone(),
        }
    }

    pub(crate) fn listen(&mut self, world: &World, host: usize) {
        let local = self.config.name(world.hosts[host].config().ipv4, PORT);
        let listener = Socket::of_family(&self.context, local.family, LISTENER, 0).expect("socket");
        listener.bind(&local).expect("bind");
        listener.listen(128).expect("listen");
        self.listener = Some(listener);
    }

    pub(crate) fn connect(&mut self, address: u32, to_send: Vec<u8>) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        let remote = self.config.name(address, PORT);
        let socket = Socket::of_family(&self.context, remote.family, token, 0).expect("socket");
        socket.connect(&self.context, &remote).expect("connect");
        self.streams.insert(token, Stream::new(socket, None, to_send));
        token
    }

    /// Takes events and gives every stream a turn. `reply` makes what an accepted stream sends.
    pub(crate) fn turn(&mut self, random: &mut Random, mut reply: impl FnMut() -> Vec<u8>) {
        let mut events = [Event::default(); 32];
        loop {
            let count = self.context.poll(&mut events);
            for happened in &events[..count] {
                self.take(happened);
            }
            if count == 0 {
                break;
            }
        }
        if let Some(listener) = &self.listener {
            while let Ok((socket, connection)) = listener.accept(&self.context, self.next_token, 0) {
                let mut stream = Stream::new(socket, Some(connection), reply());
                stream.hold = self.hold_accepted;
                self.streams.insert(self.next_token, stream);
                self.next_token += 1;
            }
        }
        for stream in self.streams.values_mut() {
            stream.turn(random);
        }
    }

    fn take(&mut self, happened: &Event) {
        let Some(stream) = self.streams.get_mut(&happened.token) else {
            return;
        };
        if happened.flags & event::CONNECTED != 0 {
            stream.connection = Some(stream.socket.established().expect("established"));
        }
        if happened.flags & event::FAILED != 0 {
            stream.error = happened.error;
        }
    }
}

/// Bytes that depend on the seed.
pub(crate) fn pattern(random: &mut Random, count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// Seeds to run: `SIM_SEED` replays one.
pub(crate) fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("SIM_SEED") {
        Ok(seed) => vec![seed.parse().expect("SIM_SEED is a number")],
        Err(_) => (1..=count).collect(),
    }
}
