// SPDX-License-Identifier: MIT OR Apache-2.0
//! All sockets and epoll instances of the process, behind one lock with short critical sections.
//! No system call happens under it but control calls about a socket's set-up.

use super::{
    bell::Bell,
    epoll::{Epoll, Watched},
    errno::{Errno, Result},
    slab::Slab,
    stream::{Phase, Stream},
    table::Token,
    urgent::Signals,
};
use crate::lowlevel::{event, Event};
use std::sync::Arc;

const IN: u32 = (libc::EPOLLIN | libc::EPOLLRDNORM) as u32;
const OUT: u32 = (libc::EPOLLOUT | libc::EPOLLWRNORM) as u32;
const PRI: u32 = libc::EPOLLPRI as u32;
const RDHUP: u32 = libc::EPOLLRDHUP as u32;
/// What ends a connection wakes whoever waits for anything.
const EVERYTHING: u32 = IN | OUT | RDHUP | (libc::EPOLLHUP | libc::EPOLLERR) as u32;

/// Epoll instances nested deeper than this are refused (EP_MAX_NESTS in fs/eventpoll.c).
pub(crate) const NESTS_MAX: u32 = 4;

/// See the module.
#[derive(Default)]
pub(crate) struct Engine {
    pub(crate) streams: Slab<Stream>,
    pub(crate) epolls: Slab<Epoll>,
    /// Room for what a pump takes.
    pub(crate) events: Box<[Event]>,
    /// Listeners whose queue in the slow path may hold connections; see `accept::settle`.
    pub(crate) hinted: Vec<Token>,
    /// SIGURG to be sent.
    pub(crate) signals: Signals,
    /// Threads asleep on the context's eventfd.
    pub(crate) watchers: u32,
    /// Threads asleep on their bell alone, because another watches the context.
    pub(crate) followers: Vec<Arc<Bell>>,
}

impl Engine {
    /// The stream socket, or EBADF: it was closed meanwhile.
    #[inline]
    pub(crate) fn stream(&mut self, token: Token) -> Result<&mut Stream> {
        self.streams.get_mut(token).ok_or(Errno(libc::EBADF))
    }

    /// The epoll instance, or EBADF.
    pub(crate) fn epoll(&mut self, token: Token) -> Result<&mut Epoll> {
        self.epolls.get_mut(token).ok_or(Errno(libc::EBADF))
    }

    /// Carries an event of the low-level API into the socket's state and tells who waits.
    #[inline]
    pub(crate) fn dispatch(&mut self, event: &Event) {
        let token = Token::from_word(event.token);
        if event.flags == event::READABLE {
            return self.notify(token, IN);
        }
        self.dispatch_any(token, event);
    }

    /// [`Self::dispatch`] of any event.
    fn dispatch_any(&mut self, token: Token, event: &Event) {
        let Some(stream) = self.streams.get_mut(token) else {
            return;
        };
        let mut happened = 0;
        if event.flags & event::READABLE != 0 {
            happened |= IN;
        }
        if event.flags & (event::URGENT | event::URGENT_BYTE) != 0 {
            happened |= PRI;
        }
        if event.flags & event::URGENT != 0 {
            self.signals.announce(stream.descriptors.first());
        }
        if event.flags & event::END_OF_STREAM != 0 {
            happened |= IN | RDHUP | EVERYTHING;
        }
        if event.flags & event::WRITABLE != 0 {
            stream.write_blocked = false;
            stream.flush_early();
            happened |= OUT;
        }
        if event.flags & event::FINISHED != 0 {
            happened |= EVERYTHING;
        }
        if event.flags & event::ACCEPTABLE != 0 {
            if let Phase::Listening { hint, .. } = &mut stream.phase {
                *hint = true;
                self.hinted.push(token);
            }
            happened |= IN;
        }
        if event.flags & event::CONNECTED != 0 {
            establish(stream);
            happened |= EVERYTHING;
        }
        if event.flags & event::SOFT_ERROR != 0 {
            // sk_err: what is pending counts more.
            stream.error = if stream.error == 0 { event.error } else { stream.error };
            happened |= EVERYTHING;
        }
        if event.flags & event::FAILED != 0 {
            stream.fail(event.error);
            happened |= EVERYTHING;
        }
        self.notify(token, happened);
    }

    /// `events` happened on a stream: rings threads that wait on it and queues it in epolls.
    #[inline]
    pub(crate) fn notify(&mut self, token: Token, events: u32) {
        let Self { streams, epolls, .. } = self;
        let Some(stream) = streams.get(token) else {
            return;
        };
        stream.waiters.iter().for_each(|bell| bell.ring());
        for watch in &stream.watches {
            signal(epolls, watch.epoll, watch.interest, events, 0);
        }
    }

