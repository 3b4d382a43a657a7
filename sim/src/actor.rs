// SPDX-License-Identifier: MIT OR Apache-2.0
//! One process: its context, its listener, its connections. It runs when it was woken or has something
//! to do at a time of its own, and sleeps by the library's own protocol otherwise.

mod end;

use crate::{
    coverage::{Coverage, Event as Reached, Fault, Sometimes},
    observer::Key,
    plan::{Connect, Death, Listen, Plan, Process},
    random::Random,
    world::World,
};
use abi::message::{option, tcp_state};
pub(crate) use end::{Closed, Live};
use std::{collections::BTreeMap, io, sync::Arc};
use tas::lowlevel::{event, Application, Context, Event, Socket};

const LISTENER: u64 = u64::MAX;
/// After ENETDOWN or EHOSTUNREACH a client tries again so much later, microseconds.
const RETRY_US: u64 = 10_000;
/// Never.
pub(crate) const NEVER: u64 = u64::MAX;

/// What processes share: who connects to whom, and what came of it.
pub(crate) struct Board {
    /// Connection that a pair of client host's and server host's ports is.
    pub(crate) pairs: BTreeMap<Key, usize>,
    /// Connections of which a stream was tampered with by an exact RST.
    pub(crate) disturbed: Vec<Key>,
    /// What each end of each connection came to; client first.
    pub(crate) results: Vec<[Option<Closed>; 2]>,
    pub(crate) coverage: Coverage,
    pub(crate) violation: Option<String>,
    pub(crate) events: u64,
    pub(crate) random: Random,
}

impl Board {
    pub(crate) fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }
}

/// Ports of the first and the second host, from one host's local and remote.
pub(crate) fn key(host: usize, local: u16, remote: u16) -> Key {
    if host == 0 {
        (local, remote)
    } else {
        (remote, local)
    }
}

/// A connect() that is to come.
#[derive(Debug, Clone, Copy)]
struct Due {
    at_us: u64,
    connection: usize,
}

/// See the module.
pub(crate) struct Actor {
    pub(crate) host: usize,
    pub(crate) application: Arc<Application>,
    /// Connects and listens with the first.
    contexts: Vec<Arc<Context>>,
    channel: usize,
    listen: Option<Listen>,
    listener: Option<Socket>,
    accept_at_us: u64,
    due: Vec<Due>,
    live: BTreeMap<u64, Live>,
    next_token: u64,
    asleep: bool,
    next_us: u64,
    death: Option<(u64, Death)>,
    lies_left: u32,
    /// Its process is gone, or it does not call the library any more.
    pub(crate) dead: bool,
}

impl Actor {
    pub(crate) fn new(world: &mut World, number: usize, plan: &Plan) -> io::Result<Self> {
        let Process { host, listen, contexts, death } = plan.processes[number];
        let application = world.hosts[host].application()?;
        let contexts = (0..contexts).map(|_| Context::new(&application)).collect::<io::Result<Vec<_>>>()?;
        let context = &contexts[0];
        world.hosts[host].carry_out_notices()?;
        let listener = match listen {
            Some(listen) => {
                let config = &plan.hosts[host];
                let local = config.name(config.ipv4, listen.port);
                let socket = Socket::of_family(context, local.family, LISTENER, 0)?;
                socket.bind(&local)?;
                socket.set_option(option::FAST_OPEN, listen.fast_open, 0)?;
                socket.set_option(option::FAST_OPEN_NO_COOKIE, u32::from(listen.no_cookie), 0)?;
                socket.listen(listen.backlog)?;
                Some(socket)
            }
            None => None,
        };
        let mine = plan.connections.iter().enumerate().filter(|(_, connect)| connect.client == number);
        let due = mine.map(|(connection, connect)| Due { at_us: connect.at_us, connection }).collect();
        Ok(Self {
            host,
            application,
            contexts,
            channel: plan.processes[..number].iter().filter(|process| process.host == host).count(),
            listen,
            listener,
            accept_at_us: NEVER,
            due,
            live: BTreeMap::new(),
            next_token: 1,
            asleep: false,
            next_us: 0,
            death,
            lies_left: 3,
            dead: false,
        })
    }

