// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
//! SET_OPTION and GET_OPTION: the options the slow path acts on.

use crate::{
    config::BUFFER_BYTES_MIN,
    connection::flag as fact,
    errno::Errno,
    random::SipKey,
    request::open::BACKLOG_MAX,
    socket::{flag, Kind, Socket},
    stack::Stack,
    wire::service::Service,
};
use abi::{
    message::{option, Message, Option_},
    pool::BUFFER_BYTES_MAX,
};

/// Linux's MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL.
const KEEPALIVE_MAX_S: u32 = 32_767;
/// Linux's MAX_TCP_KEEPCNT.
const KEEPALIVE_COUNT_MAX: u32 = 127;

/// Linux's MAX_TCP_SYNCNT.
const SYN_COUNT_MAX: u32 = 127;
/// Linux's TCP_MIN_MSS and MAX_TCP_WINDOW: bounds of TCP_MAXSEG.
const MAX_SEGMENT_MIN: u32 = 88;
const MAX_SEGMENT_MAX: u32 = 32_767;

/// `value`, if it is between 1 and `max`.
fn in_range(value: u32, max: u32) -> Result<u32, Errno> {
    if value == 0 || value > max {
        Err(Errno::EINVAL)
    } else {
        Ok(value)
    }
}

/// The key in a FAST_OPEN_KEY.
fn key_of(body: &Option_) -> SipKey {
    let [third, fourth] = body.more;
    let word = |low: u32, high: u32| (high as u64) << 32 | low as u64;
    SipKey(word(body.value, body.value2), word(third, fourth))
}

