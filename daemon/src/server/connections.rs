// SPDX-License-Identifier: MIT OR Apache-2.0
//! Clients and the descriptors of their sockets.

use super::{client_of, transport, wakes, Server};
use crate::{Client, Give, Reply, Take};
use abi::message::{Message, Op};
use nix::sys::{
    epoll::{EpollEvent, EpollFlags},
    socket::{socketpair, AddressFamily, SockFlag, SockType},
};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

/// Calls read from one client before the others get their turn.
const CALLS_AT_A_TIME: usize = 16;

/// A connected client.
pub(super) struct Connection {
    pub(super) client: Client,
    socket: OwnedFd,
    is_fast: bool,
    parked: Option<Parked>,
}

/// A reply held back until the fast path has carried out a notice.
struct Parked {
    notice: u32,
    message: Message,
    reply: Reply,
}

/// Our end of a socket's pair.
pub(super) struct SocketEnd {
    id: u32,
    client: Client,
    /// Watched as long as it is open.
    _end: OwnedFd,
}

impl Server {
    /// Takes every waiting client.
    pub(super) fn accept(&mut self) {
        while let Some((socket, credentials)) = self.listener.accept() {
            let token = self.token();
            if self.watch(socket.as_fd(), token, EpollFlags::EPOLLIN).is_err() {
                continue;
            }
            let client = self.instance.connect(credentials);
            self.connections.insert(token, Connection { client, socket, is_fast: false, parked: None });
        }
    }

