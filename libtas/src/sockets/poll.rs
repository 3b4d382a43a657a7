// SPDX-License-Identifier: MIT OR Apache-2.0
//! poll and select over sets that mix TAS sockets and kernel descriptors.

use super::{
    accept, bell,
    bell::Bell,
    engine::Engine,
    errno::{Errno, Result},
    process::{find, process, Process},
    real,
    table::{Entry, Token},
    wait::{finish, sleep, timespec_of, Deadline, Sleep},
};
use libc::{c_int, c_short, fd_set, pollfd, sigset_t};
use std::{ptr, sync::Arc, time::Duration};

/// Whether any descriptor of a poll set is ours; else the kernel's poll does.
pub fn has_ours(set: &[pollfd]) -> bool {
    set.iter().any(|entry| find(entry.fd).is_some())
}

/// One of ours in a set.
struct Ours {
    /// Index in the caller's set.
    place: usize,
    token: Token,
    is_epoll: bool,
}

/// poll() and ppoll(). Returns how many entries have events.
///
/// # Errors
/// As ppoll(2).
///
/// # Safety
/// `mask` is null or valid.
pub unsafe fn poll(set: &mut [pollfd], limit: Option<Duration>, mask: *const sigset_t) -> Result<c_int> {
    let process = process();
    let deadline = Deadline::after(limit);
    let (ours, mut kernel, broken) = split(set);
    let has_kernel = kernel.iter().any(|entry| entry.fd >= 0);
    let bell = bell::mine()?;
    let result = loop {
        let enlist = !deadline.is_over();
        let ready = look(process, set, &ours, (enlist && !broken).then_some(&bell));
        let done = ready > 0 || !enlist || broken;
        let slept = if !done {
            // SAFETY of the mask: the caller's promise.
            let sleep_on = Sleep { kernel: &mut kernel, deadline, mask, may_follow: false };
            sleep(process, &bell, sleep_on)
        } else if has_kernel {
            now(&mut kernel)
        } else {
            Ok(())
        };
        if enlist {
            withdraw(process, &ours, &bell);
        }
        if let Err(error) = slept {
            break Err(error);
        }
        let kernel_ready = kernel.iter().any(|entry| entry.fd >= 0 && entry.revents != 0);
        if done || kernel_ready {
            break Ok(merge(set, &kernel));
        }
    };
    finish(process);
    result
}

/// Ours, and a set for the kernel with the same places; epoll instances stand in both. True: there
/// are sockets of the parent process, which are ready at once so that the next call on them says why.
fn split(set: &mut [pollfd]) -> (Vec<Ours>, Vec<pollfd>, bool) {
    let mut ours = Vec::new();
    let mut broken = false;
    // Two more for the thread's bell and the context.
    let mut kernel = Vec::with_capacity(set.len() + 2);
    for (place, entry) in set.iter_mut().enumerate() {
        entry.revents = 0;
        let mut fd = entry.fd;
        match find(entry.fd) {
            Some(Entry::Stream(token)) => {
                ours.push(Ours { place, token, is_epoll: false });
                fd = -1;
            }
            Some(Entry::Epoll(token)) => ours.push(Ours { place, token, is_epoll: true }),
            Some(Entry::Foreign) => {
                entry.revents = libc::POLLERR | entry.events & (libc::POLLIN | libc::POLLOUT);
                broken = true;
                fd = -1;
            }
            None => {}
        }
        kernel.push(pollfd { fd, events: entry.events, revents: 0 });
    }
    (ours, kernel, broken)
}

/// Takes what arrived and fills in the events of ours; where there are none, hangs the bell on each.
fn look(process: &Process, set: &mut [pollfd], ours: &[Ours], bell: Option<&Arc<Bell>>) -> usize {
    let mut engine = process.pumped();
    accept::settle(process, &mut engine);
    let mut ready = 0;
    for one in ours {
        let entry = &mut set[one.place];
        entry.revents = events(&mut engine, one, entry.events);
        ready += usize::from(entry.revents != 0);
    }
    if let (0, Some(bell)) = (ready, bell) {
        for one in ours {
            if let Some(waiters) = waiters(&mut engine, one) {
                waiters.push(bell.clone());
            }
        }
    }
    ready
}

fn events(engine: &mut Engine, one: &Ours, asked: c_short) -> c_short {
    const ALWAYS: u32 = (libc::POLLERR | libc::POLLHUP) as u32;
    let found = match one.is_epoll {
        true => u32::from(engine.is_epoll_ready(one.token, 0)) * (libc::POLLIN | libc::POLLRDNORM) as u32,
        false => match engine.stream(one.token) {
            Ok(stream) => stream.readiness(asked as u16 as u32 | ALWAYS),
            // Closed by another thread meanwhile.
            Err(_) => return libc::POLLNVAL,
        },
    };
    (found & (asked as u16 as u32 | ALWAYS)) as c_short
}

fn waiters<'a>(engine: &'a mut Engine, one: &Ours) -> Option<&'a mut Vec<Arc<Bell>>> {
    if one.is_epoll {
        engine.epoll(one.token).ok().map(|epoll| &mut epoll.waiters)
    } else {
        engine.stream(one.token).ok().map(|stream| &mut stream.waiters)
    }
}

fn withdraw(process: &Process, ours: &[Ours], bell: &Arc<Bell>) {
    let mut engine = process.engine();
    for one in ours {
        if let Some(waiters) = waiters(&mut engine, one) {
            waiters.retain(|waiter| !Arc::ptr_eq(waiter, bell));
        }
    }
}

