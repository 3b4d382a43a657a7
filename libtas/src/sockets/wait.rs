// SPDX-License-Identifier: MIT OR Apache-2.0
//! Blocking. A thread that waits hangs its bell on the objects it waits for, then sleeps in
//! ppoll() on the bell, on the context's eventfd and on the kernel descriptors it was given.
//! Whoever takes events from the context rings the bells of those they concern, so that nothing
//! is lost when another thread takes the event that this one waits for.
//!
//! Of the threads that wait for one socket each, only one watches the context; the others follow
//! it and sleep on their bells. When it is done it passes the watch on.

use super::{
    bell::{self, Bell},
    engine::Engine,
    errno::{Errno, Result},
    process::{Network, Process},
    real,
    table::Token,
};
use libc::{pollfd, sigset_t, timespec};
use std::{
    os::fd::AsRawFd,
    ptr,
    sync::Arc,
    time::{Duration, Instant},
};

/// When a wait ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deadline {
    /// At once: the clock need not be read.
    Now,
    /// Then.
    At(Instant),
    /// Never.
    Never,
}

impl Deadline {
    /// After `limit`.
    pub(crate) fn after(limit: Option<Duration>) -> Self {
        match limit {
            Some(Duration::ZERO) => Self::Now,
            // A limit beyond what the clock can hold is no limit.
            Some(limit) => Instant::now().checked_add(limit).map_or(Self::Never, Self::At),
            None => Self::Never,
        }
    }
    /// Whether it is over.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Self::Now => true,
            Self::At(end) => Instant::now() >= *end,
            Self::Never => false,
        }
    }
    /// What is left.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        match self {
            Self::Now => Some(Duration::ZERO),
            Self::At(end) => Some(end.saturating_duration_since(Instant::now())),
            Self::Never => None,
        }
    }
}

/// A duration for the kernel.
pub(crate) fn timespec_of(span: Duration) -> timespec {
    timespec { tv_sec: span.as_secs() as libc::time_t, tv_nsec: span.subsec_nanos().into() }
}

/// What a thread sleeps on besides its bell.
pub(crate) struct Sleep<'a> {
    /// Kernel descriptors, with their events; `revents` are filled in.
    pub(crate) kernel: &'a mut Vec<pollfd>,
    pub(crate) deadline: Deadline,
    /// Signal mask while asleep.
    pub(crate) mask: *const sigset_t,
    /// May follow another thread's watch instead of watching the context itself.
    pub(crate) may_follow: bool,
}

/// Sleeps until something happened. The bell hangs already on what is waited for.
///
/// # Errors
/// EINTR; what ppoll() reports.
pub(crate) fn sleep(process: &Process, bell: &Arc<Bell>, sleep: Sleep<'_>) -> Result<()> {
    let network = process.network();
    let watch = network.filter(|_| begin(process, bell, sleep.may_follow));
    let result = match watch {
        Some(network) if !network.context.prepare_wait() => Ok(()),
        Some(network) => {
            let result = doze(bell, Some(network), sleep);
            network.context.finish_wait();
            result
        }
        None => doze(bell, None, sleep),
    };
    if network.is_some() {
        end(process, bell, watch.is_some());
    }
    bell.answer();
    result
}

/// Joins the watchers (true) or the followers.
fn begin(process: &Process, bell: &Arc<Bell>, may_follow: bool) -> bool {
    let mut engine = process.engine();
    if may_follow && engine.watchers > 0 {
        engine.followers.push(bell.clone());
        return false;
    }
    engine.watchers += 1;
    true
}

fn end(process: &Process, bell: &Arc<Bell>, watched: bool) {
    let mut engine = process.engine();
    if watched {
        engine.watchers -= 1;
    } else {
        engine.followers.retain(|follower| !Arc::ptr_eq(follower, bell));
    }
}

/// After a wait is over for good: if nobody watches the context, a follower must.
fn pass_on(process: &Process) {
    let engine = process.engine();
    if engine.watchers == 0 {
        if let Some(follower) = engine.followers.first() {
            follower.ring();
        }
    }
}

fn doze(bell: &Bell, network: Option<&Network>, sleep: Sleep<'_>) -> Result<()> {
    let own = sleep.kernel.len();
    let entry = |fd| pollfd { fd, events: libc::POLLIN, revents: 0 };
    sleep.kernel.push(entry(bell.descriptor()));
    if let Some(network) = network {
        sleep.kernel.push(entry(network.context.eventfd().as_raw_fd()));
    }
    let left = sleep.deadline.remaining().map(timespec_of);
    let limit = left.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the entries and the time are valid; the mask is null or the caller's.
    let ready = unsafe { real::ppoll(sleep.kernel.as_mut_ptr(), sleep.kernel.len() as _, limit, sleep.mask) };
    sleep.kernel.truncate(own);
    if ready < 0 {
        Err(Errno::last())
    } else {
        Ok(())
    }
}

