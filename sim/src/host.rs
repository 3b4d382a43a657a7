// SPDX-License-Identifier: MIT OR Apache-2.0
//! One host: an instance of the slow path, one fast-path core over some port, applications.

use crate::{channel::InProcess, random::Random};
use abi::{
    adjacency::Adjacency,
    clock::ClockPage,
    context::{ring_bytes, ContextHeader, ContextLayout},
    core_status::CoreStatus,
    event::EVENT_WORDS,
    flow::{ColdFlow, HotFlow},
    kernel_ring::KERNEL_WORDS,
    limits,
    message::{congestion, notice, AttachControl, AttachFast, Message, Notice, Op, Status},
    pool::SEGMENT_BYTES,
    recovery::RecoveryBlock,
    region::{kernel_rings, recovery_blocks, Region, RegionKind},
    version,
};
use daemon::{Client, Credentials, Instance, Memory, MemoryKind, Settings};
use fastpath::{Command, Config, ContextMemory, Core, CoreMemory, NoSteer, Port, Shared, Tables};
use ring::SharedBytes;
use std::{
    io,
    sync::{
        atomic::{AtomicU64, Ordering::Relaxed},
        Arc, Mutex, PoisonError,
    },
};
use tas::lowlevel::{Application, Options};

/// What a host is made with.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// IPv4 address, host order.
    pub ipv4: u32,
    /// Prefix length.
    pub prefix: u32,
    /// MAC address.
    pub mac: [u8; 6],
    /// Flow slots.
    pub flows: u32,
    /// Seed of the slow path's random choices.
    pub seed: u64,
    /// Values of [`abi::message::congestion`].
    pub congestion: u32,
    /// Does the port fill in transmit checksums?
    pub tx_checksum_offload: bool,
    /// Receive buffer of a flow, bytes.
    pub rx_buffer_bytes: u32,
    /// Transmit buffer of a flow, bytes.
    pub tx_buffer_bytes: u32,
}

impl HostConfig {
    /// The host 10.0.0.`number`.
    pub fn numbered(number: u8, seed: u64) -> Self {
        Self {
            ipv4: 0x0a00_0000 | u32::from(number),
            prefix: 24,
            mac: [2, 0, 0, 0, 0, number],
            flows: 1024,
            seed: seed ^ u64::from(number) << 32,
            congestion: congestion::NEWRENO,
            tx_checksum_offload: false,
            rx_buffer_bytes: 64 * 1024,
            tx_buffer_bytes: 64 * 1024,
        }
    }
}

/// A host. Drive it with [`Host::step`].
pub struct Host<P: Port> {
    // Fields are dropped in order: the core before the memory that it refers to.
    core: Core<'static, P>,
    shared: Arc<Shared>,
    channels: Vec<Arc<InProcess>>,
    instance: Arc<Mutex<Instance>>,
    fast: Client,
    config: HostConfig,
    now_us: Arc<AtomicU64>,
    status: &'static CoreStatus,
    held: Vec<Arc<Memory>>,
}

/// Extends a borrow of memory that the host holds for as long as its core.
///
/// # Safety
/// The memory behind it is in `Host::held` and is dropped after everything that uses the result.
unsafe fn forever<T: ?Sized>(borrowed: &T) -> &'static T {
    // SAFETY: the caller's contract.
    unsafe { &*std::ptr::from_ref(borrowed) }
}

/// As [`forever`], for bytes.
///
/// # Safety
/// As [`forever`].
unsafe fn bytes_forever(bytes: SharedBytes<'_>) -> SharedBytes<'static> {
    // SAFETY: the caller's contract.
    unsafe { std::mem::transmute::<SharedBytes<'_>, SharedBytes<'static>>(bytes) }
}

fn gone(what: &str) -> io::Error {
    io::Error::other(format!("the instance has no {what}"))
}

/// Regions of the instance, kept for the life of the host.
struct Regions<'a> {
    instance: &'a Mutex<Instance>,
    held: &'a mut Vec<Arc<Memory>>,
}

