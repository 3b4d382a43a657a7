// SPDX-License-Identifier: MIT OR Apache-2.0
//! Runs a script.

mod calls;
mod connection;
mod packets;
mod settings;
mod sockets;
mod world;

use crate::{
    expression,
    script::{Action, Call, Event, Script, Time},
};
use calls::Progress;
use connection::Connection;
use settings::Settings;
use std::{collections::HashMap, fmt};
use world::World;

/// How long `*` waits for a segment, microseconds of virtual time.
const PATIENCE_US: u64 = 300_000_000;

/// Where the host did something else than the script says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Line of the script; zero: the script as a whole.
    pub line: usize,
    /// What was expected, and what happened.
    pub text: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "error: {}", self.text),
            line => write!(f, "{line}: error: {}", self.text),
        }
    }
}

impl std::error::Error for Mismatch {}

/// A descriptor of the script.
#[derive(Clone, Copy)]
struct Descriptor {
    /// Its number in this process.
    live: i32,
    /// The script did not ask for O_NONBLOCK.
    blocking: bool,
    /// Index of its connection.
    connection: Option<usize>,
    /// The peer's port that it connects to.
    remote_port: u16,
}

/// A call that has not returned.
struct Pending {
    line: usize,
    call: Call,
    progress: Progress,
    /// When it is to return.
    returns_us: u64,
}

/// A run.
struct Runner<'a> {
    world: World,
    settings: Settings,
    connections: Vec<Connection>,
    /// The connection that packets without a port belong to.
    current: Option<usize>,
    descriptors: HashMap<i64, Descriptor>,
    /// The script's descriptor of the connection that code asserts about.
    observed: Option<i64>,
    pending: Vec<Pending>,
    /// The fast-open cookie that the host gave last.
    cookie: Option<Vec<u8>>,
    start_us: u64,
    /// Time of the event before.
    last_us: u64,
    verbose: &'a mut dyn FnMut(&str),
}

/// Runs `script` on a new host. It attaches this process's sockets, so it works once per process.
/// `verbose` gets a line for everything that happens.
///
/// # Errors
/// The first event that does not go as written.
pub fn run(script: &Script, verbose: &mut dyn FnMut(&str)) -> Result<(), Mismatch> {
    let settings = Settings::of(script)?;
    let world = World::new(&settings).map_err(|error| Mismatch { line: 0, text: error.to_string() })?;
    let start_us = world.now_us();
    let mut runner = Runner {
        world,
        settings,
        connections: Vec::new(),
        current: None,
        descriptors: HashMap::new(),
        observed: None,
        pending: Vec::new(),
        cookie: None,
        start_us,
        last_us: start_us,
        verbose,
    };
    let mut line = 0;
    for event in &script.events {
        line = event.line;
        let done = runner.event(event);
        done.map_err(|text| runner.failure(event.line, text))?;
    }
    runner.end().map_err(|text| runner.failure(line, text))
}

impl Runner<'_> {
    fn failure(&mut self, line: usize, text: String) -> Mismatch {
        for flow in self.world.describe() {
            (self.verbose)(&format!("  flow: {flow}"));
        }
        // A call that returned wrongly names its own line.
        match text.split_once('\u{0}') {
            Some((own, text)) => Mismatch { line: own.parse().unwrap_or(line), text: text.to_owned() },
            None => Mismatch { line, text },
        }
    }

    fn seconds(&self, at_us: u64) -> String {
        let us = at_us.saturating_sub(self.start_us);
        format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
    }

    fn say(&mut self, text: &str) {
        let line = format!("{} {text}", self.seconds(self.world.now_us()));
        (self.verbose)(&line);
    }

    /// Earliest and latest time of an event.
    fn window(&self, time: &Time) -> (u64, u64) {
        let base = if time.relative { self.last_us } else { self.start_us };
        (base + time.from_us, base + time.to_us)
    }

    fn event(&mut self, event: &Event) -> Result<(), String> {
        let (from_us, to_us) = self.window(&event.time);
        if let Action::Expect(packet) = &event.action {
            let limit_us = if event.time.any { self.world.now_us() + PATIENCE_US } else { to_us };
            let at_us = self.expect_packet(packet, (!event.time.any).then_some(from_us), limit_us)?;
            let exact = !event.time.any && from_us == to_us;
            self.last_us = if exact { from_us } else { at_us };
            return Ok(());
        }
        if !event.time.any {
            self.run_to(from_us)?;
        }
        self.last_us = if event.time.any { self.world.now_us() } else { from_us };
        match &event.action {
            Action::Send(packet) => self.send_packet(packet)?,
            Action::Icmp(icmp) => self.send_icmp(icmp),
            Action::Call(call) => {
                let base = if event.time.relative { from_us - event.time.from_us } else { self.start_us };
                self.call(event.line, call, event.time.returns_us.map(|returns| base + returns))?;
            }
            Action::Code(code) => self.code(code)?,
            // Done before the host began.
            Action::Command(_) | Action::Expect(_) => {}
        }
        self.settle()
    }

    /// Lets happen what happens until `at_us`.
    fn run_to(&mut self, at_us: u64) -> Result<(), String> {
        while self.world.now_us() < at_us {
            self.step(at_us)?;
        }
        Ok(())
    }

    /// The clock moves on, at most to `limit_us`.
    fn step(&mut self, limit_us: u64) -> Result<(), String> {
        self.world.advance(limit_us).map_err(|error| error.to_string())?;
        self.retry()?;
        self.check_frames()
    }

    /// What follows at once from the last action.
    fn settle(&mut self) -> Result<(), String> {
        self.world.settle().map_err(|error| error.to_string())?;
        self.retry()?;
        self.check_frames()
    }

    fn check_frames(&mut self) -> Result<(), String> {
        self.world.malformed.take().map_or(Ok(()), Err)
    }

    fn code(&mut self, code: &str) -> Result<(), String> {
        let live = self.observed.and_then(|fd| self.descriptors.get(&fd)).map(|descriptor| descriptor.live);
        let live = live.ok_or("there is no connection to look at")?;
        let field = sockets::tcp_info(live).map_err(|errno| format!("TCP_INFO: errno {errno}"))?;
        expression::check(code, &field)
    }

    /// Every call has returned, and nothing was sent that nobody expected.
    fn end(&mut self) -> Result<(), String> {
        while let Some(returns_us) = self.pending.iter().map(|pending| pending.returns_us).max() {
            self.step(returns_us + self.settings.tolerance_us + 1)?;
        }
        let limit_us = self.last_us;
        if let Some(sent) = self.world.sent.pop_front().filter(|sent| sent.at_us <= limit_us) {
            let shown = self.shown(&sent.parsed);
            return Err(format!("sent at {}, and not expected: {shown}", self.seconds(sent.at_us)));
        }
        Ok(())
    }
}
