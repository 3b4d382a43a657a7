// SPDX-License-Identifier: MIT OR Apache-2.0
//! The clients at the other end of the wire: as little TCP as an RPC needs, so that what is counted is
//! TAS. They open connections, send requests with the last reply's acknowledgement, and read replies.

use anyhow::{ensure, Context, Result};

const ETHERNET: usize = 14;
const IPV4: usize = 20;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;

/// Window the clients offer, before scaling by [`WINDOW_SHIFT`].
const WINDOW: u16 = 8192;
const WINDOW_SHIFT: u8 = 4;
/// Connections of one client address; more take the next address.
const PORTS_PER_ADDRESS: usize = 30_000;
const FIRST_PORT: u16 = 20_000;

/// The two ends' addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    /// TAS's MAC and IPv4 address.
    pub server: ([u8; 6], u32),
    /// The clients' MAC and first IPv4 address.
    pub client: ([u8; 6], u32),
    /// Server port.
    pub port: u16,
}

/// One connection as its client sees it.
#[derive(Debug, Clone, Copy)]
struct Flow {
    address: u32,
    port: u16,
    snd_nxt: u32,
    rcv_nxt: u32,
    ts_echo: u32,
    established: bool,
}

/// All clients.
pub(crate) struct Peer {
    addresses: Addresses,
    flows: Vec<Flow>,
    timestamp: u32,
}

/// What a frame from TAS meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// An ARP request: the answer to send.
    Arp([u8; 60]),
    /// SYN-ACK of this flow.
    Accepted(usize),
    /// Payload bytes on this flow.
    Reply(usize, usize),
    /// A pure acknowledgement.
    Acknowledged(usize),
}

impl Peer {
    /// `count` clients that have not connected yet.
    pub(crate) fn new(addresses: Addresses, count: usize) -> Self {
        let flows = (0..count)
            .map(|index| Flow {
                address: addresses.client.1 + (index / PORTS_PER_ADDRESS) as u32,
                port: FIRST_PORT + (index % PORTS_PER_ADDRESS) as u16,
                snd_nxt: (index as u32).wrapping_mul(0x9e37_79b9),
                rcv_nxt: 0,
                ts_echo: 0,
                established: false,
            })
            .collect();
        Self { addresses, flows, timestamp: 1 }
    }

    /// The SYN of a flow, in `frame`; its length.
    pub(crate) fn syn(&mut self, flow: usize, frame: &mut [u8]) -> usize {
        let state = &mut self.flows[flow];
        let sequence = state.snd_nxt;
        state.snd_nxt = sequence.wrapping_add(1);
        let options = [
            2,
            4,
            0x05,
            0xb4, // MSS 1460
            4,
            2,
            8,
            10,
            0,
            0,
            0,
            1,
            0,
            0,
            0,
            0, // SACK permitted, timestamps
            1,
            3,
            3,
            WINDOW_SHIFT,
        ];
        self.segment(flow, SYN, sequence, 0, &options, &[], frame)
    }

    /// A pure ACK.
    pub(crate) fn ack(&mut self, flow: usize, frame: &mut [u8]) -> usize {
        let Flow { snd_nxt, rcv_nxt, .. } = self.flows[flow];
        let options = self.timestamps(flow);
        self.segment(flow, ACK, snd_nxt, rcv_nxt, &options, &[], frame)
    }

    /// A request with everything so far acknowledged.
    pub(crate) fn request(&mut self, flow: usize, payload: &[u8], frame: &mut [u8]) -> usize {
        let Flow { snd_nxt, rcv_nxt, .. } = self.flows[flow];
        self.flows[flow].snd_nxt = snd_nxt.wrapping_add(payload.len() as u32);
        let options = self.timestamps(flow);
        self.segment(flow, ACK | PSH, snd_nxt, rcv_nxt, &options, payload, frame)
    }

    /// Time passes for the clients' timestamps.
    pub(crate) fn tick(&mut self) {
        self.timestamp = self.timestamp.wrapping_add(1);
    }

    /// Sets the clients' timestamp clock back, so that what they send is stale (PAWS).
    pub(crate) fn set_timestamp(&mut self, timestamp: u32) -> u32 {
        std::mem::replace(&mut self.timestamp, timestamp)
    }

    /// Takes a request back: it will be sent again.
    pub(crate) fn unsend(&mut self, flow: usize, bytes: u32) {
        self.flows[flow].snd_nxt = self.flows[flow].snd_nxt.wrapping_sub(bytes);
    }

    /// True once the handshake of `flow` is done.
    pub(crate) fn is_established(&self, flow: usize) -> bool {
        self.flows[flow].established
    }

