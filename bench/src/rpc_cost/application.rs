// SPDX-License-Identifier: MIT OR Apache-2.0
//! The echo server whose cost is measured, over either interface.

use crate::{sockets::Sockets, Api};
use abi::message::Endpoint;
use anyhow::{ensure, Context as _, Result};
use fastpath::dpdk::DpdkPort;
use sim::Host;
use std::{io, sync::Arc};
use tas::lowlevel::{event, Application, Connection, Context, Event, Socket};

/// Events taken at once.
const EVENTS: usize = 64;
/// The listener's token.
const LISTENER: u64 = u64::MAX;

/// An echo server.
pub(crate) enum Server {
    /// Over `tas::lowlevel`.
    LowLevel(Box<LowLevel>),
    /// Over `tas::sockets`.
    Sockets(Box<Sockets>),
}

/// Over `tas::lowlevel`.
pub(crate) struct LowLevel {
    context: Arc<Context>,
    listener: Socket,
    connections: Vec<(Socket, Connection)>,
    events: [Event; EVENTS],
    buffer: Vec<u8>,
}

impl Server {
    /// Listens on `port`; requests and replies have `bytes` bytes.
    pub(crate) fn new(api: Api, host: &mut Host<DpdkPort>, port: u16, bytes: usize) -> Result<Self> {
        if api == Api::Sockets {
            return Ok(Self::Sockets(Box::new(Sockets::new(host, port, bytes)?)));
        }
        let application: Arc<Application> = host.application()?;
        let context = Context::new(&application)?;
        host.carry_out_notices()?;
        let listener = Socket::new(&context, LISTENER, 0)?;
        listener.bind(&Endpoint::ipv4(host.config().ipv4, port)).context("bind")?;
        listener.listen(1024).context("listen")?;
        Ok(Self::LowLevel(Box::new(LowLevel {
            context,
            listener,
            connections: Vec::new(),
            events: [Event::default(); EVENTS],
            buffer: vec![0; bytes],
        })))
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        match self {
            Self::LowLevel(server) => server.connections.len(),
            Self::Sockets(server) => server.connections(),
        }
    }

    /// Accepts what waits.
    pub(crate) fn accept(&mut self, host: &mut Host<DpdkPort>) -> Result<()> {
        match self {
            Self::LowLevel(server) => server.accept(host),
            Self::Sockets(server) => server.accept(host),
        }
    }

    /// Echoes every request that is there; how many there were.
    #[inline]
    pub(crate) fn serve(&mut self) -> Result<usize> {
        match self {
            Self::LowLevel(server) => server.serve(),
            Self::Sockets(server) => server.serve(),
        }
    }
}

impl LowLevel {
    fn accept(&mut self, host: &mut Host<DpdkPort>) -> Result<()> {
        while self.context.poll(&mut self.events) > 0 {}
        loop {
            let token = self.connections.len() as u64;
            match self.listener.accept(&self.context, token, 0) {
                Ok(pair) => self.connections.push(pair),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The pool of buffer maps grows while connections arrive.
                Err(error) => return Err(error).context("accept"),
            }
            host.carry_out_notices()?;
        }
    }

    fn serve(&mut self) -> Result<usize> {
        let mut served = 0;
        loop {
            let count = self.context.poll(&mut self.events);
            if count == 0 {
                return Ok(served);
            }
            for happened in self.events.iter().take(count) {
                if happened.flags & event::READABLE == 0 {
                    continue;
                }
                let Some((_, connection)) = self.connections.get(happened.token as usize) else {
                    continue;
                };
                let read = connection.read(&mut self.buffer);
                if read > 0 {
                    ensure!(connection.write(&self.buffer[..read]) == read, "no room for a reply");
                    served += 1;
                }
            }
        }
    }
}
