// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tests/posix_probe` on Linux sockets, then on TAS sockets: the same program, the same answers.

use super::Case;
use crate::lab::{quote, Lab, Side, PEER, TAS};
use anyhow::{bail, ensure, Context, Result};
use std::{path::Path, process::Command, time::Duration};

/// Port of the probe's peer.
const PORT: u16 = 7999;
/// All cases take 20 s on a quiet machine; an emulated guest is an order of magnitude slower.
const LIMIT: Duration = Duration::from_secs(540);
/// Cases about what this version does not serve: connections between two sockets of one instance.
const NOT_SERVED: &[&str] = &["both_ends_ours"];
/// A case that depends on the peer's pauses may see them stretched on a loaded machine: what fails is
/// tried once more, alone.
const ATTEMPTS: usize = 2;

pub(crate) const POSIX_PROBE: Case = Case {
    name: "posix-probe",
    about: "125 cases of socket semantics answer as on Linux",
    least_segments: 10_000,
    run: |lab| {
        let probe = build(lab)?;
        let listed = lab.run(Side::Peer, LIMIT, &format!("{probe} list"))?;
        let all: Vec<&str> = listed.lines().collect();
        // The oracle: Linux itself, over its loopback.
        pass(lab, Side::Peer, &format!("{probe} self"), all.clone())?;
        lab.start(Side::Peer, &format!("{probe} peer {PEER} {PORT}"))?;
        let on_tas = format!("{probe} run {PEER} {PORT} {TAS}");
        lab.wait_until(Side::Tas, &format!("{on_tas} echo"))?;
        let served = all.into_iter().filter(|name| !NOT_SERVED.contains(name));
        pass(lab, Side::Tas, &on_tas, served.collect())
    },
};

/// Runs the cases until each has passed, at most [`ATTEMPTS`] times.
fn pass(lab: &Lab, side: Side, command: &str, mut left: Vec<&str>) -> Result<()> {
    let mut told = String::new();
    for _ in 0..ATTEMPTS {
        let output = lab.output(side, LIMIT, &format!("{command} {}", left.join(" ")), b"")?;
        told = String::from_utf8_lossy(&output.stdout).into_owned();
        left.retain(|name| !told.lines().any(|line| line.strip_prefix("PASS ") == Some(*name)));
        if left.is_empty() {
            return Ok(());
        }
    }
    let why: Vec<&str> = told.lines().filter(|line| !line.starts_with("PASS")).collect();
    bail!("{side:?} failed {}\n{}", left.join(" "), why.join("\n"))
}

/// Compiles the probe into the shared directory; the command that runs it.
fn build(lab: &Lab) -> Result<String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("posix_probe");
    let program = format!("{}/posix_probe", lab.share());
    let mut files: Vec<_> = std::fs::read_dir(&sources)
        .with_context(|| format!("{}: the sources are needed", sources.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "c"))
        .collect();
    files.sort();
    let status = Command::new("cc").args(["-O1", "-g", "-pthread", "-o", &program]).args(&files).status();
    ensure!(status.context("cc; type `apt-get install gcc`")?.success(), "the probe does not compile");
    Ok(quote(&program))
}
