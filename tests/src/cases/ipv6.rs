// SPDX-License-Identifier: MIT OR Apache-2.0
//! The other family: connections both ways, names, dual-stack listeners, refusals.

use super::{bulk, Case};
use crate::{
    lab::{Lab, Side, TAS, TAS6},
    python::{client, serve},
};
use anyhow::Result;

/// Both ways, with every byte checked.
pub(crate) const IPV6_TRANSFER: Case = Case {
    name: "ipv6-transfer",
    about: "IPv6 both ways: 4 MB each way checked by a digest, half-close, names of both ends",
    least_segments: 1000,
    run: |lab| {
        for (server, port) in [(Side::Tas, 9060), (Side::Peer, 9061)] {
            transfer(lab, server, port)?;
        }
        Ok(())
    },
};

fn transfer(lab: &Lab, server: Side, port: u16) -> Result<()> {
    let (address, client_address) = (server.address6(), server.other().address6());
    let bytes = lab.volume(4_000_000, 400_000);
    serve(
        lab,
        server,
        &format!(
            r#"
s = socket.create_server(("{address}", {port}), family=socket.AF_INET6)
assert s.getsockname() == ("{address}", {port}, 0, 0), s.getsockname()
c, peer = s.accept()
assert peer[0] == "{client_address}" and peer == c.getpeername(), peer
assert c.getsockname() == ("{address}", {port}, 0, 0), c.getsockname()
data = read_all(c)
c.sendall(hashlib.sha256(data).digest() + data[::-1]); c.shutdown(socket.SHUT_WR)
assert c.recv(1) == b""
"#
        ),
    )?;
    client(
        lab,
        server.other(),
        &format!(
            r#"
import threading
c = connect("{address}", {port})
assert c.family == socket.AF_INET6 and c.getpeername() == ("{address}", {port}, 0, 0), c.getpeername()
assert c.getsockname()[0] == "{client_address}", c.getsockname()
data = os.urandom({bytes})
c.sendall(data); c.shutdown(socket.SHUT_WR)
got = read_all(c)
assert got == hashlib.sha256(data).digest() + data[::-1], len(got)
print("equal")"#
        ),
        "equal",
    )
}

/// One listener for both families, and one for IPv6 only.
pub(crate) const IPV6_DUAL_STACK: Case = Case {
    name: "ipv6-dual-stack",
    about: "a listener on [::] takes both families, IPv4 in mapped form; with IPV6_V6ONLY it refuses IPv4",
    least_segments: 12,
    run: |lab| {
        serve(
            lab,
            Side::Tas,
            r#"
s = socket.create_server(("::", 9062), family=socket.AF_INET6, dualstack_ipv6=True)
for _ in range(2):
    c, peer = s.accept()
    c.sendall((peer[0] + " " + c.getsockname()[0]).encode()); c.close()
s.close()
"#,
        )?;
        client(
            lab,
            Side::Peer,
            &format!(
                r#"
for address, mapped in [("{TAS}", "::ffff:"), ("{TAS6}", "")]:
    c = connect(address, 9062)
    expected = mapped + c.getsockname()[0] + " " + mapped + address
    got = read_all(c).decode()
    assert got == expected, (got, expected)
print("both")"#
            ),
            "both",
        )?;
        serve(
            lab,
            Side::Tas,
            r#"
s = socket.create_server(("::", 9063), family=socket.AF_INET6)
assert s.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
c, peer = s.accept()
c.sendall(peer[0].encode())
assert c.recv(1) == b""
"#,
        )?;
        client(
            lab,
            Side::Peer,
            &format!(
                r#"
c = connect("{TAS6}", 9063)
try:
    socket.create_connection(("{TAS}", 9063), 20)
    raise SystemExit("IPv4 was accepted")
except ConnectionRefusedError: pass
c.shutdown(socket.SHUT_WR)
assert read_all(c).decode() == c.getsockname()[0]
print("one")"#
            ),
            "one",
        )
    },
};

/// Nobody listens, nobody is there, and IPv4 through an IPv6 socket.
pub(crate) const IPV6_CONNECT: Case = Case {
    name: "ipv6-connect",
    about: "connecting from TAS: refused by a closed port, and to an IPv4 address in mapped form",
    least_segments: 6,
    run: |lab| {
        serve(
            lab,
            Side::Peer,
            r#"
s = socket.create_server(("0.0.0.0", 9064))
c, peer = s.accept()
c.sendall(peer[0].encode()); c.close()
"#,
        )?;
        let (peer, peer6) = (Side::Peer.address(), Side::Peer.address6());
        client(
            lab,
            Side::Tas,
            &format!(
                r#"
try:
    socket.create_connection(("{peer6}", 9065), 20)
    raise SystemExit("nobody listens there")
except ConnectionRefusedError: pass
c = connect("::ffff:{peer}", 9064)
assert c.family == socket.AF_INET6 and c.getpeername()[0] == "::ffff:{peer}", c.getpeername()
assert c.getsockname()[0] == "::ffff:{TAS}", c.getsockname()
assert read_all(c) == b"{TAS}"
c.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 77)
assert c.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS) == 77
print("as it should be")"#
            ),
            "as it should be",
        )
    },
};

/// Bulk, both directions.
pub(crate) const IPV6_IPERF: Case = Case {
    name: "ipv6-iperf3",
    about: "iperf3 server on TAS over IPv6, both directions, no second without data",
    least_segments: 1000,
    run: |lab| {
        for direction in ["", "-R"] {
            bulk::iperf(lab, Side::Tas, TAS6, direction)?;
            lab.end_background();
        }
        Ok(())
    },
};
