// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program: set-up in order, service until a signal, and the way back.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};
use std::sync::Arc;

use abi::limits::{ETHERNET_MTU, IPV6_MTU_MIN};
use anyhow::{bail, ensure, Context, Result};
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tas::control::ControlChannel;

use super::attach;
use super::core_thread::{CoreHandle, CoreStart};
use super::device::{Device, DeviceRequest};
use super::eal::{choose_cpus, lcore_cpus, Eal};
use super::eal_arguments;
use super::host::{has_net_admin, Host, ThisHost};
use super::notices::{self, FirstNotices};
use super::options::Options;
use super::regions::{InstanceMemory, TenantMemory};
use super::steer::{CoreSteer, SteerFabric};
use super::wake::CoreWake;
use crate::{Config, Shared};

/// How often the control thread makes sure that the slow path and the cores are there, when
/// nothing else wakes it.
const CHECK_MS: u16 = 500;

/// Runs the fast path until SIGINT or SIGTERM.
///
/// # Errors
/// What failed, why, and what to type.
pub fn run(options: &Options) -> Result<()> {
    options.check().map_err(anyhow::Error::msg)?;
    check_address(options)?;
    ensure!(has_net_admin(), "the fast path needs CAP_NET_ADMIN; type it with sudo");
    let ready_fd = ready_file(options)?;
    // Blocked before EAL makes its threads, which inherit this.
    let signals = block_signals()?;
    // First, because it fails for reasons that are quickly told.
    let channel = attach::open(options)?;

    let given: Vec<String> = options.eal.iter().chain(&options.dpdk_extra).cloned().collect();
    let mtu_bytes = options.mtu.unwrap_or(ETHERNET_MTU);
    let eal = eal_arguments::complete(&given, options.core.no_hugepages, mtu_bytes, &ThisHost)
        .map_err(anyhow::Error::msg)?;
    let say = |text: &str| {
        if !options.quiet {
            eprintln!("tas-fastpath: {text}");
        }
    };
    eal.notes.iter().for_each(|note| say(note));
    // Dropped in reverse order: the service before the device, the device before EAL.
    let _eal = Eal::start(&eal.words)?;
    let device = Arc::new(Device::start(&device_request(options))?);
    say(&device.describe());
    ensure!(
        options.ip6.is_none() || u32::from(device.mtu_bytes) >= IPV6_MTU_MIN,
        "--ip6 needs an MTU of {IPV6_MTU_MIN} or more (RFC 8200), and the port has {}",
        device.mtu_bytes
    );

    let mut service = Service::start(options, channel, Arc::clone(&device))?;
    announce(options, ready_fd)?;
    let result = service.serve(&signals);
    let dropped = service.stop()?;
    result?;
    say(&format!("ended; frames lost: {} by the port, {dropped} between port and core", device.missed()));
    Ok(())
}

/// Linux would answer for an address of its own with resets.
fn check_address(options: &Options) -> Result<()> {
    for net in [Some(options.ip), options.ip6].into_iter().flatten() {
        if let Some(interface) = ThisHost.address_owner(net.address) {
            bail!(
                "{} is already served by Linux on {interface}. Give TAS an address of its own, or type: ip address del {net} dev {interface}",
                net.address
            );
        }
    }
    Ok(())
}

fn device_request(options: &Options) -> DeviceRequest {
    DeviceRequest {
        name: options.port.clone(),
        queues: options.cores as u16,
        mtu_bytes: options.mtu.map(|mtu| mtu as u16),
        tx_checksums: !options.core.no_xsumoffload,
        rx_checksums: !options.core.no_rx_xsumoffload,
        vlan: options.vlan.map(|id| id as u16),
        interrupts: !options.core.no_ints,
    }
}

fn ready_file(options: &Options) -> Result<Option<std::fs::File>> {
    let Some(fd) = options.ready_fd else {
        return Ok(None);
    };
    // SAFETY: only queries the descriptor, whatever it is.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let open = nix::fcntl::fcntl(borrowed, nix::fcntl::FcntlArg::F_GETFD).is_ok();
    ensure!(
        open && fd > 2,
        "--ready-fd {fd}: not an open descriptor of its own; type for example: --ready-fd 3 3>FILE"
    );
    // SAFETY: open, given to us for this purpose, and not one of the standard three.
    Ok(Some(unsafe { std::fs::File::from_raw_fd(fd) }))
}

fn block_signals() -> Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block().context("blocking signals")?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).context("signalfd")
}

/// Says that applications can attach.
fn announce(options: &Options, ready_fd: Option<std::fs::File>) -> Result<()> {
    if !options.quiet {
        println!("tas-fastpath: ready");
        std::io::stdout().flush().context("standard output")?;
    }
    if let Some(mut file) = ready_fd {
        // Eight bytes, so that it may be an eventfd, as with the original.
        file.write_all(&1u64.to_ne_bytes()).context("--ready-fd")?;
    }
    Ok(())
}

/// The cores at work.
struct Service {
    channel: Arc<dyn ControlChannel>,
    cores: Vec<CoreHandle>,
    tenants: TenantMemory,
    shared: Arc<Shared>,
    // Last: the cores' views are into it.
    _memory: InstanceMemory,
}

