// SPDX-License-Identifier: MIT OR Apache-2.0
//! The process's state: the engine, and the attachment made by the first TCP socket.
//!
//! One context serves all threads. A child of fork starts with nothing: what it inherited stays
//! untouched in memory (its rings are not mapped there), and its own first socket attaches anew.

use super::{
    engine::Engine,
    fork, report,
    report::Reason,
    table::{Entry, TABLE},
};
use crate::{
    control,
    lowlevel::{
        self,
        lock::{Guard, Lock},
        Application, Context, Event,
    },
};
use std::{
    ptr,
    sync::{
        atomic::{AtomicPtr, AtomicU64, Ordering},
        Arc, Mutex, OnceLock, PoisonError,
    },
};

/// Environment variable: with 1 nothing falls back to Linux, calls fail instead.
const REQUIRE_VARIABLE: &str = "TAS_REQUIRE";
/// Events taken from the context at a time.
const EVENT_BATCH: usize = 64;
/// How long what a pump found counts as fresh: some 20 microseconds, well below what the network
/// takes to tell anything.
const FRESH_TICKS: u64 = 50_000;
/// Longest time a thread polls before it sleeps; longer than a round trip it would only warm the
/// room.
const SPIN_MAX_US: u32 = 50;
/// On a machine with fewer processors than this a spinning thread takes the fast path's.
const SPIN_PROCESSORS_MIN: usize = 4;

/// The attachment.
pub(crate) struct Network {
    pub(crate) application: Arc<Application>,
    pub(crate) context: Arc<Context>,
    /// Microseconds to poll before sleeping.
    pub(crate) spin_us: u32,
}

/// See the module.
pub(crate) struct Process {
    engine: Lock<Engine>,
    network: OnceLock<Option<Network>>,
    required: bool,
    /// Time stamp of the last pump.
    pumped_at: AtomicU64,
    /// [`FRESH_TICKS`], unless [`set_fresh_ticks`] changed it.
    fresh_ticks: AtomicU64,
}

static PROCESS: AtomicPtr<Process> = AtomicPtr::new(ptr::null_mut());
static RESTART: Mutex<()> = Mutex::new(());

/// The process's state, made at first use.
#[inline]
pub(crate) fn process() -> &'static Process {
    if fork::in_child() {
        become_child();
    }
    let known = PROCESS.load(Ordering::Acquire);
    // SAFETY: null or leaked.
    unsafe { known.as_ref() }.unwrap_or_else(create)
}

#[cold]
fn create() -> &'static Process {
    let _turn = RESTART.lock().unwrap_or_else(PoisonError::into_inner);
    let known = PROCESS.load(Ordering::Acquire);
    // SAFETY: null or leaked.
    if let Some(process) = unsafe { known.as_ref() } {
        return process;
    }
    fork::mark();
    let process = Box::leak(Box::new(Process {
        engine: Lock::new(Engine::default()),
        network: OnceLock::new(),
        pumped_at: AtomicU64::new(0),
        fresh_ticks: AtomicU64::new(FRESH_TICKS),
        required: std::env::var_os(REQUIRE_VARIABLE).is_some_and(|value| !value.is_empty() && value != "0"),
    }));
    PROCESS.store(process, Ordering::Release);
    process
}

/// What `fd` is, if it is ours. In a child of fork the parent's sockets are [`Entry::Foreign`].
#[inline]
pub(crate) fn find(fd: i32) -> Option<Entry> {
    let entry = TABLE.get(fd)?;
    if fork::in_child() {
        become_child();
        return TABLE.get(fd);
    }
    Some(entry)
}

/// Forgets the parent's sockets. Its objects stay in memory: their locks may be held by threads
/// that do not exist here.
#[cold]
fn become_child() {
    let _turn = RESTART.lock().unwrap_or_else(PoisonError::into_inner);
    if !fork::in_child() {
        return;
    }
    TABLE.for_each(0, i32::MAX, |fd, entry| {
        // An epoll instance goes on as the kernel's, without the parent's sockets.
        TABLE.set(fd, matches!(entry, Entry::Stream(_) | Entry::Foreign).then_some(Entry::Foreign));
    });
    PROCESS.store(ptr::null_mut(), Ordering::Release);
    report::restart();
    fork::mark();
}