    /// Reads a frame from TAS.
    ///
    /// # Errors
    /// A frame that a correct server does not send here.
    pub(crate) fn hear(&mut self, frame: &[u8]) -> Result<Heard> {
        if frame.get(12..14) == Some(&[8, 6]) {
            return Ok(Heard::Arp(self.arp_reply(frame)));
        }
        ensure!(frame.get(12..14) == Some(&[8, 0]), "not IPv4: {frame:02x?}");
        let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        let tcp = &frame[ETHERNET + IPV4..ETHERNET + total];
        let destination = u32::from_be_bytes(frame[30..34].try_into()?);
        let port = u16::from_be_bytes([tcp[2], tcp[3]]);
        let address_index = destination.wrapping_sub(self.addresses.client.1) as usize;
        let index = address_index * PORTS_PER_ADDRESS + usize::from(port.wrapping_sub(FIRST_PORT));
        let sequence = u32::from_be_bytes(tcp[4..8].try_into()?);
        let header = usize::from(tcp[12] >> 4) * 4;
        let flags = tcp[13];
        ensure!(flags & (RST | FIN) == 0, "flow {index} was ended by TAS, flags {flags:#x}");
        let flow = self.flows.get_mut(index).context("a frame for no client")?;
        let timestamps = find_timestamp(&tcp[20..header]).context("a segment without timestamps")?;
        flow.ts_echo = timestamps;
        if flags & SYN != 0 {
            flow.rcv_nxt = sequence.wrapping_add(1);
            flow.established = true;
            return Ok(Heard::Accepted(index));
        }
        let payload = tcp.len() - header;
        if payload == 0 {
            return Ok(Heard::Acknowledged(index));
        }
        ensure!(sequence == flow.rcv_nxt, "flow {index}: sequence {sequence}, expected {}", flow.rcv_nxt);
        flow.rcv_nxt = sequence.wrapping_add(payload as u32);
        Ok(Heard::Reply(index, payload))
    }

    fn timestamps(&self, flow: usize) -> [u8; 12] {
        let mut options = [1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0];
        options[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        options[8..12].copy_from_slice(&self.flows[flow].ts_echo.to_be_bytes());
        options
    }

    #[allow(clippy::too_many_arguments)]
    fn segment(
        &self,
        flow: usize,
        flags: u8,
        sequence: u32,
        acknowledgement: u32,
        options: &[u8],
        payload: &[u8],
        frame: &mut [u8],
    ) -> usize {
        let Addresses { server, client, port } = self.addresses;
        let Flow { address, port: client_port, .. } = self.flows[flow];
        let tcp_bytes = 20 + options.len() + payload.len();
        let length = ETHERNET + IPV4 + tcp_bytes;
        frame[..6].copy_from_slice(&server.0);
        frame[6..12].copy_from_slice(&client.0);
        frame[12..14].copy_from_slice(&[8, 0]);
        let ip = &mut frame[ETHERNET..ETHERNET + IPV4];
        ip.copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        ip[2..4].copy_from_slice(&((IPV4 + tcp_bytes) as u16).to_be_bytes());
        ip[12..16].copy_from_slice(&address.to_be_bytes());
        ip[16..20].copy_from_slice(&server.1.to_be_bytes());
        let checksum = !fold(sum(ip));
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        let tcp = &mut frame[ETHERNET + IPV4..length];
        tcp[0..2].copy_from_slice(&client_port.to_be_bytes());
        tcp[2..4].copy_from_slice(&port.to_be_bytes());
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        tcp[8..12].copy_from_slice(&acknowledgement.to_be_bytes());
        tcp[12] = (((20 + options.len()) / 4) as u8) << 4;
        tcp[13] = flags;
        tcp[14..16].copy_from_slice(&WINDOW.to_be_bytes());
        tcp[16..20].copy_from_slice(&[0; 4]);
        tcp[20..20 + options.len()].copy_from_slice(options);
        tcp[20 + options.len()..].copy_from_slice(payload);
        let pseudo = (address >> 16) + (address & 0xffff) + (server.1 >> 16) + (server.1 & 0xffff) + 6;
        let checksum = !fold(u64::from(pseudo) + tcp_bytes as u64 + sum(tcp));
        tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
        length
    }

    /// All clients share one MAC address, whatever address is asked for.
    fn arp_reply(&self, request: &[u8]) -> [u8; 60] {
        let mut reply = [0; 60];
        reply[..6].copy_from_slice(&request[6..12]);
        reply[6..12].copy_from_slice(&self.addresses.client.0);
        reply[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        reply[22..28].copy_from_slice(&self.addresses.client.0);
        reply[28..32].copy_from_slice(&request[38..42]);
        reply[32..42].copy_from_slice(&request[22..32]);
        reply
    }
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low))).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// TSval of a timestamp option.
fn find_timestamp(mut options: &[u8]) -> Option<u32> {
    loop {
        match options {
            [1, rest @ ..] => options = rest,
            [8, 10, a, b, c, d, ..] => return Some(u32::from_be_bytes([*a, *b, *c, *d])),
            [0, ..] | [] => return None,
            [_, length, ..] if usize::from(*length) >= 2 => options = options.get(usize::from(*length)..)?,
            _ => return None,
        }
    }
}
