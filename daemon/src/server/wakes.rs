// SPDX-License-Identifier: MIT OR Apache-2.0
//! Eventfds: the instance's own, and those that cores and contexts were registered with.

use crate::Wake;
use nix::{
    poll::{poll, PollFd, PollFlags, PollTimeout},
    sys::eventfd::{EfdFlags, EventFd},
};
use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

/// Eventfds of former fast paths that are still forwarded for applications which hold them; the oldest
/// goes first.
const FORMER_MAX: usize = 64;

/// Makes an eventfd that does not block.
pub(super) fn eventfd() -> io::Result<OwnedFd> {
    let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    Ok(event.into())
}

/// True if a passed descriptor is an eventfd: writing to anything else might block.
pub(super) fn is_eventfd(descriptor: BorrowedFd<'_>) -> bool {
    let link = fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd()));
    link.is_ok_and(|target| target.as_os_str().as_encoded_bytes().starts_with(b"anon_inode:[eventfd"))
}

/// Wakes whoever waits on an eventfd. One whose counter its owner has filled is left alone: it is
/// readable anyway.
pub(super) fn signal(event: BorrowedFd<'_>) {
    let mut ready = [PollFd::new(event, PollFlags::POLLOUT)];
    if poll(&mut ready, PollTimeout::ZERO) == Ok(1) {
        let _ = nix::unistd::write(event, &1u64.to_ne_bytes());
    }
}

/// Empties an eventfd that is readable.
pub(super) fn drain(event: BorrowedFd<'_>) {
    let mut ready = [PollFd::new(event, PollFlags::POLLIN)];
    if poll(&mut ready, PollTimeout::ZERO) == Ok(1) {
        let mut value = [0; 8];
        let _ = nix::unistd::read(event, &mut value);
    }
}

/// A core's eventfd of an earlier fast path, or one made while there was none. Applications that
/// attached then go on writing to it.
pub(super) struct Former {
    pub(super) core: u32,
    pub(super) event: OwnedFd,
}

/// All eventfds but the clients'.
pub(super) struct Wakes {
    /// Readable: a notice waits. Given to the fast path.
    pub(super) notice: OwnedFd,
    /// Readable: the fast path filled a kernel ring. Given to the fast path.
    pub(super) slowpath: OwnedFd,
    cores: BTreeMap<u32, OwnedFd>,
    contexts: BTreeMap<u32, OwnedFd>,
    /// By watch token.
    former: BTreeMap<u64, Former>,
}

impl Wakes {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            notice: eventfd()?,
            slowpath: eventfd()?,
            cores: BTreeMap::new(),
            contexts: BTreeMap::new(),
            former: BTreeMap::new(),
        })
    }

    pub(super) fn send(&self, wake: Wake) {
        match wake {
            Wake::Notice => signal(self.notice.as_fd()),
            Wake::Core(core) => self.signal_core(core),
            Wake::Context(id) => {
                if let Some(event) = self.contexts.get(&id) {
                    signal(event.as_fd());
                }
            }
        }
    }

    fn signal_core(&self, core: u32) {
        if let Some(event) = self.cores.get(&core) {
            signal(event.as_fd());
        }
    }

    pub(super) fn set_core(&mut self, core: u32, event: OwnedFd) {
        self.cores.insert(core, event);
    }

    pub(super) fn set_context(&mut self, id: u32, event: OwnedFd) {
        self.contexts.insert(id, event);
    }

    pub(super) fn core(&self, core: u32) -> Option<&OwnedFd> {
        self.cores.get(&core)
    }

    pub(super) fn context(&self, id: u32) -> Option<&OwnedFd> {
        self.contexts.get(&id)
    }

    /// Closes the eventfds of contexts that are gone.
    pub(super) fn retain_contexts(&mut self, exists: impl Fn(u32) -> bool) {
        self.contexts.retain(|id, _| exists(*id));
    }

    /// The fast path is gone: its eventfds, to be forwarded from now on.
    pub(super) fn take_cores(&mut self) -> Vec<Former> {
        std::mem::take(&mut self.cores).into_iter().map(|(core, event)| Former { core, event }).collect()
    }

    /// Forwards an eventfd from now on; returns the token of one that is too old to be kept.
    pub(super) fn add_former(&mut self, token: u64, former: Former) -> Option<Former> {
        self.former.insert(token, former);
        if self.former.len() > FORMER_MAX {
            self.former.pop_first().map(|(_, oldest)| oldest)
        } else {
            None
        }
    }

    /// An application wrote to the eventfd of a core that is served by another one now.
    pub(super) fn forward(&self, token: u64) {
        if let Some(former) = self.former.get(&token) {
            drain(former.event.as_fd());
            self.signal_core(former.core);
        }
    }

    /// No application is left that could hold one.
    pub(super) fn drop_former(&mut self) -> Vec<Former> {
        std::mem::take(&mut self.former).into_values().collect()
    }
}
