// SPDX-License-Identifier: MIT OR Apache-2.0
//! Cost of one 64-byte RPC, by stage, in the set-up in which the original was measured: one thread, an
//! in-memory wire (DPDK net_ring), the real fast path and the real client library.
//!
//! A round: a request segment per flow (with the last reply's acknowledgement) is on the wire; then
//! three stages, each a function of its own so that callgrind can tell them apart: *receive* until the wire
//! is empty, *application* serves all flows and polls once more, *transmit* until every reply is out.
//! `scripts/bench rpc-cost` runs this under callgrind at two lengths and takes the difference.

mod application;
mod garbage;
mod peer;
mod sockets;
mod wire;

use anyhow::{ensure, Result};
use application::Server;
use clap::{Parser, ValueEnum};
use fastpath::dpdk::{DpdkPort, Eal};
use peer::{Addresses, Heard, Peer};
use sim::{Host, HostConfig};
use std::{
    os::fd::RawFd,
    sync::{
        atomic::{AtomicU64, Ordering::Relaxed},
        Arc,
    },
};
use wire::Wire;

/// Which interface the application uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Api {
    /// `tas::lowlevel`.
    LowLevel,
    /// `tas::sockets`: epoll_wait, read, write.
    Sockets,
}

/// Cost of one RPC by stage.
#[derive(Parser)]
struct Options {
    /// Connections.
    #[arg(long, default_value_t = 64)]
    flows: usize,
    /// Rounds; each is one RPC on every flow.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// Bytes of request and reply.
    #[arg(long, default_value_t = 64)]
    bytes: usize,
    /// The application's interface.
    #[arg(long, value_enum, default_value = "low-level")]
    api: Api,
    /// Checksums in software instead of by the (pretended) NIC.
    #[arg(long)]
    software_checksum: bool,
    /// An emulator runs this (callgrind): it gets through so few instructions while the processor's clock runs on that
    /// the sockets layer, which looks at the rings again when that was 20 µs ago, would do so all the time.
    #[arg(long)]
    emulated: bool,
    /// Also show that segments with bad checksums, stale timestamps and garbage ring entries are refused.
    #[arg(long)]
    refusals: bool,
}

const SERVER: ([u8; 6], u32) = ([2, 0, 0, 0, 0, 1], 0x0a00_0001);
/// A /8, so that many client addresses are on the link.
const CLIENT: ([u8; 6], u32) = ([2, 0, 0, 0, 0, 2], 0x0a00_0064);
const PORT: u16 = 7;

fn main() -> Result<()> {
    let options = Options::parse();
    ensure!(options.flows > 0 && options.rounds > 0, "--flows and --rounds must not be zero");
    let first_number = limit_descriptors(options.flows)?;
    if options.emulated {
        tas::sockets::set_fresh_ticks(u64::MAX);
    }
    let memory = format!("{}", 192 + options.flows / 100);
    let words = [
        "--no-huge",
        "-m",
        &memory,
        "--no-pci",
        "--no-telemetry",
        "--iova-mode=va",
        "--log-level=3",
        "--in-memory",
    ];
    // --in-memory and --no-huge exclude each other in DPDK 22.11.
    let words = &words[..words.len() - 1];
    let prefix = format!("--file-prefix=rpc-cost-{}", std::process::id());
    let arguments: Vec<String> = words.iter().map(|word| (*word).to_owned()).chain([prefix]).collect();
    let _eal = Eal::start(&arguments)?;
    let mut bench = Bench::new(&options)?;
    bench.host.number_sockets(first_number);
    bench.connect()?;
    bench.warm_up()?;
    let ticks = bench.measure(options.rounds)?;
    ticks.print(&options);
    if options.refusals {
        garbage::show(&mut bench)?;
    }
    // Everything is torn down with the process; DPDK's order is not worth the cycles.
    std::process::exit(0);
}

/// Descriptors this process may open: memory areas, and what EAL takes. Connections get numbers above it and no
/// descriptors (nothing that is measured makes a system call), so that their number depends on no limit of the machine.
const DESCRIPTORS: u16 = 1024;

/// An emulator keeps descriptors of its own this close to the hard limit.
const EMULATOR_DESCRIPTORS: libc::rlim_t = 64;

