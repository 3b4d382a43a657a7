// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tas-slowpathd`: the slow path where no kernel module can be loaded.

use anyhow::{bail, Context as _, Result};
use clap::Parser;
use daemon::server::{Options, Server};
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use std::{
    os::fd::{AsFd, BorrowedFd, RawFd},
    path::PathBuf,
    process::ExitCode,
};

/// The TAS slow path as a user-space daemon: connection set-up and teardown, timeouts and congestion
/// control for one instance. Start it first, then tas-fastpath with --backend daemon.
#[derive(Debug, Parser)]
#[command(name = "tas-slowpathd", version)]
struct Arguments {
    /// Instance name, at most 15 bytes.
    #[arg(long, value_name = "NAME", default_value = "tas0")]
    instance: String,
    /// Socket path [default: /run/tas/<instance>.sock].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Group whose members may connect.
    #[arg(long, value_name = "GROUP", default_value = "tas")]
    group: String,
    /// Microseconds without work before an application's thread sleeps.
    #[arg(long, value_name = "US", default_value_t = Options::new("").poll_interval_us)]
    app_poll_us: u32,
    /// Most payload memory of one application, MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024,
          value_parser = clap::value_parser!(u32).range(16..=1024))]
    app_memory_mib: u32,
    /// Write eight bytes (the number 1, as to an eventfd) to this descriptor when ready.
    #[arg(long, value_name = "FD")]
    ready_fd: Option<RawFd>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tas-slowpathd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let name = &arguments.instance;
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > 15 || !name.bytes().all(valid) {
        bail!("--instance {name:?}: a name has 1 to 15 letters, digits, - or _");
    }
    let stop = termination_signals()?;
    let mut options = Options::new(name);
    options.group.clone_from(&arguments.group);
    options.poll_interval_us = arguments.app_poll_us;
    options.pool_segments_max = arguments.app_memory_mib / 2;
    if let Some(path) = &arguments.socket {
        options.socket.clone_from(path);
    }
    let server = Server::new(&options)?;
    println!("tas-slowpathd: ready instance={name} socket={}", options.socket.display());
    if let Some(descriptor) = arguments.ready_fd {
        announce(descriptor)?;
    }
    server.run(stop.as_fd())
}

/// SIGTERM and SIGINT as a descriptor.
fn termination_signals() -> Result<SignalFd> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().context("cannot block signals")?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC).context("signalfd")
}

fn announce(descriptor: RawFd) -> Result<()> {
    if descriptor < 0 {
        bail!("--ready-fd {descriptor}: not a descriptor");
    }
    // SAFETY: the operator passed it for this; it is only written to, and not closed.
    let ready = unsafe { BorrowedFd::borrow_raw(descriptor) };
    nix::unistd::write(ready, &1u64.to_ne_bytes())
        .with_context(|| format!("--ready-fd {descriptor}: cannot write; open it in the caller"))?;
    Ok(())
}
