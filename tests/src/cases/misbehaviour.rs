// SPDX-License-Identifier: MIT OR Apache-2.0
//! Applications that misbehave harm themselves only.

use super::Case;
use crate::lab::{quote, Lab, Side, TAS};
use anyhow::{ensure, Result};
use std::time::Duration;

/// Garbage in every mapped byte.
pub(crate) const GARBAGE_APPLICATION: Case = Case {
    name: "garbage-application",
    about: "an application writes garbage into every byte it has mapped, beside another under traffic",
    least_segments: 500,
    run: |lab| -> Result<()> {
        lab.serve(
            Side::Tas,
            &format!("redis-server --save '' --appendonly no --protected-mode no --bind {TAS}"),
            &format!("redis-cli -h {TAS} ping | grep -q PONG"),
        )?;
        let requests = lab.volume(20_000, 2_000);
        let benchmark = format!("redis-benchmark -h {TAS} -t set,get -c 8 -n {requests} --csv");
        // The garbage writer runs while the benchmark does; the benchmark must not notice.
        let outcome = std::thread::scope(|scope| {
            let beside = scope.spawn(|| garbage(lab));
            let table = lab.run(Side::Peer, Duration::from_secs(240), &benchmark);
            (beside.join(), table)
        });
        let table = outcome.1?;
        ensure!(table.contains("GET"), "{table}");
        let garbage = outcome.0.map_err(|_| anyhow::anyhow!("the garbage writer panicked"))?;
        garbage?;
        lab.run(Side::Peer, Duration::from_secs(30), &format!("redis-cli -h {TAS} ping | grep -q PONG"))?;
        Ok(())
    },
};

/// Connects to the peer, so that a live flow is among what it can reach, then overwrites every
/// shared writable mapping of TAS again and again. It may fail or be ended; that is its own affair.
fn garbage(lab: &Lab) -> Result<()> {
    let rounds = lab.volume(40, 10);
    let program = format!(
        r#"
import ctypes, os, random, socket
seed = int(os.environ.get("E2E_SEED", "1"))
print("E2E_SEED=%d" % seed, flush=True)
source = random.Random(seed)
connection = socket.create_connection(("{TAS_PEER}", 9016), 20)
connection.sendall(b"hello")
areas = []
for line in open("/proc/self/maps"):
    fields = line.split()
    name = " ".join(fields[5:])
    if "tas" in name and fields[1].startswith("rw") and "s" in fields[1]:
        start, end = (int(x, 16) for x in fields[0].split("-"))
        areas.append((start, end - start))
assert areas, "no writable TAS mapping found"
print("areas", len(areas), "bytes", sum(n for _, n in areas), flush=True)
for _ in range({rounds}):
    for start, length in areas:
        block = source.randbytes(4096)
        for offset in range(0, length, 4096):
            ctypes.memmove(start + offset, block, 4096)
print("scribbled", flush=True)
os._exit(0)
"#,
        TAS_PEER = crate::lab::PEER
    );
    lab.start(
        Side::Peer,
        &format!(
            "python3 -c {}",
            quote(&format!(
                "import socket; s = socket.create_server((\"{}\", 9016)); c, _ = s.accept(); c.recv(10)\nwhile True: c, _ = s.accept()",
                crate::lab::PEER
            ))
        ),
    )?;
    lab.wait_until(Side::Peer, "ss -ltn | grep -q :9016")?;
    let output =
        lab.output(Side::Tas, Duration::from_secs(120), &format!("python3 -c {}", quote(&program)), b"")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("scribbled"), "{text} {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