/// What one look at a socket gives.
pub(crate) enum Attempt<T> {
    /// Done.
    Done(T),
    /// Wait for something to happen to the socket and look again.
    Wait,
}

/// Looks at stream `token` with `attempt`, under the engine's lock, until it is done.
///
/// # Errors
/// EAGAIN when `limit` is over, EINTR after a signal whose handler does not restart calls, EBADF
/// when the socket is closed meanwhile, and what `attempt` reports.
pub(crate) fn block<T>(
    process: &Process,
    token: Token,
    limit: Option<Duration>,
    mut attempt: impl FnMut(&mut Engine) -> Result<Attempt<T>>,
) -> Result<T> {
    let saved = Errno::last();
    let deadline = Deadline::after(limit);
    let bell = bell::mine()?;
    let mut kernel = Vec::with_capacity(2);
    spin(process, &mut attempt)?.map_or_else(
        || {
            let result = loop {
                process.pump();
                match attempt_or_enroll(process, token, &bell, &mut attempt) {
                    Ok(Attempt::Wait) => {}
                    Ok(Attempt::Done(value)) => break Ok(value),
                    Err(error) => break Err(error),
                }
                let slept = if deadline.is_over() {
                    Err(Errno(libc::EAGAIN))
                } else {
                    let sleep_on =
                        Sleep { kernel: &mut kernel, deadline, mask: ptr::null(), may_follow: true };
                    sleep(process, &bell, sleep_on)
                };
                withdraw(process, token, &bell);
                match slept {
                    // With a time limit Linux interrupts whatever the handler says (sock_intr_errno).
                    Err(Errno(libc::EINTR)) if limit.is_none() && handlers_restart() => {}
                    Err(error) => break Err(error),
                    Ok(()) => {}
                }
            };
            pass_on(process);
            if result.is_ok() {
                saved.set();
            }
            result
        },
        Ok,
    )
}

/// Polls for a while before the first sleep, where processors abound.
fn spin<T>(
    process: &Process,
    attempt: &mut impl FnMut(&mut Engine) -> Result<Attempt<T>>,
) -> Result<Option<T>> {
    let budget = process.network().map_or(0, |network| network.spin_us);
    if budget == 0 {
        return Ok(None);
    }
    let end = Instant::now() + Duration::from_micros(budget.into());
    loop {
        process.pump();
        if let Attempt::Done(value) = attempt(&mut process.engine())? {
            return Ok(Some(value));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        std::hint::spin_loop();
    }
}

fn attempt_or_enroll<T>(
    process: &Process,
    token: Token,
    bell: &Arc<Bell>,
    attempt: &mut impl FnMut(&mut Engine) -> Result<Attempt<T>>,
) -> Result<Attempt<T>> {
    let mut engine = process.engine();
    let done = attempt(&mut engine)?;
    if matches!(done, Attempt::Wait) {
        engine.stream(token)?.waiters.push(bell.clone());
    }
    Ok(done)
}

fn withdraw(process: &Process, token: Token, bell: &Arc<Bell>) {
    if let Ok(stream) = process.engine().stream(token) {
        stream.waiters.retain(|waiter| !Arc::ptr_eq(waiter, bell));
    }
}

/// Ends a wait of poll(), select() or epoll_wait().
pub(crate) fn finish(process: &Process) {
    if process.network().is_some() {
        pass_on(process);
    }
}

/// Whether an interrupted call goes on: every handler that is installed asked for it (SA_RESTART).
/// ppoll() itself never restarts after a handler; which one ran is not known, so that with handlers of
/// both kinds the call is interrupted, as a program that left SA_RESTART out expects.
fn handlers_restart() -> bool {
    (1..=libc::SIGRTMAX()).all(|signal| {
        // SAFETY: all-zero is a valid sigaction to be overwritten; nothing is installed.
        let (result, action) = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            (libc::sigaction(signal, ptr::null(), &mut action), action)
        };
        result < 0
            || action.sa_sigaction == libc::SIG_DFL
            || action.sa_sigaction == libc::SIG_IGN
            || action.sa_flags & libc::SA_RESTART != 0
    })
}
