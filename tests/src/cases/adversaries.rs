// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attackers beside a victim (`tests/adversary/live/`). `scripts/adversary` measures what the victim keeps of its rate;
//! here it must see every byte, never wait in vain, and get every short connection.

use super::Case;
use crate::lab::{Lab, Side, PEER, TAS};
use anyhow::{ensure, Context, Result};
use std::time::Duration;

/// The programs.
const PROGRAMS: [(&str, &str); 2] = [
    ("victim.py", include_str!("../../adversary/live/victim.py")),
    ("attack.py", include_str!("../../adversary/live/attack.py")),
];
/// The victim's listener, on either side.
const PORT: u16 = 9200;
/// Another application's listener, which an attacker may fill.
const OTHER_PORT: u16 = 9201;
/// Linux's interface.
const DEVICE: &str = "tas0";
/// Frames a second of an attack: what a guest without hardware virtualization still carries beside the victim.
const FRAMES_PER_SECOND: u32 = 2000;
/// The victim's rate each way, Mbit/s.
const VICTIM_MBIT: u32 = 4;

pub(crate) const SYN_FLOOD: Case = Case {
    name: "syn-flood",
    about: "SYNs that are never completed, at a victim's listener: its connections get in, no byte is wrong",
    least_segments: 500,
    run: |lab| {
        beside(
            lab,
            Side::Peer,
            &format!("syn-flood {DEVICE} {TAS} {PORT} {FRAMES_PER_SECOND}"),
            "\"sent\": [1-9]",
        )
    },
};

pub(crate) const HOSTILE_PEER: Case = Case {
    name: "hostile-peer",
    about: "guessed segments on the victim's four-tuple, optimistic ACKs, shrinking windows, slow readers",
    least_segments: 500,
    run: |lab| {
        beside(
            lab,
            Side::Peer,
            &format!("peer {DEVICE} {TAS} {PORT} {OTHER_PORT} {FRAMES_PER_SECOND}"),
            "\"sent\": [1-9]",
        )
    },
};

pub(crate) const HOSTILE_APPLICATION: Case = Case {
    name: "hostile-application",
    about:
        "applications that write garbage into all that they map, one after the other, with a live flow each",
    least_segments: 500,
    run: |lab| beside(lab, Side::Tas, &format!("application {PEER} {PORT}"), "\"applications\": [1-9]"),
};

/// The victim's traffic while `attack` is under way; `begun` is what the attack's report then matches.
fn beside(lab: &Lab, side: Side, attack: &str, begun: &str) -> Result<()> {
    let share = lab.share();
    for (name, text) in PROGRAMS {
        std::fs::write(format!("{share}/{name}"), text)?;
    }
    for (side, address, port) in
        [(Side::Tas, TAS, PORT), (Side::Tas, TAS, OTHER_PORT), (Side::Peer, PEER, PORT)]
    {
        let serve = format!("python3 {share}/victim.py serve {address} {port}");
        lab.serve(side, &serve, &format!("python3 {share}/victim.py ping {address} {port}"))?;
    }
    let log = format!("{share}/attack.log");
    drop(std::fs::remove_file(&log));
    lab.start(side, &format!("sh -c 'exec python3 {share}/attack.py {attack} >{log} 2>&1'"))?;
    lab.wait_until(side, &format!("grep -q '{begun}' {log}"))?;
    let seconds = lab.volume(30, 5);
    let line = format!("python3 {share}/victim.py use {TAS} {PORT} {seconds} {VICTIM_MBIT}");
    let said = lab.run(Side::Peer, Duration::from_secs(seconds + 120), &line)?;
    let seen: serde_json::Value = serde_json::from_str(said.trim()).with_context(|| said.clone())?;
    let count = |name: &str| seen.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
    ensure!(seen.get("wrong").is_some_and(serde_json::Value::is_null), "{seen}");
    ensure!(seen.get("short_failed") == Some(&serde_json::json!([])), "{seen}");
    for name in ["from_tas_bytes", "to_tas_bytes", "short_connections"] {
        ensure!(count(name) > 0, "{name} of {seen}");
    }
    Ok(())
}