/// Sees to it that the kernel hands out no number of a connection's; the first of those.
fn limit_descriptors(flows: usize) -> Result<RawFd> {
    // SAFETY: plain system calls on a local struct.
    let (limited, hard) = unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = DESCRIPTORS.into();
        (libc::setrlimit(libc::RLIMIT_NOFILE, &limit) == 0, limit.rlim_max)
    };
    ensure!(
        limited,
        "the limit of open files (RLIMIT_NOFILE) is below the {DESCRIPTORS} that memory areas need, whatever the number \
         of flows. Type, as root, in this shell: ulimit -n {DESCRIPTORS}"
    );
    let last = libc::rlim_t::from(DESCRIPTORS) + flows as libc::rlim_t + EMULATOR_DESCRIPTORS;
    Ok(if hard > last { DESCRIPTORS.into() } else { (hard + EMULATOR_DESCRIPTORS) as RawFd })
}

/// Everything of one run.
pub(crate) struct Bench {
    pub(crate) host: Host<DpdkPort>,
    pub(crate) server: Server,
    pub(crate) peer: Peer,
    pub(crate) wire: Wire,
    pub(crate) now_us: Arc<AtomicU64>,
    pub(crate) flows: usize,
    pub(crate) payload: Vec<u8>,
    frame: [u8; 2048],
}

/// TSC cycles per RPC of each round and stage.
#[derive(Default)]
struct Ticks {
    stages: [Vec<u64>; 3],
}

const STAGES: [&str; 3] = ["receive", "application", "transmit"];

impl Bench {
    fn new(options: &Options) -> Result<Self> {
        let (tas, wire) = wire::make(!options.software_checksum)?;
        let mut port = DpdkPort::new(&tas, 0)?;
        if !options.software_checksum {
            port.leave_tx_checksums();
        }
        // The device lives until the process ends.
        std::mem::forget(tas);
        let now_us = Arc::new(AtomicU64::new(1_000_000));
        let config = HostConfig {
            flows: (options.flows * 2).next_power_of_two().max(1024) as u32,
            prefix: 8,
            congestion: abi::message::congestion::CONST_RATE,
            tx_checksum_offload: !options.software_checksum,
            ..HostConfig::numbered(1, 1)
        };
        let mut host = Host::new(config, port, now_us.clone())?;
        let server = Server::new(options.api, &mut host, PORT, options.bytes)?;
        let addresses = Addresses { server: SERVER, client: CLIENT, port: PORT };
        Ok(Self {
            host,
            server,
            peer: Peer::new(addresses, options.flows),
            wire,
            now_us,
            flows: options.flows,
            payload: (0..options.bytes).map(|index| index as u8).collect(),
            frame: [0; 2048],
        })
    }

    /// Opens all connections, a few at a time (the listener's backlog is finite).
    fn connect(&mut self) -> Result<()> {
        const AT_A_TIME: usize = 32;
        for first in (0..self.flows).step_by(AT_A_TIME) {
            let last = (first + AT_A_TIME).min(self.flows);
            for flow in first..last {
                let length = self.peer.syn(flow, &mut self.frame);
                self.wire.send(&self.frame[..length])?;
            }
            let mut rounds = 0;
            while !(first..last).all(|flow| self.peer.is_established(flow))
                || self.server.connections() < last
            {
                self.now_us.fetch_add(10, Relaxed);
                self.host.step()?;
                self.server.accept(&mut self.host)?;
                self.listen_to_wire()?;
                rounds += 1;
                ensure!(
                    rounds < 10_000,
                    "flows {first}..{last} do not connect: {} accepted",
                    self.server.connections()
                );
            }
        }
        Ok(())
    }

    /// Answers what TAS sends outside the measured stages; payload bytes that were replies.
    pub(crate) fn listen_to_wire(&mut self) -> Result<usize> {
        let mut bytes = 0;
        loop {
            let mut heard = None;
            let peer = &mut self.peer;
            let some = self.wire.receive(|frame| {
                heard = Some(peer.hear(frame)?);
                Ok(())
            })?;
            match heard {
                _ if !some => return Ok(bytes),
                Some(Heard::Arp(reply)) => self.wire.send(&reply)?,
                Some(Heard::Accepted(flow)) => {
                    let length = self.peer.ack(flow, &mut self.frame);
                    self.wire.send(&self.frame[..length])?;
                }
                Some(Heard::Reply(_, count)) => bytes += count,
                Some(Heard::Acknowledged(_)) | None => {}
            }
        }
    }