impl Regions<'_> {
    fn get(&mut self, region: Region) -> io::Result<&'static Memory> {
        let memory = self.instance.lock().unwrap_or_else(PoisonError::into_inner).region(region);
        let memory = memory.ok_or_else(|| gone("such region"))?;
        // SAFETY: held until the host is dropped, after its core.
        let view = unsafe { forever(&*memory) };
        self.held.push(memory);
        Ok(view)
    }
    fn whole(&mut self, kind: RegionKind) -> io::Result<&'static Memory> {
        self.get(Region::whole(kind, 0))
    }
}

impl<P: Port> Host<P> {
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
        let settings =
            Settings { poll_interval_us: 0, ..Settings::new("tas0", MemoryKind::Memfd, secret(config.seed)) };
        let mut instance = Instance::new(settings)?;
        let fast = instance.connect(Credentials { pid: 1, uid: 0, gid: 0, privileged: true });
        let now = now_us.load(Relaxed);
        let mut body = attach_body(&config);
        tune(&mut body);
        request(&mut instance, now, fast, &mut Message::with(Op::AttachFast, 0, &body))?;
        let instance = Arc::new(Mutex::new(instance));
        let mut held = Vec::new();
        let mut regions = Regions { instance: &instance, held: &mut held };
        let (tables, memory) = map_tables(&mut regions, config.flows)?;
        let status = memory.status;
        let shared = Arc::new(Shared::new(&tables));
        shared.adopt(&tables, &[]);
        let core_config = Config { mac: config.mac, hash_key: config.seed | 1, ..Config::default() };
        let core = Core::new(core_config, tables, memory, shared.clone(), port, NoSteer, now)
            .map_err(io::Error::other)?;
        let mut host =
            Self { core, shared, channels: Vec::new(), instance, fast, config, now_us, status, held };
        host.carry_out_notices()?;
        host.control(&mut Message::new(Op::Ready, 0))?;
        Ok(host)
    }

    /// The host's configuration.
    pub fn config(&self) -> &HostConfig {
        &self.config
    }

    /// The core's counters.
    pub fn status(&self) -> &CoreStatus {
        self.status
    }

    /// The core, for harnesses that run its stages themselves.
    pub fn core_mut(&mut self) -> &mut Core<'static, P> {
        &mut self.core
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

    /// The flows of the slow path in words, for messages of failed tests.
    pub fn describe_flows(&mut self) -> Vec<String> {
        let flows = Region::whole(RegionKind::FlowCold, 0);
        let hot = Region::whole(RegionKind::FlowHot, 0);
        let count = self.config.flows as usize;
        let instance = self.instance();
        let (Some(cold), Some(hot)) = (instance.region(flows), instance.region(hot)) else {
            return Vec::new();
        };
        let (Some(cold), Some(hot)) = (cold.table::<ColdFlow>(0, count), hot.table::<HotFlow>(0, count))
        else {
            return Vec::new();
        };
        let used = cold.iter().zip(hot).filter(|(cold, _)| cold.state.load(Relaxed) != 0);
        used.map(|(cold, hot)| {
            format!(
                "slot {} tcp {} hot flags {:#x} una {:#x} nxt {:#x} end {:#x} rcv_nxt {:#x} read {:#x} timeouts {}",
                cold.state.load(Relaxed),
                cold.tcp_state.load(Relaxed),
                hot.flags.load(Relaxed),
                hot.snd_una.load(Relaxed),
                hot.snd_nxt.load(Relaxed),
                hot.snd_end.load(Relaxed),
                hot.rcv_nxt.load(Relaxed),
                hot.rcv_read.load(Relaxed),
                cold.timeouts.load(Relaxed),
            )
        })
        .collect()
    }

    /// Flow slots in use.
    pub fn flows_used(&mut self) -> u32 {
        let mut message = Message::with(
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
        let mut status = Message::new(Op::Status, 0);
        let answered = request(&mut instance, now, client, &mut message)
            .and_then(|()| request(&mut instance, now, client, &mut status));
        instance.disconnect(now, client);
        answered.map_or(u32::MAX, |()| status.get::<Status>().flows_used)
    }

    /// Runs everything that is due, until nothing changes any more at this time.
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
            let work = self.core.poll(now);
            self.core.drain_wakes(|_| ());
            self.core.slow_path_needs_wake();
            let mut instance = self.instance();
            let had_input = instance.has_input();
            instance.run_once(now);
            while instance.poll_wake().is_some() {}
            drop(instance);
            if work.is_idle() && !had_input {
                break;
            }
        }
        Ok(())
    }

    /// The next time at which something is due without a frame or a call.
    pub fn next_deadline_us(&mut self) -> Option<u64> {
        let now = self.now_us.load(Relaxed);
        let slow = self.instance().run_once(now);
        [self.core.next_deadline_us(), slow].into_iter().flatten().min()
    }

    /// Does what the slow path asks of the fast path's control thread.
    ///
    /// # Errors
    /// A region that is not there or too short.
    pub fn carry_out_notices(&mut self) -> io::Result<()> {
        loop {
            let mut message = Message::new(Op::NextNotice, 0);
            match self.control(&mut message) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => return Ok(()),
                Err(error) => return Err(error),
            }
            let asked: Notice = message.get();
            self.carry_out(&asked)?;
            self.control(&mut Message::with(Op::NoticeDone, 0, &asked))?;
        }
    }

    fn carry_out(&mut self, asked: &Notice) -> io::Result<()> {
        let application = asked.application as u16;
        match asked.kind {
            notice::CONTEXT_ADDED => {
                let memory = self.region(Region::whole(RegionKind::Context, asked.index))?;
                let memory = context_memory(memory)?;
                self.command(Command::AddContext { context: asked.index as u16, application, memory })
            }
            notice::CONTEXT_REMOVED => self.command(Command::RemoveContext { context: asked.index as u16 }),
            notice::POOL_SEGMENT => {
                let memory = self.segment(RegionKind::Pool, asked)?;
                // SAFETY: the memory is held by the host.
                let bytes = unsafe { bytes_forever(memory.bytes()) };
                self.command(Command::AddPoolSegment { application, segment: asked.index, bytes })?;
                self.shared.add_pool_segment(application, asked.index);
                Ok(())
            }
            notice::MAP_SEGMENT => {
                let memory = self.segment(RegionKind::Maps, asked)?;
                let words = memory
                    .bytes()
                    .atomics_u32(0, SEGMENT_BYTES as usize / 4)
                    .ok_or_else(|| gone("map words"))?;
                // SAFETY: the memory is held by the host.
                let words = unsafe { forever(words) };
                self.command(Command::AddMapSegment { application, segment: asked.index, words })
            }
            notice::APPLICATION_REMOVED => {
                self.command(Command::RemoveApplication { application })?;
                self.shared.remove_application(application);
                Ok(())
            }
            kind => Err(io::Error::other(format!("notice of unknown kind {kind}"))),
        }
    }

    fn segment(&mut self, kind: RegionKind, asked: &Notice) -> io::Result<&'static Memory> {
        self.region(Region { kind, index: asked.application, byte_offset: asked.index * SEGMENT_BYTES })
    }

    fn region(&mut self, region: Region) -> io::Result<&'static Memory> {
        Regions { instance: &self.instance, held: &mut self.held }.get(region)
    }

    fn command(&mut self, command: Command<'static>) -> io::Result<()> {
        self.core.command(command).map_err(io::Error::other)
    }

    fn control(&self, message: &mut Message) -> io::Result<()> {
        request(&mut self.instance(), self.now_us.load(Relaxed), self.fast, message)
    }
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

