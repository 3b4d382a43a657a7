// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unmodified applications.

use super::Case;
use crate::{
    lab::{Lab, Side, TAS},
    python::{client, line, serve},
};
use anyhow::{ensure, Result};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(540);

const REDIS: &str = "redis-server --save '' --appendonly no --protected-mode no --bind";

/// redis-server on TAS.
pub(crate) const REDIS_SERVER: Case = Case {
    name: "redis-server",
    about: "redis-server on TAS, redis-benchmark and random values from Linux",
    least_segments: 2_000,
    run: |lab| redis(lab, Side::Tas),
};

/// redis clients on TAS.
pub(crate) const REDIS_CLIENT: Case = Case {
    name: "redis-client",
    about: "redis-benchmark and random values on TAS against redis-server on Linux",
    least_segments: 2_000,
    run: |lab| redis(lab, Side::Peer),
};

fn redis(lab: &Lab, server: Side) -> Result<()> {
    let (address, client) = (server.address(), server.other());
    lab.serve(server, &format!("{REDIS} {address}"), &format!("redis-cli -h {address} ping | grep -q PONG"))?;
    let requests = lab.volume(20_000, 1_000);
    for pipeline in ["", "-P 16"] {
        let table = lab.run(
            client,
            LONG,
            &format!("redis-benchmark -h {address} -t set,get -c 32 -n {requests} -d 64 {pipeline} --csv"),
        )?;
        ensure!(
            table.lines().filter(|line| line.contains("SET") || line.contains("GET")).count() >= 2,
            "{table}"
        );
    }
    let values = lab.volume(300, 20);
    let script = format!(
        r#"i=0; while [ $i -lt {values} ]; do v=$(head -c 1500 /dev/urandom | base64 -w0); printf 'set key:%s %s\n' $i $v; echo "$v" >&3; i=$((i+1)); done 3>/tmp/tas-e2e-want | redis-cli -h {address} | grep -vc OK;
i=0; while [ $i -lt {values} ]; do echo get key:$i; i=$((i+1)); done | redis-cli -h {address} > /tmp/tas-e2e-have; cmp /tmp/tas-e2e-want /tmp/tas-e2e-have && echo same"#
    );
    let outcome = lab.run(client, LONG, &script)?;
    ensure!(outcome.contains("same"), "values read back differ: {outcome}");
    // A signal must not disturb its event loop.
    lab.run(client, MINUTE, &format!("redis-cli -h {address} shutdown nosave; true"))?;
    Ok(())
}

/// A file through Python's HTTP server on TAS.
pub(crate) const CURL_FROM_PYTHON: Case = Case {
    name: "http-server",
    about: "python3 -m http.server on TAS, curl on Linux, checksum equal",
    least_segments: 200,
    run: |lab| http(lab, Side::Tas),
};

/// curl on TAS.
pub(crate) const CURL_CLIENT: Case = Case {
    name: "http-client",
    about: "curl on TAS from python3 -m http.server on Linux, checksum equal",
    least_segments: 200,
    run: |lab| http(lab, Side::Peer),
};

fn http(lab: &Lab, server: Side) -> Result<()> {
    let (address, client) = (server.address(), server.other());
    let bytes = lab.volume(20_000_000, 500_000);
    let port = 8000;
    lab.serve(
        server,
        &format!(
            "sh -c 'mkdir -p /tmp/tas-e2e-www && cd /tmp/tas-e2e-www && head -c {bytes} /dev/urandom > file && sha256sum file > sum && exec python3 -m http.server --bind {address} {port}'"
        ),
        &format!("curl -sf -m 5 http://{address}:{port}/sum -o /dev/null"),
    )?;
    let sums = lab.run(
        client,
        LONG,
        &format!("curl -sf -m 500 http://{address}:{port}/sum | cut -d' ' -f1; curl -sf -m 500 http://{address}:{port}/file | sha256sum | cut -d' ' -f1"),
    )?;
    let mut lines = sums.lines();
    let (want, have) = (lines.next(), lines.next());
    ensure!(want.is_some() && want == have, "checksums differ: {sums}");
    Ok(())
}

/// An asyncio echo server with several clients.
pub(crate) const PYTHON_ASYNCIO: Case = Case {
    name: "python-asyncio",
    about: "asyncio echo server on TAS, 20 clients at a time on Linux, both ways at once",
    least_segments: 200,
    run: |lab| {
        let bytes = lab.volume(200_000, 20_000);
        let server = format!(
            r#"
import asyncio
async def serve(r, w):
    while True:
        d = await r.read(65536)
        if not d: break
        w.write(d); await w.drain()
    w.close()
async def main():
    s = await asyncio.start_server(serve, "{TAS}", 9001)
    await s.serve_forever()
asyncio.run(main())"#
        );
        let program = format!(
            r#"
import asyncio
async def one(n):
    r, w = await asyncio.open_connection("{TAS}", 9001)
    data = os.urandom({bytes})
    async def send():
        w.write(data); await w.drain(); w.write_eof()
    async def receive():
        return await r.read(-1)
    _, back = await asyncio.gather(send(), receive())
    w.close()
    assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest(), (n, len(back))
async def main():
    await asyncio.gather(*(one(n) for n in range(20)))
    print("all equal")
asyncio.run(main())"#
        );
        lab.serve(Side::Tas, &line(&server), &line(&format!("connect(\"{TAS}\", 9001).close()")))?;
        client(lab, Side::Peer, &program, "all equal")
    },
};

/// Many short connections.
pub(crate) const MANY_CONNECTIONS: Case = Case {
    name: "many-connections",
    about: "connections opened and closed one after the other, both ways; none is left",
    least_segments: 200,
    run: |lab| {
        let count = lab.volume(500, 40);
        for server in [Side::Tas, Side::Peer] {
            let address = server.address();
            serve(
                lab,
                server,
                &format!(
                    r#"
s = socket.create_server(("{address}", 9002), backlog=64)
while True:
    c, _ = s.accept()
    d = c.recv(100)
    c.sendall(d[::-1]); c.close()"#
                ),
            )?;
            client(
                lab,
                server.other(),
                &format!(
                    r#"
for n in range({count}):
    c = connect("{address}", 9002)
    m = b"message %d" % n
    c.sendall(m)
    got = read_all(c)
    assert got == m[::-1], (n, got)
    c.close()
print("done")"#
                ),
                "done",
            )?;
            lab.end_background();
        }
        let flows = lab.tasctl(&["flows"])?;
        ensure!(!flows.contains("ESTAB"), "connections are left:\n{flows}");
        Ok(())
    },
};
