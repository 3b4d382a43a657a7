// SPDX-License-Identifier: MIT OR Apache-2.0
//! epoll_create, epoll_ctl, epoll_wait over sets that mix TAS sockets and kernel descriptors.
//!
//! Underneath is the kernel's epoll file with the kernel descriptors in it. A thread that waits
//! sleeps in ppoll() on that file, the context's eventfd and its bell. An instance without TAS
//! sockets is left to the kernel altogether; when its first one comes while a thread is already
//! inside the kernel, an always readable eventfd (the kick) gets the thread out.

use super::{
    accept, bell,
    bell::Bell,
    epoll::{Epoll, Watch, Watched, ALWAYS},
    errno::{check, Errno, Result},
    fork,
    process::{find, process, Process},
    real,
    table::{Entry, Token, TABLE},
    wait::{finish, sleep, timespec_of, Deadline, Sleep},
};
use crate::sys;
use libc::{c_int, epoll_event, pollfd, sigset_t};
use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    ptr,
    sync::{
        atomic::{AtomicI32, Ordering},
        Arc, OnceLock,
    },
    time::Duration,
};

/// `data` of the kick. It is looked for only where the kick was added.
const KICK: u64 = 0x7461_735f_6b69_636b;
/// While TAS sockets are ready, the kernel's are looked at once in so many calls: a system call
/// each time would cost more than the sockets do.
const KERNEL_EVERY: u32 = 16;
/// EP_MAX_EVENTS.
const EVENTS_MAX: c_int = i32::MAX / size_of::<epoll_event>() as c_int;

/// Enters a new epoll descriptor; every instance is, as TAS sockets may come to any.
pub fn created(fd: c_int) {
    if fd < 0 || fork::in_vfork_child() {
        return;
    }
    register(process(), fd);
}

fn register(process: &Process, fd: c_int) -> Token {
    let mut engine = process.engine();
    let token = engine.epolls.insert(Epoll::new(fd));
    if let (Some(stale), _) = TABLE.set(fd, Some(Entry::Epoll(token))) {
        super::descriptors::forget_locked(&mut engine, stale, fd);
    }
    token
}

/// epoll_ctl().
///
/// # Errors
/// As epoll_ctl(2).
///
/// # Safety
/// `event` is null or valid.
pub unsafe fn control(epfd: c_int, operation: c_int, fd: c_int, event: *mut epoll_event) -> Result<()> {
    let instance = match find(epfd) {
        Some(Entry::Epoll(token)) => Some(token),
        Some(_) => return Err(Errno(libc::EINVAL)),
        None => None,
    };
    // SAFETY: the caller's promise.
    let kernel = || check(unsafe { real::epoll_ctl(epfd, operation, fd, event) }.into()).map(drop);
    let watched = match find(fd) {
        Some(Entry::Stream(token)) => Watched::Stream(token),
        Some(Entry::Epoll(token)) if instance.is_some() => Watched::Epoll(token),
        Some(Entry::Foreign) if operation != libc::EPOLL_CTL_DEL => return super::inherited(),
        _ => {
            kernel()?;
            if let (Some(token), libc::EPOLL_CTL_ADD) = (instance, operation) {
                kernel_added(process(), token);
            }
            return Ok(());
        }
    };
    if fd == epfd {
        return Err(Errno(libc::EINVAL));
    }
    let process = process();
    let token = match instance {
        Some(token) => token,
        None => register(process, is_epoll(epfd)?),
    };
    if let Watched::Epoll(_) = watched {
        // The kernel has the inner instance's own descriptors, and finds loops.
        kernel()?;
        process.engine().epoll(token)?.has_kernel = true;
    }
    // SAFETY: the caller's promise.
    let wanted = match (operation, unsafe { event.as_ref() }) {
        (libc::EPOLL_CTL_DEL, _) => (0, 0),
        (_, Some(event)) => (event.events, event.u64),
        (_, None) => return Err(Errno(libc::EFAULT)),
    };
    change(process, token, operation, fd, watched, wanted)?;
    kick(process, token, epfd);
    Ok(())
}

/// `epfd`, if it is an epoll descriptor that was made where we did not see it.
fn is_epoll(epfd: c_int) -> Result<c_int> {
    let mut event = epoll_event { events: 0, u64: 0 };
    // SAFETY: the event is valid. Deleting what cannot be in it tells an epoll file from others.
    match check(unsafe { real::epoll_ctl(epfd, libc::EPOLL_CTL_DEL, libc::STDERR_FILENO, &mut event) }.into())
    {
        Err(error @ Errno(libc::EINVAL | libc::EBADF)) => Err(error),
        _ => Ok(epfd),
    }
}