    /// Whether nothing is left to do (a listener aside).
    pub(crate) fn is_done(&self) -> bool {
        self.dead || (self.live.is_empty() && self.due.is_empty())
    }

    /// When it runs next unless it is woken.
    pub(crate) fn next_us(&self) -> u64 {
        if self.dead {
            return NEVER;
        }
        self.next_us.min(self.death.map_or(NEVER, |(at, _)| at))
    }

    /// Whether the wake-up of a context is for it.
    pub(crate) fn has_context(&self, id: u32) -> bool {
        self.contexts.iter().any(|context| context.id() == id)
    }

    /// A wake-up came.
    pub(crate) fn wake(&mut self) {
        self.next_us = 0;
    }

    /// The state of one of its connections, as the slow path has it.
    fn state(world: &World, host: usize, live: &Live) -> u32 {
        Self::state_of(world, host, live.names)
    }

    /// Runs once.
    pub(crate) fn turn(&mut self, world: &mut World, plan: &Plan, board: &mut Board) -> io::Result<()> {
        let now = world.now_us();
        board.events += 1;
        if let Some((at, how)) = self.death {
            if at <= now {
                self.die(world, board, how);
                return Ok(());
            }
        }
        let Some(context) = self.contexts.first().filter(|_| !self.lies()).cloned() else {
            self.next_us = NEVER;
            return Ok(());
        };
        if std::mem::take(&mut self.asleep) {
            self.contexts.iter().for_each(|context| context.finish_wait());
        }
        for context in self.contexts.clone() {
            self.take_events(&context, world, board);
        }
        self.connect_due(&context, world, plan, board);
        self.accept(&context, world, plan, board);
        self.close_listener(now, board);
        self.run_streams(world, plan, board);
        self.next_us = self.next_wish(now);
        if self.next_us > now {
            self.asleep = self.prepare_wait();
            if !self.asleep {
                self.next_us = now + 1;
            }
        }
        Ok(())
    }

    /// All contexts wait, or none.
    fn prepare_wait(&self) -> bool {
        let ready = self.contexts.iter().position(|context| !context.prepare_wait());
        if let Some(ready) = ready {
            self.contexts[..ready].iter().for_each(|context| context.finish_wait());
        }
        ready.is_none()
    }

    fn next_wish(&self, now: u64) -> u64 {
        let streams = self.live.values().map(|live| live.next_us(now));
        let due = self.due.iter().map(|due| due.at_us);
        let closes = self.listener.as_ref().and(self.listen).and_then(|listen| listen.closes_at_us);
        streams.chain(due).chain(closes).chain([self.accept_at_us]).min().unwrap_or(NEVER)
    }

    fn take_events(&mut self, context: &Arc<Context>, world: &World, board: &mut Board) {
        let mut events = [Event::default(); 32];
        loop {
            let count = context.poll(&mut events);
            for happened in &events[..count] {
                self.take(happened, world, board);
            }
            if count == 0 {
                return;
            }
        }
    }

    fn take(&mut self, happened: &Event, world: &World, board: &mut Board) {
        if happened.token == LISTENER {
            let delay = self.listen.map_or(0, |listen| listen.accept_delay_us);
            self.accept_at_us = self.accept_at_us.min(world.now_us() + delay);
            return;
        }
        let Some(live) = self.live.get_mut(&happened.token) else {
            return;
        };
        if happened.flags & event::CONNECTED != 0 {
            match live.socket.established() {
                Ok(connection) => {
                    live.establish(connection, world.now_us());
                    live.go_on_after_syn_data(board);
                }
                Err(error) => live.fail(error.raw_os_error().unwrap_or(libc::EIO)),
            }
        }
        if happened.flags & event::FAILED != 0 {
            if live.is_waiting() && matches!(happened.error, libc::ENETDOWN | libc::EHOSTUNREACH) {
                // Nobody was there to resolve the address: the program tries again.
                let connection = live.number;
                self.due.push(Due { at_us: world.now_us() + RETRY_US, connection });
                self.live.remove(&happened.token);
                return;
            }
            live.fail(happened.error);
        }
    }

