// SPDX-License-Identifier: MIT OR Apache-2.0
//! System calls: their arguments, their answers, and blocking in virtual time.

use super::{
    connection::{pattern, Connection},
    packets::LOCAL_PORT,
    sockets::{self, Answer},
    world, Descriptor, Pending, Runner,
};
use crate::{
    parse::errno_name,
    script::{Argument, Call},
};
use libc::{c_int, pollfd};

/// The peer's port that connect() goes to where the script names none.
const SERVER_PORT: u16 = 8080;
/// Room for an option's value.
const OPTION_ROOM: usize = 64;

/// How far a blocking call got.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// It is not the first attempt.
    begun: bool,
    /// Bytes moved so far.
    moved: usize,
    /// When poll() gives up.
    gives_up_us: u64,
}

/// What an attempt came to.
enum Outcome {
    /// The call returns this.
    Done(Answer<i64>),
    /// It blocks.
    Blocks,
}

/// An attempt that could not even be made is a mistake of the script.
type Attempt = Result<Outcome, String>;

/// What a connect() under way came to, if it is over.
fn connected(live: c_int) -> Option<Answer<i64>> {
    let mut set = [pollfd { fd: live, events: libc::POLLOUT, revents: 0 }];
    if sockets::poll(&mut set) != Ok(1) {
        return None;
    }
    let error = sockets::option(live, libc::SOL_SOCKET, libc::SO_ERROR, 4).unwrap_or_default();
    let error = error.try_into().map_or(0, i32::from_ne_bytes);
    Some(if error == 0 { Ok(0) } else { Err(error) })
}

fn done(answer: Answer<i64>) -> Attempt {
    Ok(Outcome::Done(answer))
}

fn number(call: &Call, at: usize) -> Result<i64, String> {
    match call.arguments.get(at) {
        Some(Argument::Number(value)) => Ok(*value),
        other => Err(format!("{}: argument {} is {other:?}, not a number", call.name, at + 1)),
    }
}

fn field(fields: &[(String, Argument)], name: &str) -> Option<i64> {
    fields.iter().find_map(|(known, value)| match value {
        Argument::Number(value) if known == name => Some(*value),
        _ => None,
    })
}

/// Address and port of an argument that may be `...`.
fn endpoint(call: &Call, at: usize, default: (u32, u16)) -> (u32, u16) {
    match call.arguments.get(at) {
        Some(Argument::Fields(fields)) => (
            field(fields, "sin_addr").map_or(default.0, |address| address as u32),
            field(fields, "sin_port").map_or(default.1, |port| port as u16),
        ),
        _ => default,
    }
}

