// SPDX-License-Identifier: MIT OR Apache-2.0
//! One host: an instance of the slow path, fast-path cores over some port, applications.

mod attach;
mod config;
mod drive;
mod inspect;
mod regions;

pub use config::HostConfig;
pub use drive::Stall;

use crate::{channel::InProcess, random::Random};
use abi::{
    core_status::CoreStatus,
    message::{AttachControl, AttachFast, Message, Op},
    version,
};
use daemon::{Client, Credentials, Instance, Memory, MemoryKind, Settings};
use drive::Drive;
use fastpath::{Core, NoSteer, Port, Shared, Steer};
use std::{
    io,
    sync::{
        atomic::{AtomicU64, Ordering::Relaxed},
        Arc, Mutex, PoisonError,
    },
};
use tas::lowlevel::{Application, Options};

/// A host. Drive it with [`Host::step`], or, over a [`crate::WirePort`], with [`Host::run`].
pub struct Host<P: Port, S: Steer<P::Packet> = NoSteer> {
    // Fields are dropped in order: the cores before the memory that they refer to.
    cores: Vec<Core<'static, P, S>>,
    shared: Option<Arc<Shared>>,
    channels: Vec<Arc<InProcess>>,
    instance: Arc<Mutex<Instance>>,
    fast: Client,
    config: HostConfig,
    body: AttachFast,
    now_us: Arc<AtomicU64>,
    status: Vec<&'static CoreStatus>,
    drive: Drive,
    held: Vec<Arc<Memory>>,
}

/// Rounds of one step: far more than any exchange at one instant needs; a livelock ends here.
const STEP_ROUNDS: usize = 10_000;

fn request(instance: &mut Instance, now_us: u64, client: Client, message: &mut Message) -> io::Result<()> {
    instance.request(now_us, client, message);
    match message.error {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno as i32)),
    }
}

/// The slow path's keys, from the seed.
fn secret(seed: u64) -> [u64; 6] {
    let mut random = Random::new(seed);
    std::array::from_fn(|_| random.next())
}

/// Who the fast path is: the operating system's word for it.
const FAST_PATH: Credentials = Credentials { pid: 1, uid: 0, gid: 0, privileged: true };

impl<P: Port> Host<P, NoSteer> {
    /// A host whose fast path is attached and ready.
    ///
    /// # Errors
    /// What attaching reports.
    pub fn new(config: HostConfig, port: P, now_us: Arc<AtomicU64>) -> io::Result<Self> {
        Self::tuned(config, port, now_us, |_| ())
    }

    /// As [`Self::new`], with changes to what the fast path asks for when it attaches.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn tuned(
        config: HostConfig,
        port: P,
        now_us: Arc<AtomicU64>,
        tune: impl FnOnce(&mut AttachFast),
    ) -> io::Result<Self> {
        Self::with_cores(config, vec![(port, NoSteer)], now_us, tune)
    }
}

impl<P: Port, S: Steer<P::Packet>> Host<P, S> {
    /// As [`Self::tuned`], with what each core has of the port.
    pub(crate) fn with_cores(
        config: HostConfig,
        lanes: Vec<(P, S)>,
        now_us: Arc<AtomicU64>,
        tune: impl FnOnce(&mut AttachFast),
    ) -> io::Result<Self> {
        let config = HostConfig { cores: lanes.len() as u32, ..config };
        let mut body = config.attach_body();
        tune(&mut body);
        let settings = Settings {
            poll_interval_us: 0,
            pool_segments: config.pool_segments,
            pool_segments_max: config.pool_segments_max,
            ..Settings::new("tas0", MemoryKind::Sparse, secret(config.seed))
        };
        let mut instance = Instance::new(settings)?;
        let fast = instance.connect(FAST_PATH);
        let mut host = Self {
            cores: Vec::new(),
            shared: None,
            channels: Vec::new(),
            instance: Arc::new(Mutex::new(instance)),
            fast,
            config,
            body,
            now_us,
            status: Vec::new(),
            drive: Drive::new(lanes.len()),
            held: Vec::new(),
        };
        host.attach(lanes)?;
        Ok(host)
    }