fn change(
    process: &Process,
    token: Token,
    operation: c_int,
    fd: c_int,
    watched: Watched,
    (events, data): (u32, u64),
) -> Result<()> {
    let mut engine = process.pumped();
    accept::settle(process, &mut engine);
    let notes = match watched {
        Watched::Stream(stream) => &engine.stream(stream)?.watches,
        Watched::Epoll(inner) => &engine.epoll(inner)?.watches,
    };
    let known = notes.iter().find(|watch| watch.epoll == token && watch.fd == fd).map(|watch| watch.interest);
    let interest = match (operation, known) {
        (libc::EPOLL_CTL_ADD, Some(_)) => return Err(Errno(libc::EEXIST)),
        (libc::EPOLL_CTL_ADD, None) => {
            let interest = engine.epoll(token)?.add(watched, events, data).ok_or(Errno(libc::EINVAL))?;
            let watch = Watch { epoll: token, interest, fd };
            match watched {
                Watched::Stream(stream) => engine.stream(stream)?.watches.push(watch),
                Watched::Epoll(inner) => engine.epoll(inner)?.watches.push(watch),
            }
            interest
        }
        (libc::EPOLL_CTL_MOD | libc::EPOLL_CTL_DEL, None) => return Err(Errno(libc::ENOENT)),
        (libc::EPOLL_CTL_MOD, Some(interest)) => {
            if !engine.epoll(token)?.modify(interest, events, data) {
                return Err(Errno(libc::EINVAL));
            }
            interest
        }
        (libc::EPOLL_CTL_DEL, Some(interest)) => {
            engine.epoll(token)?.remove(interest);
            let notes = match watched {
                Watched::Stream(stream) => &mut engine.stream(stream)?.watches,
                Watched::Epoll(inner) => &mut engine.epoll(inner)?.watches,
            };
            notes.retain(|watch| !(watch.epoll == token && watch.fd == fd));
            return Ok(());
        }
        _ => return Err(Errno(libc::EINVAL)),
    };
    let ready = engine.readiness(watched, u32::MAX);
    if ready & (events | ALWAYS) != 0 {
        engine.signal_interest(token, interest, ready);
    }
    // Whoever waits there must watch the context from now on.
    engine.epoll(token)?.waiters.iter().for_each(|bell| bell.ring());
    Ok(())
}

/// A kernel descriptor came in: threads asleep without the kernel's file must look at it.
fn kernel_added(process: &Process, token: Token) {
    if let Ok(epoll) = process.engine().epoll(token) {
        if !std::mem::replace(&mut epoll.has_kernel, true) {
            epoll.waiters.iter().for_each(|bell| bell.ring());
        }
    }
}

/// Gets threads out of the kernel's epoll_wait; see the module.
fn kick(process: &Process, token: Token, epfd: c_int) {
    static EVENT: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let mut engine = process.engine();
    let Ok(epoll) = engine.epoll(token) else {
        return;
    };
    if epoll.kernel_waiters == 0 || epoll.kicked {
        return;
    }
    let event = EVENT.get_or_init(|| {
        let event = sys::eventfd().ok()?;
        sys::eventfd_signal(event.as_fd()).ok()?;
        Some(event)
    });
    let Some(event) = event else { return };
    let mut readable = epoll_event { events: libc::EPOLLIN as u32, u64: KICK };
    // SAFETY: the event is valid.
    let added = unsafe { real::epoll_ctl(epfd, libc::EPOLL_CTL_ADD, event.as_raw_fd(), &mut readable) };
    epoll.kicked = added == 0;
    KICK_FD.store(event.as_raw_fd(), Ordering::Relaxed);
}

/// The kick's descriptor once there is one.
static KICK_FD: AtomicI32 = AtomicI32::new(-1);

/// epoll_wait(), epoll_pwait() and epoll_pwait2() on an instance of ours.
///
/// # Errors
/// As epoll_pwait2(2).
///
/// # Safety
/// `events` is writable for `count` entries; `mask` is null or valid.
pub unsafe fn wait(
    token: Token,
    epfd: c_int,
    events: *mut epoll_event,
    count: c_int,
    limit: Option<Duration>,
    mask: *const sigset_t,
) -> Result<c_int> {
    if count <= 0 || count > EVENTS_MAX {
        return Err(Errno(libc::EINVAL));
    }
    let process = process();
    let deadline = Deadline::after(limit);
    let mut batch = Batch { events, room: count as usize, used: 0 };
    if enter_kernel(process, token)? {
        // SAFETY: the caller's promise.
        let found = unsafe { kernel_wait(epfd, &mut batch, deadline.remaining(), mask) };
        let kicked = leave_kernel(process, token, epfd);
        let found = found?;
        if !(kicked && batch.strip_kick()) || batch.used > 0 {
            debug_assert!(found >= batch.used);
            return Ok(batch.used as c_int);
        }
    }
    // SAFETY: the caller's promise.
    unsafe { wait_mixed(process, token, epfd, &mut batch, deadline, mask) }
}

/// The caller's array, filled from the front.
struct Batch {
    events: *mut epoll_event,
    room: usize,
    used: usize,
}

impl Batch {
    fn push(&mut self, event: epoll_event) {
        if self.used < self.room {
            // SAFETY: below the room the caller promised.
            unsafe { self.events.add(self.used).write_unaligned(event) };
            self.used += 1;
        }
    }