impl Runner<'_> {
    /// Makes a call. `returns_us`: it is to block, and to return then.
    pub(super) fn call(&mut self, line: usize, call: &Call, returns_us: Option<u64>) -> Result<(), String> {
        let mut progress = Progress::default();
        let outcome = self.attempt(call, &mut progress)?;
        match (outcome, returns_us) {
            (Outcome::Done(answer), None) => self.returned(call, answer),
            (Outcome::Done(_), Some(_)) => Err(format!("{} did not block", call.name)),
            (Outcome::Blocks, None) => Err(format!("{} would block", call.name)),
            (Outcome::Blocks, Some(returns_us)) => {
                self.say(&format!("{} blocks", call.name));
                self.pending.push(Pending { line, call: call.clone(), progress, returns_us });
                Ok(())
            }
        }
    }

    /// Tries the calls that block once more.
    pub(super) fn retry(&mut self) -> Result<(), String> {
        let now_us = self.world.now_us();
        let tolerance_us = self.settings.tolerance_us;
        for mut pending in std::mem::take(&mut self.pending) {
            let owned = |text: String| format!("{}\u{0}{text}", pending.line);
            match self.attempt(&pending.call, &mut pending.progress).map_err(owned)? {
                Outcome::Blocks if now_us > pending.returns_us + tolerance_us => {
                    return Err(owned(format!("{} does not return", pending.call.name)));
                }
                Outcome::Blocks => self.pending.push(pending),
                Outcome::Done(answer) => {
                    self.returned(&pending.call, answer).map_err(owned)?;
                    if now_us + tolerance_us < pending.returns_us {
                        let at = self.seconds(now_us);
                        return Err(owned(format!("{} returned too early, at {at}", pending.call.name)));
                    }
                }
            }
        }
        Ok(())
    }

    /// Compares what a call answered with what the script says.
    fn returned(&mut self, call: &Call, answer: Answer<i64>) -> Result<(), String> {
        let shown = |answer: Answer<i64>| match answer {
            Ok(value) => value.to_string(),
            Err(errno) => format!("-1 {}", errno_name(errno)),
        };
        self.say(&format!("{} = {}", call.name, shown(answer)));
        let expected = match (call.result, call.errno) {
            (None, _) => return Ok(()),
            (Some(_), Some(errno)) => Err(errno),
            (Some(value), None) => Ok(value),
        };
        if answer == expected {
            return Ok(());
        }
        Err(format!("{} returned {}, expected {}", call.name, shown(answer), shown(expected)))
    }

    fn descriptor(&self, call: &Call, at: usize) -> Result<&Descriptor, String> {
        let fd = number(call, at)?;
        self.descriptors.get(&fd).ok_or_else(|| format!("{}: descriptor {fd} is not open", call.name))
    }

    /// The live number of the descriptor that is the first argument, and whether a call on it blocks.
    fn live(&self, call: &Call) -> Result<(c_int, bool), String> {
        self.descriptor(call, 0).map(|descriptor| (descriptor.live, descriptor.blocking))
    }

    fn attempt(&mut self, call: &Call, progress: &mut Progress) -> Attempt {
        match call.name.as_str() {
            "socket" => self.socket(call),
            "bind" => {
                let (address, port) = endpoint(call, 1, (world::LOCAL, LOCAL_PORT));
                done(sockets::bind(self.live(call)?.0, address, port))
            }
            "listen" => done(sockets::listen(self.live(call)?.0, number(call, 1)? as c_int)),
            "accept" | "accept4" => self.accept(call),
            "connect" => self.connect(call, progress),
            "read" | "recv" | "recvfrom" => self.receive(call, progress),
            "write" | "send" | "sendto" => self.send(call, progress),
            "close" => {
                let live = self.live(call)?.0;
                self.descriptors.remove(&number(call, 0)?);
                done(sockets::close(live))
            }
            "shutdown" => done(sockets::shutdown(self.live(call)?.0, number(call, 1)? as c_int)),
            "setsockopt" => self.set_option(call),
            "getsockopt" => self.option(call),
            "fcntl" => self.fcntl(call),
            "ioctl" => self.ioctl(call),
            "poll" => self.poll(call, progress),
            other => Err(format!("the system call {other} is not supported")),
        }
    }

    /// Enters a new descriptor under the number the script expects.
    fn publish(&mut self, call: &Call, live: c_int, kind: c_int, connection: Option<usize>) -> Answer<i64> {
        let name = call.result.filter(|_| call.errno.is_none()).unwrap_or(live.into());
        let blocking = kind & libc::SOCK_NONBLOCK == 0;
        self.descriptors.insert(name, Descriptor { live, blocking, connection, remote_port: 0 });
        Ok(name)
    }

    fn socket(&mut self, call: &Call) -> Attempt {
        let domain = number(call, 0).unwrap_or(libc::AF_INET.into()) as c_int;
        let kind = number(call, 1)? as c_int;
        let protocol = number(call, 2)? as c_int;
        let made = sockets::socket(domain, kind, protocol);
        done(made.and_then(|live| self.publish(call, live, kind, None)))
    }

    fn accept(&mut self, call: &Call) -> Attempt {
        let (live, blocking) = self.live(call)?;
        let kind = number(call, 3).unwrap_or(0) as c_int;
        match sockets::accept(live) {
            Err(libc::EAGAIN) if blocking => Ok(Outcome::Blocks),
            Err(errno) => done(Err(errno)),
            Ok((new, port)) => {
                let connection = self.connections.iter().rposition(|known| known.remote_port == port);
                let answer = self.publish(call, new, kind, connection);
                self.observed = answer.ok();
                done(answer)
            }
        }
    }

    fn connect(&mut self, call: &Call, progress: &mut Progress) -> Attempt {
        let (live, blocking) = self.live(call)?;
        if progress.begun {
            return match connected(live) {
                None => Ok(Outcome::Blocks),
                Some(answer) => done(answer),
            };
        }
        let (address, port) = endpoint(call, 1, (world::REMOTE, SERVER_PORT));
        let answer = sockets::connect(live, address, port);
        if let Some(descriptor) = self.descriptors.get_mut(&number(call, 0)?) {
            descriptor.remote_port = port;
        }
        if matches!(answer, Ok(_) | Err(libc::EINPROGRESS)) {
            self.opened(call)?;
        }
        if blocking && answer == Err(libc::EINPROGRESS) {
            progress.begun = true;
            return Ok(Outcome::Blocks);
        }
        done(answer)
    }

    /// The descriptor may have begun to connect, or with TCP_FASTOPEN_CONNECT not yet: it has no port then.
    fn opened(&mut self, call: &Call) -> Result<(), String> {
        let fd = number(call, 0)?;
        let Descriptor { live, connection, remote_port, .. } = *self.descriptor(call, 0)?;
        let Some(local) = sockets::local_port(live).filter(|port| *port != 0 && connection.is_none()) else {
            return Ok(());
        };
        self.connections.push(Connection::new(remote_port, local));
        let index = self.connections.len() - 1;
        self.current = Some(index);
        self.observed = Some(fd);
        if let Some(descriptor) = self.descriptors.get_mut(&fd) {
            descriptor.connection = Some(index);
        }
        Ok(())
    }

    fn receive(&mut self, call: &Call, progress: &mut Progress) -> Attempt {
        let (live, blocking) = self.live(call)?;
        let room = number(call, 2)? as usize;
        let flags = number(call, 3).unwrap_or(0) as c_int;
        let blocking = blocking && flags & libc::MSG_DONTWAIT == 0;
        let wanted = if flags & libc::MSG_WAITALL != 0 { room } else { 1.min(room) };
        let bytes = match sockets::receive(live, room - progress.moved, flags & !libc::MSG_WAITALL) {
            Err(libc::EAGAIN) if blocking => return Ok(Outcome::Blocks),
            Err(_) if progress.moved > 0 => return done(Ok(progress.moved as i64)),
            Err(errno) => return done(Err(errno)),
            Ok(bytes) => bytes,
        };
        self.check_read(call, &bytes, flags, progress.moved)?;
        progress.moved += bytes.len();
        if blocking && progress.moved < wanted && !bytes.is_empty() {
            return Ok(Outcome::Blocks);
        }
        done(Ok(progress.moved as i64))
    }

    /// Compares what was read with what the peer sent, or what the script says.
    fn check_read(&mut self, call: &Call, bytes: &[u8], flags: c_int, before: usize) -> Result<(), String> {
        if let Some(Argument::Text(expected)) = call.arguments.get(1) {
            if expected.get(before..before + bytes.len()) != Some(bytes) {
                return Err(format!("read {:?}", String::from_utf8_lossy(bytes)));
            }
        }
        let Some(index) = self.descriptor(call, 0)?.connection else {
            return Ok(());
        };
        let connection = &mut self.connections[index];
        let first = connection.read;
        if flags & libc::MSG_PEEK == 0 {
            connection.read += bytes.len();
        }
        let right = bytes.iter().enumerate().all(|(at, byte)| *byte == pattern(first + at));
        if right || flags & libc::MSG_TRUNC != 0 || flags & libc::MSG_OOB != 0 {
            return Ok(());
        }
        Err(format!("the bytes read from position {first} are not those that were sent"))
    }

    fn send(&mut self, call: &Call, progress: &mut Progress) -> Attempt {
        let (live, blocking) = self.live(call)?;
        let count = number(call, 2)? as usize;
        let mut flags = number(call, 3).unwrap_or(0) as c_int;
        let may_wait = blocking && flags & libc::MSG_DONTWAIT == 0;
        if progress.begun {
            // With MSG_FASTOPEN a call that blocks waits for the connection first, as connect() does.
            match connected(live) {
                None => return Ok(Outcome::Blocks),
                Some(Err(errno)) => return done(Err(errno)),
                Some(Ok(_)) => flags &= !libc::MSG_FASTOPEN,
            }
            if progress.moved == count {
                return done(Ok(count as i64));
            }
        }
        let index = self.descriptor(call, 0)?.connection;
        let written = index.map_or(0, |index| self.connections[index].written.len());
        let bytes: Vec<u8> = match call.arguments.get(1) {
            Some(Argument::Text(text)) => text.iter().copied().skip(progress.moved).collect(),
            _ => (0..count - progress.moved).map(|at| pattern(written + at)).collect(),
        };
        let opens = index.is_none();
        let answer = if flags & libc::MSG_FASTOPEN != 0 {
            let (address, port) = endpoint(call, 4, (world::REMOTE, SERVER_PORT));
            if let Some(descriptor) = self.descriptors.get_mut(&number(call, 0)?) {
                descriptor.remote_port = port;
            }
            sockets::send_to(live, &bytes, flags, address, port)
        } else {
            sockets::send(live, &bytes, flags)
        };
        if opens && matches!(answer, Ok(_) | Err(libc::EINPROGRESS)) {
            self.opened(call)?;
        }
        if let (Ok(count), Some(index)) = (answer, self.descriptor(call, 0)?.connection) {
            self.connections[index].written.extend(&bytes[..count]);
        }
        if opens && may_wait && matches!(answer, Ok(_) | Err(libc::EINPROGRESS)) {
            progress.begun = true;
            progress.moved = answer.unwrap_or(0);
            return Ok(Outcome::Blocks);
        }
        match answer {
            Ok(moved) => progress.moved += moved,
            Err(libc::EAGAIN) => {}
            Err(_) if progress.moved > 0 => return done(Ok(progress.moved as i64)),
            Err(errno) => return done(Err(errno)),
        }
        if may_wait && progress.moved < count {
            return Ok(Outcome::Blocks);
        }
        done(answer.map(|_| progress.moved as i64))
    }

    fn set_option(&mut self, call: &Call) -> Attempt {
        let live = self.live(call)?.0;
        let value: Vec<i64> = match call.arguments.get(3) {
            Some(Argument::List(items)) => items
                .iter()
                .map(|item| match item {
                    Argument::Number(value) => Ok(*value),
                    other => Err(format!("setsockopt: {other:?} is not a number")),
                })
                .collect::<Result<_, _>>()?,
            Some(Argument::Fields(fields)) => {
                vec![field(fields, "onoff").unwrap_or(0), field(fields, "linger").unwrap_or(0)]
            }
            Some(Argument::Text(text)) => {
                let (level, name) = (number(call, 1)? as c_int, number(call, 2)? as c_int);
                return done(sockets::set_option(live, level, name, text));
            }
            other => return Err(format!("setsockopt: the value {other:?} is not supported")),
        };
        let bytes: Vec<u8> = value.iter().flat_map(|value| (*value as i32).to_ne_bytes()).collect();
        done(sockets::set_option(live, number(call, 1)? as c_int, number(call, 2)? as c_int, &bytes))
    }

    fn option(&mut self, call: &Call) -> Attempt {
        let live = self.live(call)?.0;
        let (level, name) = (number(call, 1)? as c_int, number(call, 2)? as c_int);
        let value = match sockets::option(live, level, name, OPTION_ROOM) {
            Err(errno) => return done(Err(errno)),
            Ok(value) => value,
        };
        let words: Vec<i64> = value
            .chunks_exact(4)
            .map(|word| i64::from(i32::from_ne_bytes([word[0], word[1], word[2], word[3]])))
            .collect();
        match call.arguments.get(3) {
            Some(Argument::List(items)) => {
                let expected = match items.first() {
                    Some(Argument::Number(expected)) => *expected,
                    _ => return done(Ok(0)),
                };
                if words.first() != Some(&expected) {
                    return Err(format!("getsockopt gave {words:?}, expected {expected}"));
                }
            }
            Some(Argument::Fields(fields)) => {
                let expected = ["onoff", "linger"].map(|name| field(fields, name).unwrap_or(0));
                if words != expected {
                    return Err(format!("getsockopt gave {words:?}, expected {expected:?}"));
                }
            }
            _ => {}
        }
        done(Ok(0))
    }

    fn fcntl(&mut self, call: &Call) -> Attempt {
        let fd = number(call, 0)?;
        let command = number(call, 1)? as c_int;
        let argument = number(call, 2).unwrap_or(0) as c_int;
        let Some(descriptor) = self.descriptors.get_mut(&fd) else {
            return done(Err(libc::EBADF));
        };
        match command {
            libc::F_GETFL => {
                let nonblocking = if descriptor.blocking { 0 } else { libc::O_NONBLOCK };
                done(Ok(i64::from(libc::O_RDWR | nonblocking)))
            }
            libc::F_SETFL => {
                descriptor.blocking = argument & libc::O_NONBLOCK == 0;
                done(Ok(0))
            }
            _ => Err("fcntl: only F_GETFL and F_SETFL are supported".to_owned()),
        }
    }

    fn ioctl(&mut self, call: &Call) -> Attempt {
        let live = self.live(call)?.0;
        let value = match sockets::ioctl(live, number(call, 1)? as u64) {
            Err(errno) => return done(Err(errno)),
            Ok(value) => i64::from(value),
        };
        match call.arguments.get(2) {
            Some(Argument::List(items)) if items.first() != Some(&Argument::Number(value)) => {
                Err(format!("ioctl gave {value}, expected {items:?}"))
            }
            _ => done(Ok(0)),
        }
    }

    fn poll(&mut self, call: &Call, progress: &mut Progress) -> Attempt {
        let Some(Argument::List(entries)) = call.arguments.first() else {
            return Err("poll: expected a list of entries".to_owned());
        };
        let mut set = Vec::new();
        let mut expected = Vec::new();
        for entry in entries {
            let Argument::Fields(fields) = entry else {
                return Err("poll: an entry is {fd=…, events=…, revents=…}".to_owned());
            };
            let fd = field(fields, "fd").and_then(|fd| self.descriptors.get(&fd));
            let live = fd.ok_or("poll: a descriptor that is not open")?.live;
            let events = field(fields, "events").unwrap_or(0) as i16;
            set.push(pollfd { fd: live, events, revents: 0 });
            expected.push(field(fields, "revents").unwrap_or(0) as i16);
        }
        let timeout_ms = number(call, 2)?;
        if !progress.begun {
            progress.begun = true;
            progress.gives_up_us = match timeout_ms {
                0.. => self.world.now_us() + timeout_ms as u64 * 1000,
                _ => u64::MAX,
            };
        }
        let ready = sockets::poll(&mut set).map_err(|errno| format!("poll: {}", errno_name(errno)))?;
        if ready == 0 && self.world.now_us() < progress.gives_up_us {
            return Ok(Outcome::Blocks);
        }
        let found: Vec<i16> = set.iter().map(|entry| entry.revents).collect();
        if found != expected {
            return Err(format!("poll found events {found:#x?}, expected {expected:#x?}"));
        }
        done(Ok(ready))
    }
}