    /// The same for an interest of its own, when it was just added or changed.
    pub(crate) fn signal_interest(&mut self, epoll: Token, interest: u32, events: u32) {
        signal(&mut self.epolls, epoll, interest, events, 0);
    }

    /// Takes `epoll` out of the notes of what it watched.
    pub(crate) fn unwatch(&mut self, watched: Watched, epoll: Token) {
        let watches = match watched {
            Watched::Stream(token) => self.streams.get_mut(token).map(|stream| &mut stream.watches),
            Watched::Epoll(token) => self.epolls.get_mut(token).map(|inner| &mut inner.watches),
        };
        if let Some(watches) = watches {
            watches.retain(|watch| watch.epoll != epoll);
        }
    }

    /// Readiness of what an interest watches; at least the bits in `asked` are right.
    pub(crate) fn readiness(&mut self, watched: Watched, asked: u32) -> u32 {
        match watched {
            Watched::Stream(token) => self.streams.get(token).map_or(0, |stream| stream.readiness(asked)),
            Watched::Epoll(token) => u32::from(self.is_epoll_ready(token, 0)) * IN,
        }
    }

    /// Whether a TAS socket in an epoll instance is ready.
    pub(crate) fn is_epoll_ready(&mut self, token: Token, depth: u32) -> bool {
        if depth > NESTS_MAX {
            return false;
        }
        // Taken out while its interests are asked, which may be epoll instances themselves.
        let Some(place) = self.epolls.get_mut(token) else {
            return false;
        };
        let mut epoll = std::mem::take(place);
        let ready = epoll.is_ready(|watched, asked| match watched {
            Watched::Stream(stream) => self.streams.get(stream).map_or(0, |stream| stream.readiness(asked)),
            Watched::Epoll(inner) => u32::from(self.is_epoll_ready(inner, depth + 1)) * IN,
        });
        if let Some(place) = self.epolls.get_mut(token) {
            *place = epoll;
        }
        ready
    }

    /// Takes ready events of an epoll instance; see [`Epoll::collect`].
    pub(crate) fn collect(&mut self, token: Token, room: usize, report: impl FnMut(u32, u64)) -> usize {
        let Self { streams, epolls, .. } = self;
        let Some(epoll) = epolls.get_mut(token) else {
            return 0;
        };
        if !epoll.has_nested() {
            return epoll.collect(room, |watched, asked| stream_readiness(streams, watched, asked), report);
        }
        let mut epoll = std::mem::take(epoll);
        let count = epoll.collect(room, |watched, asked| self.readiness(watched, asked), report);
        if let Some(place) = self.epolls.get_mut(token) {
            *place = epoll;
        }
        count
    }
}

#[inline]
fn stream_readiness(streams: &Slab<Stream>, watched: Watched, asked: u32) -> u32 {
    match watched {
        Watched::Stream(token) => streams.get(token).map_or(0, |stream| stream.readiness(asked)),
        Watched::Epoll(_) => 0,
    }
}

/// Puts an interest on its epoll's ready list, wakes who waits there, and goes on to the epoll
/// instances that watch this one.
#[inline]
fn signal(epolls: &mut Slab<Epoll>, token: Token, interest: u32, events: u32, depth: u32) {
    let Some(epoll) = epolls.get_mut(token) else {
        return;
    };
    if depth > NESTS_MAX || !epoll.signal(interest, events) {
        return;
    }
    epoll.waiters.iter().for_each(|bell| bell.ring());
    if !epoll.watches.is_empty() {
        signal_outer(epolls, token, depth + 1);
    }
}

/// An epoll instance became ready: goes on to those that watch it.
#[cold]
fn signal_outer(epolls: &mut Slab<Epoll>, token: Token, depth: u32) {
    let watches = epolls.get_mut(token).map(|epoll| epoll.watches.clone());
    for watch in watches.unwrap_or_default() {
        signal(epolls, watch.epoll, watch.interest, IN, depth);
    }
}

/// An active open completed.
fn establish(stream: &mut Stream) {
    if !matches!(stream.phase, Phase::Connecting) {
        return;
    }
    match stream.socket.established() {
        Ok(connection) => {
            let info = *connection.info();
            stream.local = Some(info.local);
            stream.remote = Some(info.remote);
            if stream.options.urgent_is_inline() {
                connection.set_urgent_inline(true);
            }
            stream.phase = Phase::Connected { connection: Arc::new(connection), announced: false };
            stream.send_early(info.syn_data_bytes as usize);
        }
        Err(error) => stream.fail(Errno::from(error).0),
    }
}