/// The kernel's part without waiting.
fn now(kernel: &mut [pollfd]) -> Result<()> {
    let zero = timespec_of(Duration::ZERO);
    // SAFETY: the entries and the time are valid.
    let ready = unsafe { real::ppoll(kernel.as_mut_ptr(), kernel.len() as _, &zero, ptr::null()) };
    if ready < 0 {
        Err(Errno::last())
    } else {
        Ok(())
    }
}

fn merge(set: &mut [pollfd], kernel: &[pollfd]) -> c_int {
    for (entry, from) in set.iter_mut().zip(kernel) {
        entry.revents |= if from.fd >= 0 { from.revents } else { 0 };
    }
    set.iter().filter(|entry| entry.revents != 0).count() as c_int
}

/// What select()'s three sets mean in poll()'s terms (fs/select.c).
const SELECT: [(c_short, c_short); 3] = [
    (libc::POLLIN, libc::POLLIN | libc::POLLRDNORM | libc::POLLRDBAND | libc::POLLHUP | libc::POLLERR),
    (libc::POLLOUT, libc::POLLOUT | libc::POLLWRNORM | libc::POLLWRBAND | libc::POLLERR),
    (libc::POLLPRI, libc::POLLPRI),
];
const WORD_BITS: usize = libc::c_ulong::BITS as usize;

/// The three sets of a select() call, which may be longer than FD_SETSIZE.
pub struct Sets {
    count: usize,
    sets: [*mut libc::c_ulong; 3],
}

impl Sets {
    /// Over the caller's sets.
    ///
    /// # Safety
    /// Each set is null or has room for `count` bits while this lives.
    pub unsafe fn new(count: c_int, sets: [*mut fd_set; 3]) -> Self {
        Self { count: count.max(0) as usize, sets: sets.map(|set| set.cast()) }
    }

    fn has(&self, set: usize, fd: usize) -> bool {
        let words = self.sets[set];
        // SAFETY: `fd` is below the count.
        !words.is_null() && unsafe { *words.add(fd / WORD_BITS) } >> (fd % WORD_BITS) & 1 != 0
    }

    /// Whether any descriptor in the sets is ours.
    pub fn has_ours(&self) -> bool {
        (0..self.count).any(|fd| (0..3).any(|set| self.has(set, fd)) && find(fd as c_int).is_some())
    }

    fn entries(&self) -> Vec<pollfd> {
        let entry = |fd| {
            let events =
                (0..3).filter(|set| self.has(*set, fd)).fold(0, |events, set| events | SELECT[set].0);
            (events != 0).then_some(pollfd { fd: fd as c_int, events, revents: 0 })
        };
        (0..self.count).filter_map(entry).collect()
    }

    /// Replaces the sets by what is ready; returns the number of bits set.
    fn answer(&self, entries: &[pollfd]) -> c_int {
        let asked: Vec<[bool; 3]> =
            entries.iter().map(|entry| std::array::from_fn(|set| self.has(set, entry.fd as usize))).collect();
        for words in self.sets.into_iter().filter(|words| !words.is_null()) {
            // SAFETY: the set has room for `count` bits.
            unsafe { ptr::write_bytes(words, 0, self.count.div_ceil(WORD_BITS)) };
        }
        let mut bits = 0;
        for (entry, asked) in entries.iter().zip(asked) {
            let fd = entry.fd as usize;
            for (set, words) in self.sets.into_iter().enumerate() {
                if asked[set] && entry.revents & SELECT[set].1 != 0 {
                    // SAFETY: `fd` is below the count.
                    unsafe { *words.add(fd / WORD_BITS) |= 1 << (fd % WORD_BITS) };
                    bits += 1;
                }
            }
        }
        bits
    }
}

/// select() and pselect().
///
/// # Errors
/// As select(2).
///
/// # Safety
/// `mask` is null or valid.
pub unsafe fn select(sets: &Sets, limit: Option<Duration>, mask: *const sigset_t) -> Result<c_int> {
    let mut entries = sets.entries();
    // SAFETY: the caller's promise.
    unsafe { poll(&mut entries, limit, mask)? };
    if entries.iter().any(|entry| entry.revents & libc::POLLNVAL != 0) {
        return Err(Errno(libc::EBADF));
    }
    Ok(sets.answer(&entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn select_sets_go_there_and_back() {
        let mut read = [0 as libc::c_ulong; 40];
        let mut write = [0 as libc::c_ulong; 40];
        read[2] = 1 << 3;
        write[2] = 1 << 3;
        read[30] = 1;
        let count = 40 * WORD_BITS as c_int;
        // SAFETY: the sets have room for `count` bits.
        let sets = unsafe {
            Sets::new(count, [read.as_mut_ptr().cast(), write.as_mut_ptr().cast(), ptr::null_mut()])
        };
        let mut entries = sets.entries();
        let found: Vec<_> = entries.iter().map(|entry| (entry.fd, entry.events)).collect();
        assert_eq!(found, [(131, libc::POLLIN | libc::POLLOUT), (1920, libc::POLLIN)]);
        entries[0].revents = libc::POLLHUP;
        assert_eq!(sets.answer(&entries), 1, "HUP makes readable, not writable");
        assert_eq!((read[2], write[2], read[30]), (1 << 3, 0, 0));
    }
}