    /// The host's configuration.
    pub fn config(&self) -> &HostConfig {
        &self.config
    }

    /// The first core's counters.
    pub fn status(&self) -> &CoreStatus {
        self.status[0]
    }

    /// Every core's counters.
    pub(crate) fn statuses(&self) -> &[&'static CoreStatus] {
        &self.status
    }

    /// The first core, for harnesses that run its stages themselves.
    ///
    /// # Panics
    /// Without a fast path ([`Self::kill_fastpath`]).
    pub fn core_mut(&mut self) -> &mut Core<'static, P, S> {
        self.cores.first_mut().expect("a fast path is attached")
    }

    /// The slow path.
    pub fn instance(&self) -> std::sync::MutexGuard<'_, Instance> {
        self.instance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A control channel of a new process on this host.
    ///
    /// # Errors
    /// No descriptor to be had.
    pub fn channel(&mut self) -> io::Result<Arc<InProcess>> {
        let pid = 100 + self.channels.len() as u32;
        let channel = Arc::new(InProcess::connect(self.instance.clone(), self.now_us.clone(), pid)?);
        self.channels.push(channel.clone());
        Ok(channel)
    }

    /// Sockets of the applications so far get numbers from `first` on; see [`InProcess::number_sockets`].
    pub fn number_sockets(&self, first: std::os::fd::RawFd) {
        self.channels.iter().for_each(|channel| channel.number_sockets(first));
    }

    /// The application with this number (in order of creation) dies.
    pub fn kill_application(&mut self, number: usize) {
        if let Some(channel) = self.channels.get(number) {
            channel.disconnect();
        }
        self.slow_path_was_called();
    }

    /// A new application, attached.
    ///
    /// # Errors
    /// What attaching reports.
    pub fn application(&mut self) -> io::Result<Arc<Application>> {
        let channel = self.channel()?;
        let options = Options { instance: "tas0".to_owned(), command: *b"sim\0\0\0\0\0\0\0\0\0\0\0\0\0" };
        let application = Application::attach(channel, &options)?;
        self.carry_out_notices()?;
        Ok(application)
    }

    /// Asks as `tasctl` would.
    fn ask(&self, message: &mut Message) -> io::Result<()> {
        let mut hello = Message::with(
            Op::AttachControl,
            0,
            &AttachControl {
                abi_hash: version::CONTROL_HASH,
                version: version::CONTROL_VERSION,
                ..AttachControl::default()
            },
        );
        let now = self.now_us.load(Relaxed);
        let mut instance = self.instance();
        let client = instance.connect(Credentials::default());
        let answered = request(&mut instance, now, client, &mut hello)
            .and_then(|()| request(&mut instance, now, client, message));
        instance.disconnect(now, client);
        answered
    }

    /// Runs everything that is due, until nothing changes any more at this time. The core never sleeps.
    ///
    /// # Errors
    /// What carrying out a notice reports.
    pub fn step(&mut self) -> io::Result<()> {
        let now = self.now_us.load(Relaxed);
        for _ in 0..STEP_ROUNDS {
            self.carry_out_notices()?;
            for channel in &self.channels {
                channel.release_closed();
            }
            let mut is_idle = true;
            for core in &mut self.cores {
                is_idle &= core.poll(now).is_idle();
                core.drain_wakes(|_| ());
                core.slow_path_needs_wake();
            }
            let mut instance = self.instance();
            let had_input = instance.has_input();
            instance.run_once(now);
            while instance.poll_wake().is_some() {}
            drop(instance);
            if is_idle && !had_input {
                break;
            }
        }
        Ok(())
    }

    /// The next time at which something is due without a frame or a call, for [`Self::step`].
    pub fn next_deadline_us(&mut self) -> Option<u64> {
        let now = self.now_us.load(Relaxed);
        let slow = self.instance().run_once(now);
        self.cores.iter().filter_map(Core::next_deadline_us).chain(slow).min()
    }

    fn control(&self, message: &mut Message) -> io::Result<()> {
        request(&mut self.instance(), self.now_us.load(Relaxed), self.fast, message)
    }
}