    /// Removes the kick; true if it was there.
    fn strip_kick(&mut self) -> bool {
        let all: Vec<epoll_event> =
            // SAFETY: the first `used` entries were written.
            (0..self.used).map(|index| unsafe { self.events.add(index).read_unaligned() }).collect();
        let before = std::mem::take(&mut self.used);
        all.into_iter().filter(|event| { event.u64 } != KICK).for_each(|event| self.push(event));
        self.used < before
    }
}

/// Whether the kernel can be left to do the waiting; counts the thread in if so.
fn enter_kernel(process: &Process, token: Token) -> Result<bool> {
    let mut engine = process.engine();
    let epoll = engine.epoll(token)?;
    let alone = !epoll.has_interests();
    epoll.kernel_waiters += u32::from(alone);
    Ok(alone)
}

/// Counts the thread out; the last one takes the kick away. True if there was one.
fn leave_kernel(process: &Process, token: Token, epfd: c_int) -> bool {
    let mut engine = process.engine();
    let Ok(epoll) = engine.epoll(token) else {
        return false;
    };
    epoll.kernel_waiters -= 1;
    let kicked = epoll.kicked;
    if kicked && epoll.kernel_waiters == 0 {
        epoll.kicked = false;
        let kick = KICK_FD.load(Ordering::Relaxed);
        // SAFETY: a null event is fine for removal.
        unsafe { real::epoll_ctl(epfd, libc::EPOLL_CTL_DEL, kick, ptr::null_mut()) };
    }
    kicked
}

/// The kernel's own wait, into what room is left; how many came.
///
/// # Safety
/// `mask` is null or valid.
unsafe fn kernel_wait(
    epfd: c_int,
    batch: &mut Batch,
    limit: Option<Duration>,
    mask: *const sigset_t,
) -> Result<usize> {
    let time = limit.map(timespec_of);
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    let room = (batch.room - batch.used) as c_int;
    // SAFETY: the batch has that much room; time and mask are valid or null.
    let found = unsafe { real::epoll_pwait2(epfd, batch.events.add(batch.used), room, time, mask) };
    let found = check(found.into())? as usize;
    batch.used += found;
    Ok(found)
}

/// # Safety
/// `mask` is null or valid.
unsafe fn wait_mixed(
    process: &Process,
    token: Token,
    epfd: c_int,
    batch: &mut Batch,
    deadline: Deadline,
    mask: *const sigset_t,
) -> Result<c_int> {
    // Made at the first sleep: a busy thread needs none.
    let mut own: Option<Arc<Bell>> = None;
    let mut kernel: Vec<pollfd> = Vec::new();
    let result = loop {
        match look(process, token, batch, own.as_ref()) {
            Ok(true) => {
                // SAFETY: no mask.
                unsafe { kernel_wait(epfd, batch, Some(Duration::ZERO), ptr::null()) }.ok();
                if KICK_FD.load(Ordering::Relaxed) >= 0 {
                    batch.strip_kick();
                }
            }
            Ok(false) => {}
            Err(error) => break Err(error),
        }
        if batch.used > 0 || deadline.is_over() {
            break Ok(batch.used as c_int);
        }
        let Some(bell) = &own else {
            // Look again with the bell hung up.
            own = Some(bell::mine()?);
            continue;
        };
        kernel.clear();
        kernel.push(pollfd { fd: epfd, events: libc::POLLIN, revents: 0 });
        let sleep_on = Sleep { kernel: &mut kernel, deadline, mask, may_follow: false };
        let slept = sleep(process, bell, sleep_on);
        withdraw(process, token, bell);
        if let Err(error) = slept {
            break Err(error);
        }
    };
    if let Some(bell) = &own {
        withdraw(process, token, bell);
        finish(process);
    }
    result
}

/// Takes what arrived, and what is ready of ours. True: the kernel's part is to be looked at, too. With nothing
/// ready the bell, if given, is hung up.
fn look(process: &Process, token: Token, batch: &mut Batch, bell: Option<&Arc<Bell>>) -> Result<bool> {
    let mut engine = process.pumped();
    accept::settle(process, &mut engine);
    let room = batch.room;
    let found = engine.collect(token, room, |events, data| batch.push(epoll_event { events, u64: data }));
    let epoll = engine.epoll(token)?;
    if let (0, Some(bell)) = (found, bell) {
        if !epoll.waiters.iter().any(|waiter| Arc::ptr_eq(waiter, bell)) {
            epoll.waiters.push(bell.clone());
        }
    }
    if !epoll.has_kernel || found == room {
        return Ok(false);
    }
    epoll.since_kernel += 1;
    let due = found == 0 || epoll.since_kernel >= KERNEL_EVERY;
    if due {
        epoll.since_kernel = 0;
    }
    Ok(due)
}

fn withdraw(process: &Process, token: Token, bell: &Arc<Bell>) {
    if let Ok(epoll) = process.engine().epoll(token) {
        epoll.waiters.retain(|waiter| !Arc::ptr_eq(waiter, bell));
    }
}
