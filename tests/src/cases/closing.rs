// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every way to end a connection, and flow control at its edges.

use super::Case;
use crate::{
    lab::{Side, TAS},
    python::{client, serve},
};

/// Half-close.
pub(crate) const HALF_CLOSE: Case = Case {
    name: "half-close",
    about: "the client shuts down writing; the server on TAS sees the end and still answers",
    least_segments: 20,
    run: |lab| {
        serve(
            lab,
            Side::Tas,
            &format!(
                r#"
s = socket.create_server(("{TAS}", 9010))
c, _ = s.accept()
c.sendall(hashlib.sha256(read_all(c)).hexdigest().encode()); c.shutdown(socket.SHUT_WR)
assert c.recv(1) == b""
"#
            ),
        )?;
        client(
            lab,
            Side::Peer,
            &format!(
                r#"
c = connect("{TAS}", 9010)
data = os.urandom(100000)
c.sendall(data); c.shutdown(socket.SHUT_WR)
got = read_all(c)
assert got.decode() == hashlib.sha256(data).hexdigest(), got
print("equal")"#
            ),
            "equal",
        )
    },
};

/// RST both ways.
pub(crate) const RESET: Case = Case {
    name: "reset",
    about: "SO_LINGER 0 on either side: the other gets ECONNRESET once, then the end",
    least_segments: 10,
    run: |lab| {
        for (server, port) in [(Side::Tas, 9011), (Side::Peer, 9012)] {
            let address = server.address();
            serve(lab, server, &format!("{RESETS}{}", reset_server(address, port)))?;
            client(
                lab,
                server.other(),
                &format!("{RESETS}{}", reset_client(address, port)),
                "reset on both sides",
            )?;
        }
        Ok(())
    },
};

/// Python: `reset(c)` sends an RST, `is_reset(c)` tells whether one came.
const RESETS: &str = r#"
def reset(c):
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); c.close()
def is_reset(c):
    try:
        c.recv(5)
        return False
    except ConnectionResetError:
        return c.recv(5) == b""
"#;

/// Resets the first connection, watches the second being reset, and says over a third what it saw.
fn reset_server(address: &str, port: u16) -> String {
    format!(
        r#"
s = socket.create_server(("{address}", {port}))
c, _ = s.accept()
assert c.recv(5) == b"hello"
reset(c)
c, _ = s.accept()
assert c.recv(5) == b"again"
c.sendall(b"reset me")
seen = is_reset(c)
c, _ = s.accept()
c.sendall(b"seen" if seen else b"not seen"); c.close()
"#
    )
}

fn reset_client(address: &str, port: u16) -> String {
    format!(
        r#"
c = connect("{address}", {port})
c.sendall(b"hello")
assert is_reset(c), "no reset seen by the client"
c = connect("{address}", {port})
c.sendall(b"again")
assert c.recv(8, socket.MSG_WAITALL) == b"reset me"
reset(c)
verdict = read_all(connect("{address}", {port}))
assert verdict == b"seen", verdict
print("reset on both sides")"#
    )
}

/// kill -9 of a server.
pub(crate) const KILLED_SERVER: Case = Case {
    name: "killed-server",
    about: "kill -9 of a server on TAS: its peer hears of it, the port is free at once",
    least_segments: 10,
    run: |lab| {
        let program = format!(
            r#"
s = socket.create_server(("{TAS}", 9013))
c, _ = s.accept()
c.sendall(str(os.getpid()).encode())
c.recv(1)
os.kill(os.getpid(), 9)
"#
        );
        for _ in 0..3 {
            serve(lab, Side::Tas, &program)?;
            client(
                lab,
                Side::Peer,
                &format!(
                    r#"
c = connect("{TAS}", 9013)
assert int(c.recv(20)) > 0
c.sendall(b"x")
try:
    assert c.recv(1) == b""
except ConnectionResetError:
    pass
print("ended")"#
                ),
                "ended",
            )?;
            lab.end_background();
        }
        Ok(())
    },
};

/// Connection refused.
pub(crate) const REFUSED: Case = Case {
    name: "refused",
    about: "connect() to a closed port is refused, from TAS and to TAS",
    least_segments: 0,
    run: |lab| {
        for side in [Side::Tas, Side::Peer] {
            let address = side.other().address();
            client(
                lab,
                side,
                &format!(
                    r#"
try:
    socket.create_connection(("{address}", 9999), 20)
    print("connected?")
except ConnectionRefusedError:
    print("refused")"#
                ),
                "refused",
            )?;
        }
        Ok(())
    },
};

/// Zero window and its probes.
pub(crate) const SLOW_READER: Case = Case {
    name: "slow-reader",
    about: "the reader stops until the window is closed, then reads on: nothing is lost, both ways",
    least_segments: 100,
    run: |lab| {
        let bytes = lab.volume(8_000_000, 1_000_000);
        for (server, port) in [(Side::Tas, 9014), (Side::Peer, 9015)] {
            let address = server.address();
            serve(
                lab,
                server,
                &format!(
                    r#"
s = socket.create_server(("{address}", {port}))
c, _ = s.accept()
time.sleep(2)
c.sendall(hashlib.sha256(read_all(c)).hexdigest().encode()); c.close()
"#
                ),
            )?;
            client(
                lab,
                server.other(),
                &format!(
                    r#"
c = connect("{address}", {port})
data = os.urandom({bytes})
c.sendall(data); c.shutdown(socket.SHUT_WR)
got = read_all(c)
assert got.decode() == hashlib.sha256(data).hexdigest(), got
print("equal")"#
                ),
                "equal",
            )?;
        }
        Ok(())
    },
};