    fn connect_due(&mut self, context: &Arc<Context>, world: &mut World, plan: &Plan, board: &mut Board) {
        let now = world.now_us();
        for index in (0..self.due.len()).rev() {
            if self.due[index].at_us > now {
                continue;
            }
            let due = self.due.swap_remove(index);
            let connect = &plan.connections[due.connection];
            match self.connect(context, world, plan, board, due.connection, connect) {
                Ok(()) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::ENETDOWN | libc::EHOSTUNREACH) => {
                        self.due.push(Due { at_us: now + RETRY_US, ..due });
                    }
                    Some(libc::ENOBUFS | libc::EMFILE | libc::EADDRNOTAVAIL) => {
                        board.coverage.fault(Fault::Exhausted, 1);
                        self.due.push(Due { at_us: now + RETRY_US, ..due });
                    }
                    _ => board.violated(format!("connection {}: connect(): {error}", due.connection)),
                },
            }
        }
    }

    fn connect(
        &mut self,
        context: &Arc<Context>,
        world: &mut World,
        plan: &Plan,
        board: &mut Board,
        number: usize,
        connect: &Connect,
    ) -> io::Result<()> {
        let token = self.next_token;
        let peer = &plan.hosts[1 - self.host];
        let family = peer.name(peer.ipv4, 0).family;
        let socket = Socket::of_family(context, family, token, 0)?;
        let side = connect.sides[0];
        if let Some(bytes) = side.receive_buffer_bytes {
            socket.set_option(option::RECEIVE_BUFFER, bytes, 0)?;
        }
        if side.nodelay {
            socket.set_option(option::NODELAY, 1, 0)?;
        }
        if plan.needs_keepalive(connect) {
            end::keep_alive(&socket)?;
        }
        let port = match connect.server {
            Some(server) => plan.processes[server].listen.map_or(crate::plan::CLOSED_PORT, |l| l.port),
            None => {
                board.coverage.fault(Fault::ClosedPort, 1);
                crate::plan::CLOSED_PORT
            }
        };
        let remote = peer.name(peer.ipv4, port);
        let syn_bytes = if connect.fast_open {
            socket.set_option(option::FAST_OPEN_NO_COOKIE, u32::from(connect.no_cookie), 0)?;
            let data = side.syn_data(number);
            let done = socket.connect_fast(context, &remote, Some(&data))?;
            board.coverage.sometimes(Sometimes::SynData, u64::from(done.syn_bytes > 0));
            done.syn_bytes
        } else {
            socket.connect(context, &remote)?;
            0
        };
        let local = socket.names()?.local.port;
        board.coverage.reached(tcp_state::CLOSED, Reached::Connect);
        board.pairs.insert(key(self.host, local, port), number);
        self.next_token += 1;
        let gives_up = connect.gives_up_us.map(|us| world.now_us() + us);
        let mut live = Live::new(socket, number, 0, plan, (local, port), gives_up);
        live.went_with_syn(syn_bytes as u64);
        self.live.insert(token, live);
        Ok(())
    }

    fn accept(&mut self, context: &Arc<Context>, world: &mut World, plan: &Plan, board: &mut Board) {
        let now = world.now_us();
        if self.accept_at_us > now {
            return;
        }
        self.accept_at_us = NEVER;
        let Some(listener) = &self.listener else {
            return;
        };
        loop {
            let token = self.next_token;
            let (socket, connection) = match listener.accept(context, token, 0) {
                Ok(accepted) => accepted,
                Err(error) => {
                    match error.raw_os_error() {
                        Some(libc::EAGAIN) => {}
                        Some(libc::ENOBUFS | libc::EMFILE | libc::ENETDOWN) => {
                            self.accept_at_us = now + RETRY_US
                        }
                        _ => board.violated(format!("accept(): {error}")),
                    }
                    return;
                }
            };
            self.next_token += 1;
            let (local, remote) = (connection.info().local.port, connection.info().remote.port);
            let Some(number) = board.pairs.get(&key(self.host, local, remote)).copied() else {
                board.violated(format!("accepted a connection from port {remote} that nobody made"));
                return;
            };
            let mut live = Live::new(socket, number, 1, plan, (local, remote), None);
            let state = Self::state(world, self.host, &live);
            board.coverage.reached(state, Reached::Accept);
            live.set_options(plan.needs_keepalive(&plan.connections[number]));
            live.establish(connection, now);
            self.live.insert(token, live);
        }
    }

    fn close_listener(&mut self, now: u64, board: &mut Board) {
        let closes = self.listen.and_then(|listen| listen.closes_at_us);
        if closes.is_some_and(|at| at <= now) && self.listener.take().is_some() {
            board.coverage.fault(Fault::ListenerClosed, 1);
        }
    }

    fn run_streams(&mut self, world: &mut World, plan: &Plan, board: &mut Board) {
        let (host, mut over) = (self.host, Vec::new());
        for (token, live) in &mut self.live {
            let names = live.names;
            let state = || Self::state_of(world, host, names);
            live.turn(world.now_us(), &state, (plan, &self.contexts), board);
            if live.is_over() {
                over.push(*token);
            }
        }
        for token in over {
            if let Some(live) = self.live.remove(&token) {
                let (number, side) = (live.number, live.side);
                board.results[number][side] = Some(live.into_closed());
            }
        }
    }

    fn state_of(world: &World, host: usize, names: Option<(u16, u16)>) -> u32 {
        let state = names.map(|(local, remote)| {
            world.hosts[host].state_of(local, (world.hosts[1 - host].config().ipv4, remote))
        });
        // The four-tuple of a connection that is over is the listener's again, though its socket is still held.
        state.filter(|state| *state != tcp_state::LISTEN).unwrap_or(tcp_state::CLOSED)
    }

    fn die(&mut self, world: &mut World, board: &mut Board, how: Death) {
        if how == Death::Lie && self.lies_left > 0 {
            self.lies_left -= 1;
            self.death = Some((world.now_us() + 1 + board.random.below(2000), how));
            board.coverage.fault(Fault::Lie, 1);
            // Whoever lies does nothing else any more.
            self.next_us = NEVER;
            if let Some(context) = self.contexts.first() {
                let id = context.id();
                crate::scenario::lie(world, self.host, &self.application, id, &mut board.random);
            }
            return;
        }
        for live in self.live.values() {
            board.coverage.reached(Self::state(world, self.host, live), Reached::Crash);
        }
        board.coverage.fault(Fault::AppCrash, 1);
        self.dead = true;
        world.hosts[self.host].kill_application(self.channel);
    }

    /// Whether it has begun to lie.
    pub(crate) fn lies(&self) -> bool {
        matches!(self.death, Some((_, Death::Lie))) && self.lies_left < 3
    }

    /// The listener is closed: everything else is done.
    pub(crate) fn stop_listening(&mut self) {
        self.listener = None;
    }

    /// Ends the process in good order. Its memory stays mapped until the value is dropped.
    pub(crate) fn end(&mut self, world: &mut World) {
        self.contexts.clear();
        if !self.dead {
            self.dead = true;
            world.hosts[self.host].kill_application(self.channel);
        }
    }

    /// Gives up the context: what it kept of chunks goes back to the application.
    pub(crate) fn leave_context(&mut self) {
        if !self.dead {
            self.contexts.clear();
        }
    }

    /// Its streams in words.
    pub(crate) fn describe(&self) -> Vec<String> {
        let due = self
            .due
            .iter()
            .map(|due| format!("connection {} is to connect at {}", due.connection, due.at_us));
        self.live.values().map(Live::describe).chain(due).collect()
    }
}