fn attach_body(config: &HostConfig) -> AttachFast {
    let mac = config.mac.iter().fold(0, |mac, byte| mac << 8 | u64::from(*byte));
    AttachFast {
        abi_hash: version::FAST_HASH,
        version: version::FAST_VERSION,
        cores: 1,
        flows: config.flows,
        mtu_bytes: 1500,
        ipv4: config.ipv4,
        prefix: config.prefix,
        mac,
        congestion: config.congestion,
        handshake_timeout_us: 10_000,
        handshake_retries: 10,
        rto_min_us: 5_000,
        rx_buffer_bytes: config.rx_buffer_bytes,
        tx_buffer_bytes: config.tx_buffer_bytes,
        link_kbps: 10_000_000,
        rtt_init_us: 50,
        control_interval_rtts: 2,
        dctcp_weight: 4096,
        dctcp_init_kbps: 10_000,
        dctcp_step_kbps: 10_000,
        dctcp_min_kbps: 1_000,
        arp_timeout_us: 500,
        arp_age_us: 60_000_000,
        time_wait_us: 10_000,
        features: 1 | u32::from(config.tx_checksum_offload) << 2,
        ..AttachFast::default()
    }
}

fn map_tables(regions: &mut Regions<'_>, flows: u32) -> io::Result<(Tables<'static>, CoreMemory<'static>)> {
    let count = flows as usize;
    let tables = Tables {
        hot: regions
            .whole(RegionKind::FlowHot)?
            .table::<HotFlow>(0, count)
            .ok_or_else(|| gone("hot flows"))?,
        cold: regions
            .whole(RegionKind::FlowCold)?
            .table::<ColdFlow>(0, count)
            .ok_or_else(|| gone("cold flows"))?,
        adjacencies: regions
            .whole(RegionKind::Adjacencies)?
            .table::<Adjacency>(0, limits::ADJACENCIES_MAX as usize)
            .ok_or_else(|| gone("adjacencies"))?,
        recovery: regions
            .whole(RegionKind::Recovery)?
            .table::<RecoveryBlock>(0, recovery_blocks(flows) as usize)
            .ok_or_else(|| gone("recovery blocks"))?,
        clock: regions
            .whole(RegionKind::Clock)?
            .table::<ClockPage>(0, 1)
            .and_then(<[_]>::first)
            .ok_or_else(|| gone("clock"))?,
    };
    let status = regions.whole(RegionKind::CoreStatus)?.table::<CoreStatus>(0, 1).and_then(<[_]>::first);
    let rings = regions.whole(RegionKind::KernelRings)?;
    let words = ring_bytes(limits::KERNEL_RING_ENTRIES, KERNEL_WORDS) / 8;
    let slots = |offset| {
        // SAFETY: the memory is held by the host.
        rings.bytes().slice(offset, kernel_rings::SLOTS_BYTES).map(|bytes| unsafe { bytes_forever(bytes) })
    };
    let memory = CoreMemory {
        status: status.ok_or_else(|| gone("core status"))?,
        to_fast: rings.words(kernel_rings::TO_FAST, words).ok_or_else(|| gone("kernel ring"))?,
        to_slow: rings.words(kernel_rings::TO_SLOW, words).ok_or_else(|| gone("kernel ring"))?,
        to_fast_slots: slots(kernel_rings::TO_FAST_SLOTS).ok_or_else(|| gone("packet slots"))?,
        to_slow_slots: slots(kernel_rings::TO_SLOW_SLOTS).ok_or_else(|| gone("packet slots"))?,
    };
    Ok((tables, memory))
}

fn context_memory(memory: &'static Memory) -> io::Result<ContextMemory<'static>> {
    let entries = limits::CONTEXT_RING_ENTRIES;
    let layout = ContextLayout { cores: 1, entries, kernel_entries: limits::KERNEL_EVENT_ENTRIES };
    let words = ring_bytes(entries, EVENT_WORDS) / 8;
    let header =
        memory.table::<ContextHeader>(0, 1).and_then(<[_]>::first).ok_or_else(|| gone("context header"))?;
    Ok(ContextMemory {
        waiting: &header.waiting,
        to_fast: memory.words(layout.to_fast(0), words).ok_or_else(|| gone("context ring"))?,
        to_application: memory.words(layout.to_application(0), words).ok_or_else(|| gone("context ring"))?,
        entries,
    })
}

/// The slow path's keys, from the seed.
fn secret(seed: u64) -> [u64; 6] {
    let mut random = Random::new(seed);
    std::array::from_fn(|_| random.next())
}