    /// Something happened on a client's connection.
    pub(super) fn serve(&mut self, token: u64, flags: EpollFlags) {
        if self.connections.get(&token).is_some_and(|connection| connection.parked.is_some()) {
            if flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
                self.disconnect(token);
            }
            return;
        }
        for _ in 0..CALLS_AT_A_TIME {
            let Some(connection) = self.connections.get(&token).filter(|c| c.parked.is_none()) else {
                return;
            };
            match transport::receive(connection.socket.as_fd()) {
                transport::Received::Call(message, passed) => self.call(token, message, passed),
                transport::Received::Garbage(op) => {
                    self.answer(token, transport::refusal(op), &Reply::default())
                }
                transport::Received::Nothing => return,
                transport::Received::Gone => return self.disconnect(token),
            }
        }
    }

    fn call(&mut self, token: u64, mut message: Message, passed: Option<OwnedFd>) {
        let Some(client) = self.connections.get(&token).map(client_of) else {
            return;
        };
        let op = Op::from_u32(message.op);
        let needs_wake = matches!(op, Some(Op::CoreEventfd | Op::CreateContext));
        if needs_wake && !passed.as_ref().is_some_and(|passed| wakes::is_eventfd(passed.as_fd())) {
            return self.answer(token, transport::refusal(message.op), &Reply::default());
        }
        let now_us = self.now_us();
        let object = message.object;
        let reply = self.instance.request(now_us, client, &mut message);
        if let (Some(take), Some(event)) = (reply.take, passed) {
            self.take(take, event);
        }
        match op {
            Some(Op::AttachFast) if message.error == 0 => {
                if let Some(connection) = self.connections.get_mut(&token) {
                    connection.is_fast = true;
                }
            }
            Some(Op::Close) if message.error == 0 => self.forget_socket(client, object),
            Some(Op::DestroyContext | Op::NoticeDone) => self.forget_contexts(),
            _ => {}
        }
        self.send_wakes();
        match reply.after_notice {
            Some(notice) if !self.instance.is_settled(notice) => {
                self.park(token, Parked { notice, message, reply })
            }
            _ => self.answer(token, message, &reply),
        }
        self.answer_parked();
    }

    fn take(&mut self, take: Take, event: OwnedFd) {
        match take {
            Take::CoreWake(core) => self.wakes.set_core(core, event),
            Take::ContextWake(id) => self.wakes.set_context(id, event),
        }
    }

    fn forget_contexts(&mut self) {
        let instance = &self.instance;
        self.wakes.retain_contexts(|id| instance.has_context(id));
    }

    /// Holds a reply back; the client is not read meanwhile.
    fn park(&mut self, token: u64, parked: Parked) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let _ = self.epoll.modify(&connection.socket, &mut EpollEvent::new(EpollFlags::empty(), token));
        connection.parked = Some(parked);
        self.parked.push(token);
    }

    /// Sends the replies that need not wait any more.
    pub(super) fn answer_parked(&mut self) {
        if self.parked.is_empty() {
            return;
        }
        for token in std::mem::take(&mut self.parked) {
            let Some(connection) = self.connections.get_mut(&token) else {
                continue;
            };
            match connection.parked.take() {
                Some(parked) if self.instance.is_settled(parked.notice) => {
                    let _ = self
                        .epoll
                        .modify(&connection.socket, &mut EpollEvent::new(EpollFlags::EPOLLIN, token));
                    self.answer(token, parked.message, &parked.reply);
                }
                still => {
                    connection.parked = still;
                    self.parked.push(token);
                }
            }
        }
    }

    /// Sends a reply with its descriptors. A client that does not take its replies is dropped.
    fn answer(&mut self, token: u64, mut message: Message, reply: &Reply) {
        let mut descriptors = Vec::with_capacity(reply.give.len());
        for give in &reply.give {
            match self.descriptor(token, *give) {
                Ok(descriptor) => descriptors.push(descriptor),
                Err(error) => {
                    descriptors.clear();
                    message.error = error.raw_os_error().unwrap_or(libc::EMFILE) as u32;
                    break;
                }
            }
        }
        let Some(connection) = self.connections.get(&token) else {
            return;
        };
        if !transport::send(connection.socket.as_fd(), &message, &descriptors) {
            drop(descriptors);
            self.disconnect(token);
        }
    }

    fn descriptor(&mut self, token: u64, give: Give) -> io::Result<OwnedFd> {
        match give {
            Give::NoticeWake => self.wakes.notice.try_clone(),
            Give::SlowpathWake => self.wakes.slowpath.try_clone(),
            Give::ContextWake(id) => match self.wakes.context(id) {
                Some(event) => event.try_clone(),
                None => wakes::eventfd(),
            },
            Give::CoreWake(core) => match self.wakes.core(core) {
                Some(event) => event.try_clone(),
                None => self.core_wake_without_fast_path(core),
            },
            Give::Socket(id) => self.new_socket(token, id),
            Give::Region { region, writable } => {
                let memory = self.instance.region(region);
                memory.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?.descriptor(writable)
            }
        }
    }

    /// An application attaches while no fast path is there: its wake-ups are forwarded later.
    fn core_wake_without_fast_path(&mut self, core: u32) -> io::Result<OwnedFd> {
        let event = wakes::eventfd()?;
        let copy = event.try_clone()?;
        self.forward(wakes::Former { core, event });
        Ok(copy)
    }

    fn forward(&mut self, former: wakes::Former) {
        let token = self.token();
        let _ = self.watch(former.event.as_fd(), token, EpollFlags::EPOLLIN);
        if let Some(oldest) = self.wakes.add_former(token, former) {
            let _ = self.epoll.delete(&oldest.event);
        }
    }

    /// A descriptor for a new socket; without one the socket goes again.
    fn new_socket(&mut self, token: u64, id: u32) -> io::Result<OwnedFd> {
        match self.socket_pair(token, id) {
            Ok(theirs) => Ok(theirs),
            Err(error) => {
                let now_us = self.now_us();
                self.instance.release_socket(now_us, id);
                Err(error)
            }
        }
    }

    fn socket_pair(&mut self, token: u64, id: u32) -> io::Result<OwnedFd> {
        let client = self.connections.get(&token).map(client_of).ok_or(io::ErrorKind::NotConnected)?;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
        let watch = self.token();
        self.watch(ours.as_fd(), watch, EpollFlags::EPOLLRDHUP)?;
        self.sockets.insert(watch, SocketEnd { id, client, _end: ours });
        self.socket_tokens.insert(id, watch);
        Ok(theirs)
    }

    /// The last holder of a socket's descriptor closed it.
    pub(super) fn socket_released(&mut self, watch: u64) {
        let Some(end) = self.sockets.remove(&watch) else {
            return;
        };
        self.socket_tokens.remove(&end.id);
        let now_us = self.now_us();
        self.instance.release_socket(now_us, end.id);
        self.send_wakes();
    }

    /// A socket was closed by a call: nothing is left to watch.
    fn forget_socket(&mut self, client: Client, id: u32) {
        let Some(watch) = self.socket_tokens.get(&id).copied() else {
            return;
        };
        if self.sockets.get(&watch).is_some_and(|end| end.client == client) {
            self.sockets.remove(&watch);
            self.socket_tokens.remove(&id);
        }
    }

    /// Ends every application.
    pub(super) fn disconnect_applications(&mut self) {
        let tokens: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| !connection.is_fast)
            .map(|(token, _)| *token)
            .collect();
        for token in tokens {
            self.disconnect(token);
        }
    }

    /// A client is gone, and with it everything it had.
    fn disconnect(&mut self, token: u64) {
        let Some(connection) = self.connections.remove(&token) else {
            return;
        };
        let client = connection.client;
        let ends: Vec<u64> =
            self.sockets.iter().filter(|(_, end)| end.client == client).map(|(watch, _)| *watch).collect();
        for watch in ends {
            if let Some(end) = self.sockets.remove(&watch) {
                self.socket_tokens.remove(&end.id);
            }
        }
        if connection.is_fast {
            for former in self.wakes.take_cores() {
                self.forward(former);
            }
        }
        let now_us = self.now_us();
        self.instance.disconnect(now_us, client);
        self.forget_contexts();
        if !self.instance.has_applications() {
            for former in self.wakes.drop_former() {
                let _ = self.epoll.delete(&former.event);
            }
        }
        self.send_wakes();
        self.answer_parked();
    }
}
