// SPDX-License-Identifier: MIT OR Apache-2.0
//! Round trips to an echo server through the low-level API: `rpc ADDRESS:PORT [CONNECTIONS [ROUNDS]]`.
//! Prints the median and the highest round-trip time. TAS_BACKEND, TAS_INSTANCE and TAS_SOCKET say
//! which TAS serves it.

use abi::message::Endpoint;
use std::{io, net::SocketAddrV4, process::ExitCode, time::Instant};
use tas::{
    control::{self, Backend},
    lowlevel::{event, Application, Close, Connection, Context, Event, Options, Socket},
};

const MESSAGE_BYTES: usize = 64;

struct Client {
    socket: Socket,
    connection: Option<Connection>,
    received: usize,
    rounds_left: usize,
    sent_at: Instant,
}

impl Client {
    fn send(&mut self) {
        let connection = self.connection.as_ref().expect("connected");
        self.sent_at = Instant::now();
        // One message is outstanding at a time: there is always room for it.
        assert_eq!(connection.write(&[7; MESSAGE_BYTES]), MESSAGE_BYTES);
        self.received = 0;
    }

    /// Takes what came; the round-trip time in microseconds when that completes a message.
    fn receive(&mut self) -> Option<f64> {
        let connection = self.connection.as_ref()?;
        let mut into = [0; MESSAGE_BYTES];
        self.received += connection.read(&mut into);
        (self.received == MESSAGE_BYTES).then(|| self.sent_at.elapsed().as_secs_f64() * 1e6)
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rpc: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let usage = || io::Error::other("usage: rpc ADDRESS:PORT [CONNECTIONS [ROUNDS]]");
    let mut arguments = std::env::args().skip(1);
    let server: SocketAddrV4 = arguments.next().and_then(|text| text.parse().ok()).ok_or_else(usage)?;
    let mut number =
        |default: usize| arguments.next().map_or(Ok(default), |text| text.parse().map_err(|_| usage()));
    let (connections, rounds) = (number(1)?, number(1000)?);

    let options = Options::default();
    let application =
        Application::attach(control::open(Backend::from_environment()?, &options.instance)?, &options)?;
    let context = Context::new(&application)?;
    let remote = Endpoint::ipv4(u32::from(*server.ip()), server.port());
    let mut clients = Vec::new();
    for token in 0..connections as u64 {
        let socket = Socket::new(&context, token, 0)?;
        socket.connect(&context, &remote)?;
        clients.push(Client {
            socket,
            connection: None,
            received: 0,
            rounds_left: rounds,
            sent_at: Instant::now(),
        });
    }

    let mut times_us = Vec::new();
    let mut events = [Event::default(); 64];
    let (mut open, start) = (connections, Instant::now());
    while open > 0 {
        let count = context.poll(&mut events);
        if count == 0 {
            context.wait(None)?;
        }
        for event in &events[..count] {
            let client = &mut clients[event.token as usize];
            if event.flags & event::FAILED != 0 {
                return Err(io::Error::from_raw_os_error(event.error));
            }
            if event.flags & event::CONNECTED != 0 {
                client.connection = Some(client.socket.established()?);
                client.send();
            }
            if event.flags & event::READABLE == 0 {
                continue;
            }
            let Some(time_us) = client.receive() else {
                continue;
            };
            times_us.push(time_us);
            client.rounds_left -= 1;
            if client.rounds_left > 0 {
                client.send();
            } else if let Some(connection) = &client.connection {
                connection.close(&client.socket, Close::Finish);
                open -= 1;
            }
        }
    }
    times_us.sort_by(f64::total_cmp);
    println!(
        "rpc: connections={connections} rounds={rounds} rpc_per_s={:.0} median_us={:.1} max_us={:.1}",
        times_us.len() as f64 / start.elapsed().as_secs_f64(),
        times_us[times_us.len() / 2],
        times_us[times_us.len() - 1]
    );
    Ok(())
}
