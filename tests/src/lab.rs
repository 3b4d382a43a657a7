// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lab as the cases see it: run on TAS, run on the peer, read counters.

use anyhow::{bail, ensure, Context, Result};
use std::{
    io::Write,
    process::{Child, Command, Output, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

/// TAS's address in the lab.
pub(crate) const TAS: &str = "10.77.0.1";
/// The Linux peer's address.
pub(crate) const PEER: &str = "10.77.0.2";

/// TAS's IPv6 address in the lab.
pub(crate) const TAS6: &str = "fd77::1";
/// The Linux peer's.
pub(crate) const PEER6: &str = "fd77::2";

/// Where a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// On TAS sockets.
    Tas,
    /// On Linux sockets, on the peer.
    Peer,
}

impl Side {
    fn word(self) -> &'static str {
        match self {
            Side::Tas => "tas",
            Side::Peer => "peer",
        }
    }
    /// The address that programs of this side have.
    pub(crate) fn address(self) -> &'static str {
        match self {
            Side::Tas => TAS,
            Side::Peer => PEER,
        }
    }
    /// Their IPv6 address.
    pub(crate) fn address6(self) -> &'static str {
        match self {
            Side::Tas => TAS6,
            Side::Peer => PEER6,
        }
    }
    /// The other one.
    pub(crate) fn other(self) -> Side {
        match self {
            Side::Tas => Side::Peer,
            Side::Peer => Side::Tas,
        }
    }
}

/// The lab that is up.
pub(crate) struct Lab {
    script: String,
    volume_percent: u32,
    share: String,
    background: Mutex<Vec<Child>>,
}

impl Lab {
    /// Through this script.
    pub(crate) fn new(script: &str, volume_percent: u32, share: &str) -> Self {
        Self {
            script: script.to_owned(),
            volume_percent,
            share: share.to_owned(),
            background: Mutex::default(),
        }
    }

    /// `full` reduced to the run's volume, at least `least`.
    pub(crate) fn volume(&self, full: u64, least: u64) -> u64 {
        (full * u64::from(self.volume_percent) / 100).max(least)
    }

    /// A directory that both sides see.
    pub(crate) fn share(&self) -> &str {
        &self.share
    }

    fn command(&self, side: Side, line: &str) -> Command {
        let mut command = Command::new(&self.script);
        command.args(["run", side.word(), "--", "sh", "-c", line]);
        command
    }

    /// Runs a shell line to its end within `limit`; its output whatever the status.
    pub(crate) fn output(&self, side: Side, limit: Duration, line: &str, input: &[u8]) -> Result<Output> {
        let guarded = format!("exec timeout -k 5 {} sh -c {}", limit.as_secs(), quote(line));
        let mut child = self
            .command(side, &guarded)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", self.script))?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        let input = input.to_vec();
        // The command may end without reading it all; its status tells.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output()?;
        drop(writer.join());
        Ok(output)
    }

    /// Runs a shell line that must succeed; its standard output.
    pub(crate) fn run(&self, side: Side, limit: Duration, line: &str) -> Result<String> {
        let output = self.output(side, limit, line, b"")?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{side:?}: `{line}` ended with {}\n{}\n{}",
            output.status,
            tail(&stdout),
            tail(&String::from_utf8_lossy(&output.stderr))
        );
        Ok(stdout)
    }

    /// Starts a server; it is ended when the case is over.
    pub(crate) fn start(&self, side: Side, line: &str) -> Result<()> {
        let guarded = format!("exec timeout -k 5 600 {line}");
        let child = self
            .command(side, &guarded)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(if std::env::var_os("E2E_VERBOSE").is_some() { Stdio::inherit() } else { Stdio::null() })
            .spawn()?;
        self.background.lock().expect("no thread panics with the list held").push(child);
        Ok(())
    }

    /// Starts a server and returns when `probe`, run on the other side, succeeds.
    pub(crate) fn serve(&self, side: Side, line: &str, probe: &str) -> Result<()> {
        self.start(side, line)?;
        self.wait_until(side.other(), probe)
    }

    /// Repeats `probe` until it succeeds.
    pub(crate) fn wait_until(&self, side: Side, probe: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let output = self.output(side, Duration::from_secs(10), probe, b"")?;
            if output.status.success() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "{side:?}: `{probe}` did not succeed within 60 s: {}",
                    tail(&String::from_utf8_lossy(&output.stderr))
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Ends what [`Self::start`] started, and waits for it.
    pub(crate) fn end_background(&self) {
        let children: Vec<_> =
            self.background.lock().expect("no thread panics with the list held").drain(..).collect();
        for mut child in children {
            // The lab passes the signal on: `timeout` forwards it to the server.
            // SAFETY: plain system call on a child that was not waited for yet.
            unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
            let deadline = Instant::now() + Duration::from_secs(10);
            while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(20));
            }
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// `tasctl` of the TAS side.
    pub(crate) fn tasctl(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.script).arg("ctl").args(arguments).output()?;
        ensure!(
            output.status.success(),
            "tasctl {arguments:?}: {}",
            tail(&String::from_utf8_lossy(&output.stderr))
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// A counter of the fast path, summed over its cores.
    pub(crate) fn counter(&self, name: &str) -> Result<u64> {
        let text = self.tasctl(&["counters", "--json"])?;
        let value: serde_json::Value = serde_json::from_str(&text).context("tasctl counters --json")?;
        Ok(sum(&value, name))
    }

    /// TCP segments that TAS received and sent.
    pub(crate) fn tas_segments(&self) -> Result<u64> {
        Ok(self.counter("rx_segments")? + self.counter("tx_segments")?)
    }
}

/// Adds up every number under the key `name`, however deep.
fn sum(value: &serde_json::Value, name: &str) -> u64 {
    match value {
        serde_json::Value::Object(map) => map
            .iter()
            .map(|(key, inner)| if key == name { inner.as_u64().unwrap_or(0) } else { sum(inner, name) })
            .sum(),
        serde_json::Value::Array(items) => items.iter().map(|item| sum(item, name)).sum(),
        _ => 0,
    }
}

/// Quotes for a POSIX shell.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn tail(text: &str) -> &str {
    let start = text.char_indices().rev().nth(1500).map_or(0, |(index, _)| index);
    &text[start..]
}
