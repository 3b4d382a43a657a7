// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every way to end a connection, and flow control at its edges.

use super::Case;
use crate::lab::{quote, Lab, Side, TAS};
use anyhow::{ensure, Result};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn python(lab: &Lab, side: Side, program: &str) -> Result<String> {
    lab.run(side, MINUTE, &format!("python3 -c {}", quote(program)))
}

fn serve(lab: &Lab, side: Side, program: &str) -> Result<()> {
    // The port is probed by nothing: the client retries until it is open.
    lab.start(side, &format!("python3 -c {}", quote(program)))
}

/// Python that connects as soon as the server is there.
const CONNECT: &str = r#"
import socket, time, struct, sys, hashlib
def connect(port):
    end = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection((sys.argv[1] if len(sys.argv) > 1 else "10.77.0.1", port), 30)
        except ConnectionRefusedError:
            if time.monotonic() > end: raise
            time.sleep(0.05)
"#;

/// Half-close.
pub const HALF_CLOSE: Case = Case {
    name: "half-close",
    about: "the client shuts down writing; the server on TAS sees the end and still answers",
    least_segments: 20,
    run: |lab| {
        serve(
            lab,
            Side::Tas,
            &format!(
                r#"
import socket, hashlib
s = socket.create_server(("{TAS}", 9010))
c, _ = s.accept()
h = hashlib.sha256()
while True:
    d = c.recv(65536)
    if not d: break
    h.update(d)
c.sendall(h.hexdigest().encode()); c.shutdown(socket.SHUT_WR)
assert c.recv(1) == b""
"#
            ),
        )?;
        let outcome = python(
            lab,
            Side::Peer,
            &format!(
                r#"{CONNECT}
import os
c = connect(9010)
data = os.urandom(100000)
c.sendall(data); c.shutdown(socket.SHUT_WR)
got = b""
while True:
    d = c.recv(1000)
    if not d: break
    got += d
assert got.decode() == hashlib.sha256(data).hexdigest(), got
print("equal")"#
            ),
        )?;
        ensure!(outcome.contains("equal"), "{outcome}");
        Ok(())
    },
};

/// RST both ways.
pub const RESET: Case = Case {
    name: "reset",
    about: "SO_LINGER 0 on either side: the other gets ECONNRESET once, then the end",
    least_segments: 10,
    run: |lab| {
        for (server, port) in [(Side::Tas, 9011), (Side::Peer, 9012)] {
            let address = server.address();
            serve(
                lab,
                server,
                &format!(
                    r#"
import socket, struct
s = socket.create_server(("{address}", {port}))
c, _ = s.accept()
assert c.recv(5) == b"hello"
c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
c.close()
c, _ = s.accept()
assert c.recv(5) == b"again"
try:
    c.recv(5); print("no reset")
except ConnectionResetError:
    c.sendall if False else None
s.close()
"#
                ),
            )?;
            let program = format!(
                r#"{CONNECT}
sys.argv = ["", "{address}"]
c = connect({port})
c.sendall(b"hello")
try:
    c.recv(5); raise SystemExit("no reset seen")
except ConnectionResetError:
    pass
assert c.recv(5) == b""
c = connect({port})
c.sendall(b"again")
time.sleep(0.2)
c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
c.close()
print("reset seen")"#
            );
            let outcome = python(lab, server.other(), &program)?;
            ensure!(outcome.contains("reset seen"), "{outcome}");
        }
        Ok(())
    },
};

/// kill -9 of a server.
pub const KILLED_SERVER: Case = Case {
    name: "killed-server",
    about: "kill -9 of a server on TAS: its peer hears of it, the port is free at once",
    least_segments: 10,
    run: |lab| {
        let program = format!(
            r#"
import socket, os
s = socket.create_server(("{TAS}", 9013))
c, _ = s.accept()
c.sendall(str(os.getpid()).encode())
c.recv(1)
os.kill(os.getpid(), 9)
"#
        );
        for round in 0..3 {
            serve(lab, Side::Tas, &program)?;
            let outcome = python(
                lab,
                Side::Peer,
                &format!(
                    r#"{CONNECT}
c = connect(9013)
assert int(c.recv(20)) > 0
c.sendall(b"x")
try:
    assert c.recv(1) == b""
except ConnectionResetError:
    pass
print("ended")"#
                ),
            )?;
            ensure!(outcome.contains("ended"), "round {round}: {outcome}");
            lab.end_background();
        }
        Ok(())
    },
};

/// Connection refused.
pub const REFUSED: Case = Case {
    name: "refused",
    about: "connect() to a closed port is refused, from TAS and to TAS",
    least_segments: 0,
    run: |lab| {
        for side in [Side::Tas, Side::Peer] {
            let address = side.other().address();
            let outcome = python(
                lab,
                side,
                &format!(
                    r#"
import socket
try:
    socket.create_connection(("{address}", 9999), 20)
    print("connected?")
except ConnectionRefusedError:
    print("refused")"#
                ),
            )?;
            ensure!(outcome.contains("refused"), "{side:?}: {outcome}");
        }
        Ok(())
    },
};

/// Zero window and its probes.
pub const SLOW_READER: Case = Case {
    name: "slow-reader",
    about: "the reader stops until the window is closed, then reads on: nothing is lost, both ways",
    least_segments: 100,
    run: |lab| {
        for (server, port) in [(Side::Tas, 9014), (Side::Peer, 9015)] {
            let address = server.address();
            serve(
                lab,
                server,
                &format!(
                    r#"
import socket, time, hashlib
s = socket.create_server(("{address}", {port}))
c, _ = s.accept()
time.sleep(2)
h = hashlib.sha256(); n = 0
while True:
    d = c.recv(4096)
    if not d: break
    h.update(d); n += len(d)
c.sendall(h.hexdigest().encode()); c.close()
"#
                ),
            )?;
            let bytes = lab.volume(8_000_000, 1_000_000);
            let outcome = python(
                lab,
                server.other(),
                &format!(
                    r#"{CONNECT}
import os
sys.argv = ["", "{address}"]
c = connect({port})
data = os.urandom({bytes})
c.sendall(data); c.shutdown(socket.SHUT_WR)
got = b""
while True:
    d = c.recv(100)
    if not d: break
    got += d
assert got.decode() == hashlib.sha256(data).hexdigest(), got
print("equal")"#
                ),
            )?;
            ensure!(outcome.contains("equal"), "{outcome}");
        }
        Ok(())
    },
};