impl Process {
    /// Locks the engine. No panic can happen under it that would leave it inconsistent.
    #[inline]
    pub(crate) fn engine(&self) -> Guard<'_, Engine> {
        self.engine.lock()
    }

    /// Whether falling back to Linux is forbidden.
    pub(crate) fn is_required(&self) -> bool {
        self.required
    }

    /// The attachment, if there is one already.
    #[inline]
    pub(crate) fn network(&self) -> Option<&Network> {
        self.network.get()?.as_ref()
    }

    /// The attachment, made now if this is the first call. None, explained once, when the slow
    /// path cannot be reached; that is not tried again in this process.
    pub(crate) fn attach(&self) -> Option<&Network> {
        let network = self.network.get_or_init(|| match connect() {
            Ok(network) => Some(network),
            Err(error) => {
                let instead = if self.required {
                    "TCP sockets are refused (TAS_REQUIRE)"
                } else {
                    "TCP sockets are Linux's"
                };
                report::count(Reason::NotAttached, || format!("not attached, {instead}: {error}"));
                None
            }
        });
        network.as_ref()
    }

    /// Takes what arrived and tells who waits for it.
    #[inline]
    pub(crate) fn pump(&self) {
        if let Some(network) = self.network() {
            self.pump_into(network, &mut self.engine());
        }
    }

    /// Locks the engine after [`Self::pump`].
    #[inline]
    pub(crate) fn pumped(&self) -> Guard<'_, Engine> {
        let mut engine = self.engine();
        if let Some(network) = self.network() {
            self.pump_into(network, &mut engine);
        }
        engine
    }

    /// [`Self::pump`], unless it was done a moment ago: for calls that mostly follow one that did.
    #[inline]
    pub(crate) fn pump_if_stale(&self) {
        let now = ticks();
        let age = now.wrapping_sub(self.pumped_at.load(Ordering::Relaxed));
        if now == 0 || age > self.fresh_ticks.load(Ordering::Relaxed) {
            self.pump_stale();
        }
    }

    #[cold]
    fn pump_stale(&self) {
        self.pump();
    }

    fn pump_into(&self, network: &Network, engine: &mut Engine) {
        self.pumped_at.store(ticks(), Ordering::Relaxed);
        let mut events = std::mem::take(&mut engine.events);
        if events.is_empty() {
            events = vec![Event::default(); EVENT_BATCH].into_boxed_slice();
        }
        loop {
            let count = network.context.poll(&mut events);
            events.iter().take(count).for_each(|event| engine.dispatch(event));
            if count < events.len() {
                break;
            }
        }
        engine.events = events;
    }
}

/// The processor's time-stamp counter; zero where reading it costs as much as looking at the rings.
#[inline]
fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has it.
    return unsafe { std::arch::x86_64::_rdtsc() };
    #[cfg(not(target_arch = "x86_64"))]
    0
}

/// How many ticks of the time-stamp counter what was found in the rings counts as fresh, instead of some 20
/// microseconds. For measurements under an emulator, which runs far fewer instructions in that time than a processor.
pub fn set_fresh_ticks(ticks: u64) {
    process().fresh_ticks.store(ticks, Ordering::Relaxed);
}

/// Uses an application that was attached by other means (a simulator, a benchmark) instead of what
/// the environment names. Call it before the first socket.
///
/// # Errors
/// EALREADY: the process is attached. What creating a context reports.
pub fn attach_to(application: &Arc<Application>) -> std::io::Result<()> {
    let network = network_of(application)?;
    let attached = process().network.set(Some(network));
    attached.map_err(|_| std::io::Error::from_raw_os_error(libc::EALREADY))
}

fn connect() -> std::io::Result<Network> {
    let instance = control::instance_from_environment();
    let channel = control::open(control::Backend::from_environment()?, &instance)?;
    let options = lowlevel::Options { instance, command: control::attach::command_name() };
    network_of(&Application::attach(channel, &options)?)
}

fn network_of(application: &Arc<Application>) -> std::io::Result<Network> {
    let context = Context::new(application)?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let spin_us =
        if processors < SPIN_PROCESSORS_MIN { 0 } else { application.poll_interval_us().min(SPIN_MAX_US) };
    Ok(Network { application: application.clone(), context, spin_us })
}
