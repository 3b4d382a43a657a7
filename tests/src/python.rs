// SPDX-License-Identifier: MIT OR Apache-2.0
//! Small Python programs as servers and clients of a case.

use crate::lab::{quote, Lab, Side};
use anyhow::{ensure, Result};
use std::time::Duration;

/// Longest run of a client that [`client`] starts.
const LIMIT: Duration = Duration::from_secs(240);

/// Defines `connect(address, port)`: it retries while the server is not there yet, which is how a server
/// that serves one connection only can be waited for.
const CONNECT: &str = r#"
import hashlib, os, socket, struct, time
def connect(address, port):
    end = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection((address, port), 60)
        except ConnectionRefusedError:
            if time.monotonic() > end: raise
            time.sleep(0.05)
def read_all(c):
    parts = []
    while True:
        d = c.recv(65536)
        if not d: return b"".join(parts)
        parts.append(d)
"#;

/// The shell line that runs `program` with the definitions above.
pub(crate) fn line(program: &str) -> String {
    format!("python3 -c {}", quote(&format!("{CONNECT}{program}")))
}

/// Starts a server; nothing waits for it, the clients' `connect` does.
pub(crate) fn serve(lab: &Lab, side: Side, program: &str) -> Result<()> {
    lab.start(side, &line(program))
}

/// Runs a client to its end. It says `said` when all went well.
pub(crate) fn client(lab: &Lab, side: Side, program: &str, said: &str) -> Result<()> {
    let outcome = lab.run(side, LIMIT, &line(program))?;
    ensure!(outcome.lines().any(|line| line == said), "the client did not say {said:?}: {outcome}");
    Ok(())
}
