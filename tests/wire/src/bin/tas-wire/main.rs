// SPDX-License-Identifier: MIT OR Apache-2.0
//! A flaky wire between two interfaces of this network namespace: takes frames from one end, does to
//! them what the specification says, gives them to the other. One thread, which sleeps until a frame comes or is due.
//!
//! SIGUSR1 writes the counters to the status file. SIGHUP reads the specification file again, starts the random
//! streams and the counters afresh (frames on their way are kept) and writes the status too. SIGTERM prints the counters and ends.

mod port;
mod socket;
mod status;

use anyhow::{Context, Result};
use clap::Parser;
use nix::{
    poll::{ppoll, PollFd, PollFlags},
    sys::{
        prctl,
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        time::TimeSpec,
    },
};
use port::{Port, Sent};
use std::{
    os::fd::AsFd,
    path::PathBuf,
    time::{Duration, Instant},
};
use wire::{Lane, Spec};

/// A flaky wire between two interfaces. An end is `tap:NAME` (made here; Linux is behind it) or
/// `packet:NAME` (an interface that is there, such as the tap of a DPDK program).
#[derive(Parser)]
struct Options {
    /// The end whose frames go "out".
    #[arg(long)]
    left: String,
    /// The other end, whose frames come "in".
    #[arg(long)]
    right: String,
    /// What the wire does: loss=1%,delay=5ms,in:rate=100mbit,seed=7 …
    #[arg(long, default_value = "")]
    spec: Spec,
    /// Where SIGHUP finds another specification.
    #[arg(long)]
    spec_file: Option<PathBuf>,
    /// Where SIGUSR1 and SIGHUP write the counters, as JSON. The file appears whole.
    #[arg(long)]
    status: Option<PathBuf>,
}

/// Frames taken from one end before the other has its turn.
const BURST_FRAMES: usize = 64;
/// An end that has no room is offered the frame again after this long.
const RETRY_NS: u64 = 50_000;
/// The longest sleep: an interface that was deleted is looked for again this often.
const SLEEP_MAX: Duration = Duration::from_millis(100);

fn main() -> Result<()> {
    let options = Options::parse();
    let signals = signals()?;
    // A delay is meant to the microsecond; the default slack is 50 of them.
    prctl::set_timerslack(1).context("setting the timer slack")?;
    let ports = [Port::open(&options.left)?, Port::open(&options.right)?];
    let mut wire = Wire::new(options, ports);
    println!("tas-wire: ready: {}", wire.options.spec);
    loop {
        while let Some(signal) = signals.read_signal()? {
            match Signal::try_from(signal.ssi_signo as i32) {
                Ok(Signal::SIGHUP) => wire.reload()?,
                Ok(Signal::SIGUSR1) => wire.write_status(None)?,
                _ => {
                    println!("{}", wire.status(None));
                    return Ok(());
                }
            }
        }
        if !wire.forward()? {
            wire.sleep(&signals)?;
        }
    }
}

fn signals() -> Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGTERM, Signal::SIGINT] {
        set.add(signal);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).context("signalfd")
}

struct Wire {
    options: Options,
    ports: [Port; 2],
    lanes: [Lane; 2],
    /// The receiving end of each lane had no room: not before this time again.
    retry_ns: [u64; 2],
    start: Instant,
}

fn lanes(spec: &Spec) -> [Lane; 2] {
    [0, 1].map(|direction| Lane::new(spec.lanes[direction], spec.seed, direction as u64))
}

impl Wire {
    fn new(options: Options, ports: [Port; 2]) -> Self {
        let lanes = lanes(&options.spec);
        Self { options, ports, lanes, retry_ns: [0; 2], start: Instant::now() }
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Moves what is there and due; false if there was nothing.
    fn forward(&mut self) -> Result<bool> {
        let now_ns = self.now_ns();
        let mut moved = false;
        for from in [0, 1] {
            for _ in 0..BURST_FRAMES {
                let Some(frame) = self.ports[from].receive()? else { break };
                self.lanes[from].offer(now_ns, frame);
                moved = true;
            }
            moved |= self.deliver(from, now_ns);
        }
        Ok(moved)
    }

    fn deliver(&mut self, from: usize, now_ns: u64) -> bool {
        let mut moved = false;
        while self.retry_ns[from] <= now_ns {
            let Some(frame) = self.lanes[from].arrived(now_ns) else { break };
            match self.ports[1 - from].send(frame) {
                Sent::Taken => self.lanes[from].delivered(),
                Sent::NoRoom => {
                    self.retry_ns[from] = now_ns + RETRY_NS;
                    break;
                }
            }
            moved = true;
        }
        moved
    }

    fn sleep(&mut self, signals: &SignalFd) -> Result<()> {
        let now_ns = self.now_ns();
        let due = |from: usize| Some(self.lanes[from].next_arrival_ns()?.max(self.retry_ns[from]));
        let next = [0, 1].into_iter().filter_map(due).min();
        let sleep = next.map_or(SLEEP_MAX, |at_ns| Duration::from_nanos(at_ns.saturating_sub(now_ns)));
        let [left, right] = self.ports.each_ref().map(|port| PollFd::new(port.as_fd(), PollFlags::POLLIN));
        let signals = PollFd::new(signals.as_fd(), PollFlags::POLLIN);
        ppoll(&mut [left, right, signals], Some(TimeSpec::from_duration(sleep.min(SLEEP_MAX))), None)?;
        Ok(())
    }

    /// Takes the specification that the file has now. One that cannot be read changes nothing.
    fn reload(&mut self) -> Result<()> {
        let text = self.options.spec_file.as_ref().map_or(Ok(String::new()), std::fs::read_to_string);
        let parsed = text.map_err(|error| error.to_string()).and_then(|text| text.trim().parse::<Spec>());
        match parsed {
            Ok(spec) => {
                self.options.spec = spec;
                self.ports.iter_mut().for_each(Port::reset_counters);
                for (lane, fresh) in self.lanes.iter_mut().zip(lanes(&spec)) {
                    lane.replace_by(fresh);
                }
                self.write_status(None)
            }
            Err(error) => self.write_status(Some(&error)),
        }
    }

    fn status(&mut self, error: Option<&str>) -> serde_json::Value {
        status::of(&self.options.spec, &self.lanes, &mut self.ports, error)
    }

    fn write_status(&mut self, error: Option<&str>) -> Result<()> {
        let value = self.status(error);
        self.options.status.as_ref().map_or(Ok(()), |path| status::write(path, &value))
    }
}