impl Service {
    fn start(options: &Options, channel: Arc<dyn ControlChannel>, device: Arc<Device>) -> Result<Self> {
        let reply = attach::attach_fast(&*channel, options, &device)?;
        let (flows, mtu_bytes) = (attach::flow_slots(options), u32::from(device.mtu_bytes));
        let memory = InstanceMemory::map(&*channel, flows, options.cores, mtu_bytes)?;
        attach::join_groups(&device, &reply, options.quiet);
        let wakes: Vec<CoreWake> =
            memory.cores.iter().map(|core| CoreWake::new(&core.status.waiting)).collect::<Result<_>>()?;
        attach::register_wakes(&*channel, &wakes)?;
        attach::add_routes(&*channel, options)?;
        let first = FirstNotices::collect(&*channel, options.cores)?;
        let shared = Arc::new(Shared::new(&memory.tables));
        shared.adopt(&memory.tables, &first.adopted());
        if reply.resumed != 0 && !options.quiet {
            eprintln!("tas-fastpath: taking over the connections of an earlier fast path");
        }
        let mut service =
            Self { channel, cores: Vec::new(), tenants: TenantMemory::default(), shared, _memory: memory };
        service.start_cores(options, &device, Arc::new(wakes), first, reply.hash_key[0])?;
        attach::ready(&*service.channel)?;
        Ok(service)
    }

    fn start_cores(
        &mut self,
        options: &Options,
        device: &Arc<Device>,
        wakes: Arc<Vec<CoreWake>>,
        mut first: FirstNotices,
        label_key: u64,
    ) -> Result<()> {
        let cpus = core_cpus(options)?;
        let fabric = SteerFabric::new(options.cores as usize);
        let hash_key = random_word()?;
        let commands = std::mem::take(&mut first.commands);
        // The mappings the commands refer to must outlive a core that fails to start.
        for (core, (memory, commands)) in self._memory.cores.clone().into_iter().zip(commands).enumerate() {
            let start = CoreStart {
                config: Config {
                    core: core as u32,
                    cores: options.cores,
                    mac: device.mac,
                    hash_key,
                    label_key,
                    mtu_bytes: u32::from(device.mtu_bytes),
                    ..Config::default()
                },
                tables: self._memory.tables,
                memory,
                shared: Arc::clone(&self.shared),
                device: Arc::clone(device),
                steer: CoreSteer::new(Arc::clone(&fabric), core, Arc::clone(&wakes)),
                channel: Arc::clone(&self.channel),
                clock: self._memory.clock,
                wakes: Arc::clone(&wakes),
                cpu: cpus.get(core).copied(),
                poll_interval_us: (!options.core.no_ints).then_some(u64::from(options.core.poll_interval)),
                commands,
            };
            match CoreHandle::start(start) {
                Ok(handle) => self.cores.push(handle),
                Err(error) => {
                    // Keeps the applications' mappings until the cores that run have ended.
                    let ended = self.stop();
                    drop(first);
                    return Err(error).context(ended.err().map_or_else(String::new, |e| format!("{e:#}")));
                }
            }
        }
        self.tenants = first.answer(&*self.channel)?;
        Ok(())
    }

    fn serve(&mut self, signals: &SignalFd) -> Result<()> {
        loop {
            let wanted = |fd| PollFd::new(fd, PollFlags::POLLIN);
            let mut waits = [wanted(signals.as_fd()), wanted(self.channel.notice_fd())];
            match poll(&mut waits, PollTimeout::from(CHECK_MS)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error).context("poll"),
            }
            if signals.read_signal().context("signalfd")?.is_some() {
                return Ok(());
            }
            notices::serve(&*self.channel, &self.cores, &mut self.tenants, &self.shared)
                .context("the slow path no longer answers; start it again, then tas-fastpath")?;
            ensure!(!self.cores.iter().any(CoreHandle::has_ended), "a core has ended");
        }
    }

    /// Ends the cores; their flows wait for the next fast path. How many frames they dropped.
    fn stop(&mut self) -> Result<u64> {
        self.cores.iter().for_each(CoreHandle::stop);
        let ends: Vec<Result<u64>> = self.cores.iter_mut().map(CoreHandle::join).collect();
        self.cores.clear();
        ends.into_iter().sum()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Cores must not outlive the memory they use; errors were reported by stop().
        let _ = self.stop();
    }
}

/// The processor of each core; empty: none is fixed.
fn core_cpus(options: &Options) -> Result<Vec<usize>> {
    let cores = options.cores as usize;
    match &options.cpus {
        _ if options.no_pin => Ok(Vec::new()),
        Some(list) => choose_cpus(cores, Some(&list.0)).context("--cpus"),
        None if eal_arguments::names_lcores(&options.eal) => {
            choose_cpus(cores, Some(&lcore_cpus())).context("the processors given to EAL")
        }
        None => choose_cpus(cores, None),
    }
}

/// Randomness for the key of the flow hash.
fn random_word() -> Result<u64> {
    let mut bytes = [0u8; 8];
    let mut file = std::fs::File::open("/dev/urandom").context("/dev/urandom")?;
    std::io::Read::read_exact(&mut file, &mut bytes).context("/dev/urandom")?;
    Ok(u64::from_ne_bytes(bytes))
}
