// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two threads of the tool's and one clock. The main thread's waiting moves the clock, from one thing that happens to
//! the next; a call that blocks leaves its attempt here, which is tried again after each of them. When it succeeds the
//! clock stands still until the other thread has asked for the time, as it does right after every call that blocked:
//! so the tool sees it return exactly when it did.

use crate::{settings::Settings, world::World};
use std::{
    collections::HashSet,
    ffi::c_int,
    io,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
    time::Duration,
};

/// How far ahead the main thread looks for something that does not come: longer than any timer, of which keepalive's
/// two hours is the longest.
const LOOK_AHEAD_US: u64 = 3 * 3600 * 1_000_000;
/// How long a call that blocks may take in the main thread, which is a mistake of the script.
const MAIN_BLOCKS_US: u64 = 60_000_000;
/// How long the main thread does nothing, in real time, before a call that blocks moves the clock itself: at the end of
/// a script the tool waits for it.
const MAIN_IDLE: Duration = Duration::from_millis(300);
/// How long the other thread may take, in real time, to ask for the time.
const RETURN_LIMIT: Duration = Duration::from_secs(2);

/// A value, or an errno.
pub(crate) type Answer = Result<i64, c_int>;
/// One attempt of a call; EAGAIN: not yet.
type Attempt = Box<dyn FnMut() -> Answer>;

pub(crate) struct State {
    pub(crate) world: World,
    main: ThreadId,
    /// Descriptors that the script made non-blocking (all of them are, for the library).
    pub(crate) nonblocking: HashSet<c_int>,
    blocked: Option<Blocked>,
    /// A call that blocked has its answer, and its thread has not asked for the time since.
    returning: bool,
    /// Counts what the main thread does.
    moves: u64,
}

struct Blocked {
    attempt: Attempt,
    /// When it gives up, with zero.
    until_us: u64,
    answer: Option<Answer>,
}

pub(crate) struct Plugin {
    state: Mutex<State>,
    changed: Condvar,
}

impl Plugin {
    pub(crate) fn new(settings: &Settings) -> io::Result<Self> {
        let state = State {
            world: World::new(settings)?,
            main: thread::current().id(),
            nonblocking: HashSet::new(),
            blocked: None,
            returning: false,
            moves: 0,
        };
        Ok(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call that never blocks.
    pub(crate) fn call(&self, attempt: impl FnOnce(&mut State) -> Answer) -> Answer {
        let mut state = self.lock();
        let answer = attempt(&mut state);
        drop(self.settled(state));
        answer
    }

    /// A call that blocks, at most for `limit_us`, if `blocks`.
    pub(crate) fn wait(&self, blocks: bool, limit_us: Option<u64>, mut attempt: Attempt) -> Answer {
        let mut state = self.lock();
        let first = attempt();
        if first != Err(libc::EAGAIN) || !blocks || state.blocked.is_some() {
            drop(self.settled(state));
            return first;
        }
        state.world.settle();
        let until_us = limit_us.map_or(u64::MAX, |limit| state.world.now_us().saturating_add(limit));
        if thread::current().id() == state.main {
            return Self::wait_in_main(state, until_us, attempt);
        }
        state.blocked = Some(Blocked { attempt, until_us, answer: None });
        loop {
            if let Some(answer) = state.blocked.as_ref().and_then(|blocked| blocked.answer) {
                state.blocked = None;
                return answer;
            }
            let moves = state.moves;
            let waited = self.changed.wait_timeout(state, MAIN_IDLE);
            let (again, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = again;
            if timeout.timed_out() && state.moves == moves {
                if let Some(Blocked { attempt, until_us, answer: None }) = state.blocked.take() {
                    return Self::wait_in_main(state, until_us, attempt);
                }
            }
        }
    }

    /// A call that blocks moves the clock itself.
    fn wait_in_main(mut state: MutexGuard<'_, State>, until_us: u64, mut attempt: Attempt) -> Answer {
        let limit_us = until_us.min(state.world.now_us() + MAIN_BLOCKS_US);
        loop {
            let answer = attempt();
            let over = state.world.now_us() >= limit_us;
            match answer {
                Err(libc::EAGAIN) if over && limit_us == until_us => return Ok(0),
                Err(libc::EAGAIN) if !over => state.world.advance(limit_us),
                answer => {
                    state.world.settle();
                    return answer;
                }
            }
        }
    }

    /// Something happened: runs it to its end, and then the call that blocks.
    fn settled<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.world.settle();
        self.retry(state)
    }

    /// Tries the call that blocks once more. If it has its answer, waits until its thread has noted the time.
    fn retry<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let now_us = state.world.now_us();
        state.moves += 1;
        let Some(blocked) = state.blocked.as_mut().filter(|blocked| blocked.answer.is_none()) else {
            return state;
        };
        match (blocked.attempt)() {
            Err(libc::EAGAIN) if now_us < blocked.until_us => return state,
            Err(libc::EAGAIN) => blocked.answer = Some(Ok(0)),
            answer => blocked.answer = Some(answer),
        }
        state.world.settle();
        state.returning = true;
        self.changed.notify_all();
        let waited = self.changed.wait_timeout_while(state, RETURN_LIMIT, |state| state.returning);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.returning = false;
        state
    }

    /// Lets time pass in the main thread until `until_us`, or until `done`.
    fn pass(&self, until_us: u64, done: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while !done(&state) && state.world.now_us() < until_us {
            let blocked_us = state.blocked.as_ref().map_or(u64::MAX, |blocked| blocked.until_us);
            let now_us = state.world.now_us();
            state.world.advance(until_us.min(blocked_us.max(now_us + 1)));
            state = self.retry(state);
        }
        state
    }

    /// Lets `us` pass.
    pub(crate) fn sleep(&self, us: u64) {
        let until_us = self.lock().world.now_us() + us;
        drop(self.pass(until_us, |_| false));
    }

    /// The next datagram of the host's, however long it takes.
    pub(crate) fn receive(&self) -> Option<crate::world::Sent> {
        let until_us = self.lock().world.now_us() + LOOK_AHEAD_US;
        self.pass(until_us, |state| !state.world.sent.is_empty()).world.sent.pop_front()
    }

    /// The peer sends a datagram.
    pub(crate) fn inject(&self, datagram: &[u8]) {
        let mut state = self.lock();
        state.world.inject(datagram);
        drop(self.retry(state));
    }

    /// The time. The tool asks in a loop while it waits for the last microseconds: each time one passes.
    pub(crate) fn now_us(&self) -> u64 {
        let mut state = self.lock();
        if thread::current().id() != state.main && std::mem::take(&mut state.returning) {
            self.changed.notify_all();
            return state.world.now_us();
        }
        state.world.tick();
        self.retry(state).world.now_us()
    }
}