impl Stack<'_> {
    /// SET_OPTION.
    pub(super) fn request_set_option(&mut self, id: u32, message: &mut Message) -> Result<(), Errno> {
        let body: Option_ = message.get();
        let on = body.value != 0;
        match body.option {
            option::REUSE_ADDRESS => self.set_reuse(id, flag::REUSE_ADDRESS, on),
            option::REUSE_PORT => self.set_reuse(id, flag::REUSE_PORT, on),
            option::LINGER => {
                let socket = self.sockets.at_mut(id);
                socket.set(flag::LINGER, on);
                socket.linger_s = body.value2;
            }
            option::KEEPALIVE => {
                self.set_flag(id, flag::KEEPALIVE, fact::KEEPALIVE, on);
                self.set_keepalive(id);
            }
            option::KEEPALIVE_IDLE => {
                let idle_s = in_range(body.value, KEEPALIVE_MAX_S)? as u16;
                self.sockets.at_mut(id).keepalive.idle_s = idle_s;
                self.set_keepalive(id);
            }
            option::KEEPALIVE_INTERVAL => {
                let interval_s = in_range(body.value, KEEPALIVE_MAX_S)? as u16;
                self.sockets.at_mut(id).keepalive.interval_s = interval_s;
                self.set_keepalive(id);
            }
            option::KEEPALIVE_COUNT => {
                let count = in_range(body.value, KEEPALIVE_COUNT_MAX)? as u8;
                self.sockets.at_mut(id).keepalive.count = count;
                self.set_keepalive(id);
            }
            option::V6ONLY => self.set_v6only(id, on)?,
            option::NODELAY => self.set_flag(id, flag::NODELAY, fact::NODELAY, on),
            option::RECEIVE_BUFFER => self.set_receive_buffer(id, body.value),
            option::USER_TIMEOUT => self.set_user_timeout(id, body.value)?,
            option::CONGESTION => self.set_congestion(id, body.value)?,
            option::MAX_SEGMENT => {
                let bytes = match body.value {
                    0 => 0,
                    given if given < MAX_SEGMENT_MIN => return Err(Errno::EINVAL),
                    given => in_range(given, MAX_SEGMENT_MAX)?,
                };
                self.sockets.at_mut(id).max_segment = bytes as u16;
            }
            option::TRAFFIC_CLASS => {
                let service = self.sockets.at(id).service.with_class(body.value as u8);
                self.set_service(id, service);
            }
            option::HOP_LIMIT => {
                let limit = u8::try_from(body.value).map_err(|_| Errno::EINVAL)?;
                let service = self.sockets.at(id).service.with_hop_limit(limit);
                self.set_service(id, service);
            }
            option::RECEIVE_ERRORS => self.sockets.at_mut(id).set(flag::RECEIVE_ERRORS, on),
            option::FAST_OPEN => self.fast_open_socket(id)?.fast_open_limit = body.value.min(BACKLOG_MAX),
            option::FAST_OPEN_NO_COOKIE => {
                self.fast_open_socket(id)?.set(flag::FAST_OPEN_NO_COOKIE, on);
            }
            option::FAST_OPEN_KEY => {
                let key = key_of(&body);
                self.sockets.at_mut(id).fast_open_keys = Some([key, key]);
            }
            option::FAST_OPEN_BACKUP_KEY => {
                let [first, _] = self.sockets.at(id).fast_open_keys.ok_or(Errno::EINVAL)?;
                self.sockets.at_mut(id).fast_open_keys = Some([first, key_of(&body)]);
            }
            option::SYN_COUNT => {
                self.sockets.at_mut(id).syn_retries = in_range(body.value, SYN_COUNT_MAX)? as u8;
            }
            _ => return Err(Errno::ENOPROTOOPT),
        }
        message.set(&Option_::default());
        Ok(())
    }

    /// A connection follows its socket's IP_TOS and IP_TTL, also while it is being opened.
    fn set_service(&mut self, id: u32, service: Service) {
        let socket = self.sockets.at_mut(id);
        socket.service = service;
        let flow = socket.flow;
        if self.connections.has(flow) {
            self.connections.at_mut(flow).service = service;
            self.update_flow(flow);
        }
    }

    /// The socket, if fast open can still be set: it listens, or may yet.
    fn fast_open_socket(&mut self, id: u32) -> Result<&mut Socket, Errno> {
        let socket = self.sockets.at_mut(id);
        match socket.kind {
            Kind::Idle | Kind::Listening => Ok(socket),
            _ => Err(Errno::EINVAL),
        }
    }

    /// A connection follows its socket's keepalive.
    fn set_keepalive(&mut self, id: u32) {
        let socket = *self.sockets.at(id);
        if self.is_installed(socket.flow) {
            self.connections.at_mut(socket.flow).keepalive = socket.keepalive;
            self.arm_keepalive(socket.flow);
        }
    }

    /// The port's counts follow a bound socket's options, as Linux reads them at every bind.
    fn set_reuse(&mut self, id: u32, bit: u16, on: bool) {
        let before = *self.sockets.at(id);
        self.sockets.at_mut(id).set(bit, on);
        let after = *self.sockets.at(id);
        if before.is(flag::BOUND) {
            let uid = self.applications.at(after.application).uid;
            self.ports.remove(after.port, before.places(), Self::socket_use(&before));
            self.ports.add(after.port, after.places(), Self::socket_use(&after), uid);
        }
    }

    /// As Linux: of AF_INET6 sockets only, and not once they have a port.
    fn set_v6only(&mut self, id: u32, on: bool) -> Result<(), Errno> {
        let socket = self.sockets.at_mut(id);
        if !socket.is(flag::V6) {
            return Err(Errno::ENOPROTOOPT);
        }
        if socket.is(flag::BOUND) || socket.kind != Kind::Idle {
            return Err(Errno::EINVAL);
        }
        socket.set(flag::V6ONLY, on);
        Ok(())
    }

    fn set_flag(&mut self, id: u32, bit: u16, fact: u32, on: bool) {
        let socket = self.sockets.at_mut(id);
        socket.set(bit, on);
        let flow = socket.flow;
        if self.is_installed(flow) {
            self.connections.at_mut(flow).set(fact, on);
            self.update_flow(flow);
        }
    }

    /// The buffer of connections to come. Of one that exists it may only grow, and its window shift
    /// is fixed: Linux's effect is the same.
    fn set_receive_buffer(&mut self, id: u32, bytes: u32) {
        let bytes = bytes.clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX);
        let socket = self.sockets.at_mut(id);
        socket.rcv_buffer_bytes = bytes;
        let flow = socket.flow;
        if self.is_installed(flow) && self.connections.at(flow).rcv_buffer_bytes < bytes {
            self.connections.at_mut(flow).rcv_buffer_bytes = bytes;
            self.update_flow(flow);
        }
    }

    fn set_user_timeout(&mut self, id: u32, milliseconds: u32) -> Result<(), Errno> {
        // An int in Linux: negative values are refused.
        if milliseconds > i32::MAX as u32 {
            return Err(Errno::EINVAL);
        }
        let socket = self.sockets.at_mut(id);
        socket.user_timeout_ms = milliseconds;
        let flow = socket.flow;
        if self.connections.has(flow) {
            self.connections.at_mut(flow).user_timeout_ms = milliseconds;
        }
        Ok(())
    }

    fn set_congestion(&mut self, id: u32, algorithm: u32) -> Result<(), Errno> {
        if !crate::congestion::is_known(algorithm) {
            return Err(Errno::ENOENT);
        }
        let socket = self.sockets.at_mut(id);
        socket.congestion = algorithm;
        let flow = socket.flow;
        if !self.is_installed(flow) {
            return Ok(());
        }
        let parameters = self.parameters(flow);
        let connection = self.connections.at_mut(flow);
        connection.congestion = algorithm as u8;
        if connection.controller.algorithm() != algorithm {
            let srtt_us = connection.srtt_us.max(1);
            connection.controller = crate::congestion::Controller::new(algorithm, srtt_us, &parameters);
            // How CE marks are echoed goes with it.
            self.update_flow(flow);
            self.apply_allowance(flow);
        }
        Ok(())
    }

    /// GET_OPTION.
    pub(super) fn request_get_option(&mut self, id: u32, message: &mut Message) -> Result<(), Errno> {
        let mut body: Option_ = message.get();
        let socket: Socket = *self.sockets.at(id);
        body = Option_ { option: body.option, ..Option_::default() };
        let is = |bit| u32::from(socket.is(bit));
        body.value = match body.option {
            option::REUSE_ADDRESS => is(flag::REUSE_ADDRESS),
            option::REUSE_PORT => is(flag::REUSE_PORT),
            option::LINGER => {
                body.value2 = socket.linger_s;
                is(flag::LINGER)
            }
            option::KEEPALIVE => is(flag::KEEPALIVE),
            option::KEEPALIVE_IDLE => socket.keepalive.idle_s as u32,
            option::KEEPALIVE_INTERVAL => socket.keepalive.interval_s as u32,
            option::KEEPALIVE_COUNT => socket.keepalive.count as u32,
            option::V6ONLY => is(flag::V6ONLY),
            option::NODELAY => is(flag::NODELAY),
            option::RECEIVE_BUFFER => self.receive_buffer(&socket),
            option::ERROR => core::mem::replace(&mut self.sockets.at_mut(id).error, 0),
            option::USER_TIMEOUT => socket.user_timeout_ms,
            option::TRAFFIC_CLASS => socket.service.class() as u32,
            option::HOP_LIMIT => socket.service.hop_limit() as u32,
            option::RECEIVE_ERRORS => is(flag::RECEIVE_ERRORS),
            option::SYN_COUNT if socket.syn_retries == 0 => self.config.handshake_retries,
            option::SYN_COUNT => socket.syn_retries as u32,
            option::MAX_SEGMENT => socket.max_segment as u32,
            option::FAST_OPEN => socket.fast_open_limit,
            option::FAST_OPEN_NO_COOKIE => is(flag::FAST_OPEN_NO_COOKIE),
            option::CONGESTION if socket.congestion == 0 => self.config.congestion,
            option::CONGESTION => socket.congestion,
            _ => return Err(Errno::ENOPROTOOPT),
        };
        message.set(&body);
        Ok(())
    }

    fn receive_buffer(&self, socket: &Socket) -> u32 {
        if self.is_installed(socket.flow) {
            self.connections.at(socket.flow).rcv_buffer_bytes
        } else if socket.rcv_buffer_bytes == 0 {
            self.config.rx_buffer_bytes
        } else {
            socket.rcv_buffer_bytes
        }
    }
}