    fn warm_up(&mut self) -> Result<()> {
        // What was told of the new connections; with it a ring would not hold a slice's requests.
        self.host.step()?;
        self.server.serve()?;
        for _ in 0..4 {
            self.round()?;
        }
        Ok(())
    }

    fn measure(&mut self, rounds: usize) -> Result<Ticks> {
        let mut ticks = Ticks::default();
        for _ in 0..rounds {
            let stages = self.round()?;
            for (all, stage) in ticks.stages.iter_mut().zip(stages) {
                all.push(stage / self.flows as u64);
            }
        }
        Ok(ticks)
    }

    /// What the core has counted, for messages.
    fn counters(&self) -> String {
        let all = &self.host.status().counters;
        let counted =
            abi::core_status::Counter::ALL.iter().map(|(counter, name)| (name, &all[*counter as usize]));
        let counted =
            counted.map(|(name, count)| (name, count.load(Relaxed))).filter(|(_, count)| *count > 0);
        counted.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
    }

    /// One RPC on every flow, [`SLICE`] flows at a time; TSC cycles of the three stages.
    fn round(&mut self) -> Result<[u64; 3]> {
        let mut sum = [0; 3];
        for first in (0..self.flows).step_by(SLICE) {
            let stages = self.slice(first, (first + SLICE).min(self.flows))?;
            for (sum, stage) in sum.iter_mut().zip(stages) {
                *sum += stage;
            }
        }
        Ok(sum)
    }

    fn slice(&mut self, first: usize, last: usize) -> Result<[u64; 3]> {
        self.peer.tick();
        for flow in first..last {
            let length = self.peer.request(flow, &self.payload, &mut self.frame);
            self.wire.send(&self.frame[..length])?;
        }
        let now = self.now_us.fetch_add(20, Relaxed) + 20;
        let start = dpdk_sys::rdtsc();
        stage_receive(&mut self.host, now);
        let received = dpdk_sys::rdtsc();
        let served = stage_application(&mut self.server)?;
        let answered = dpdk_sys::rdtsc();
        // A grown pool: a slow path of its own process answers only when the fast path has mapped it.
        self.host.carry_out_notices()?;
        let noticed = dpdk_sys::rdtsc();
        stage_transmit(&mut self.host, now);
        let sent = dpdk_sys::rdtsc();
        ensure!(
            served == last - first,
            "the application served {served} of {} requests; the core counted {}",
            last - first,
            self.counters()
        );
        let bytes = self.listen_to_wire()?;
        let wanted = (last - first) * self.payload.len();
        ensure!(
            bytes == wanted,
            "{bytes} reply bytes came back, {wanted} were expected; the core counted {}",
            self.counters()
        );
        // The slow path takes what it was told, outside the measurement (the original's did, too).
        self.host.step()?;
        self.listen_to_wire()?;
        Ok([received - start, answered - received, sent - noticed])
    }
}

/// Flows that have a request on the wire at a time: full batches whose entries, up to two per flow (what was read and
/// what was written), find room in a context's ring, as the core takes none while the application runs.
const SLICE: usize = 448;
const _: () = assert!(2 * SLICE <= abi::limits::CONTEXT_RING_ENTRIES as usize);

#[inline(never)]
fn stage_receive(host: &mut Host<DpdkPort>, now: u64) {
    let core = host.core_mut();
    while core.poll(now).received > 0 {}
    core.drain_wakes(|_| ());
}

#[inline(never)]
fn stage_application(server: &mut Server) -> Result<usize> {
    server.serve()
}

#[inline(never)]
fn stage_transmit(host: &mut Host<DpdkPort>, now: u64) {
    let core = host.core_mut();
    while !core.poll(now).is_idle() {}
}

impl Ticks {
    /// JSON on standard output, for the script.
    fn print(mut self, options: &Options) {
        let mut parts = Vec::new();
        for (name, ticks) in STAGES.iter().zip(&mut self.stages) {
            ticks.sort_unstable();
            let median = ticks[ticks.len() / 2];
            parts.push(format!("\"{name}\":{{\"min\":{},\"median\":{median}}}", ticks[0]));
        }
        println!(
            "{{\"flows\":{},\"rounds\":{},\"bytes\":{},\"cycles\":{{{}}}}}",
            options.flows,
            options.rounds,
            options.bytes,
            parts.join(",")
        );
    }
}
