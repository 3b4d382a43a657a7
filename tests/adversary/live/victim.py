# SPDX-License-Identifier: MIT OR Apache-2.0
"""The victim: a connection that carries known bytes both ways at a given rate, and short connections beside it.

    victim.py serve ADDRESS PORT                       on TAS
    victim.py ping ADDRESS PORT                        one short connection: whether the server is there
    victim.py use ADDRESS PORT SECONDS MBIT_PER_S      on Linux; prints what it saw as JSON
"""
import hashlib
import json
import socket
import sys
import threading
import time

BLOCK = hashlib.shake_128(b"victim").digest(1 << 16)
# Every so often a short connection, seconds.
SHORT_EVERY = 0.1
PATIENCE = 30


class Reader:
    """Compares what comes; the longest time without anything."""

    def __init__(self):
        self.count, self.longest, self.last, self.wrong = 0, 0.0, None, None

    def take(self, data):
        now = time.monotonic()
        if self.last is not None:
            self.longest = max(self.longest, now - self.last)
        self.last = now
        at = self.count % len(BLOCK)
        expected = (BLOCK + BLOCK)[at:at + len(data)]
        if data != expected and self.wrong is None:
            self.wrong = f"wrong bytes behind {self.count}"
        self.count += len(data)

    def run(self, connection):
        try:
            while data := connection.recv(len(BLOCK)):
                self.take(data)
        except OSError as error:
            self.wrong = self.wrong or f"receiving: {error}"


def write(connection, until, bytes_per_s, failures):
    """Known bytes at a rate; what a slow connection misses is not made up for."""
    position, due = 0, time.monotonic()
    step = max(bytes_per_s // 100, 1)
    try:
        while time.monotonic() < until:
            at = position % len(BLOCK)
            piece = (BLOCK + BLOCK)[at:at + step]
            connection.sendall(piece)
            position += len(piece)
            due = max(due + len(piece) / bytes_per_s, time.monotonic() - 0.1)
            time.sleep(max(due - time.monotonic(), 0))
        connection.shutdown(socket.SHUT_WR)
    except OSError as error:
        failures.append(f"sending: {error}")


def serve_one(connection):
    with connection:
        connection.settimeout(PATIENCE)
        first = connection.recv(64).split()
        if first[:1] == [b"ping"]:
            connection.sendall(b"pong")
            connection.recv(1)
        elif first[:1] == [b"flow"]:
            connection.sendall(b"go")
            seconds, rate = float(first[1]), int(first[2])
            reader, failures = Reader(), []
            writer = threading.Thread(target=write, args=(connection, time.monotonic() + seconds, rate, failures))
            writer.start()
            reader.run(connection)
            writer.join()
            # The verdict of this side.
            SEEN["last"] = {"bytes": reader.count, "longest_s": reader.longest, "wrong": reader.wrong or (failures or [None])[0]}
        elif first[:1] == [b"seen"]:
            connection.sendall(json.dumps(SEEN.get("last")).encode())


SEEN = {}


def guarded(connection):
    try:
        serve_one(connection)
    except (OSError, ValueError, IndexError):
        # An attacker's connection.
        pass


def serve(address, port):
    listener = socket.create_server((address, port), backlog=128)
    print("victim: listening", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=guarded, args=(connection,), daemon=True).start()


def ping(address, port):
    with socket.create_connection((address, port), PATIENCE) as connection:
        connection.sendall(b"ping")
        if connection.recv(4) != b"pong":
            raise OSError("no answer")


def short_connections(address, port, until, seen):
    while time.monotonic() < until:
        begin = time.monotonic()
        try:
            ping(address, port)
            seen["done"] += 1
        except OSError as error:
            seen["failed"].append(str(error))
        taken = time.monotonic() - begin
        seen["slowest_s"] = max(seen["slowest_s"], taken)
        time.sleep(max(SHORT_EVERY - taken, 0))


def use(address, port, seconds, mbit):
    rate = mbit * 125_000
    connection = socket.create_connection((address, port), PATIENCE)
    connection.settimeout(PATIENCE)
    connection.sendall(f"flow {seconds} {rate}".encode())
    if connection.recv(2) != b"go":
        raise SystemExit("victim: the server does not answer")
    until = time.monotonic() + seconds
    reader, failures, short = Reader(), [], {"done": 0, "failed": [], "slowest_s": 0.0}
    threads = [threading.Thread(target=write, args=(connection, until, rate, failures)),
               threading.Thread(target=short_connections, args=(address, port, until, short))]
    for thread in threads:
        thread.start()
    reader.run(connection)
    for thread in threads:
        thread.join()
    connection.close()
    time.sleep(0.5)
    with socket.create_connection((address, port), PATIENCE) as asked:
        asked.sendall(b"seen")
        server = json.loads(asked.recv(4096))
    print(json.dumps({
        "from_tas_bytes": reader.count, "to_tas_bytes": server["bytes"],
        "longest_silence_s": max(reader.longest, server["longest_s"]),
        "wrong": reader.wrong or server["wrong"] or (failures or [None])[0],
        "short_connections": short["done"], "short_failed": short["failed"][:3], "short_slowest_s": short["slowest_s"],
    }))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    elif sys.argv[1] == "ping":
        ping(sys.argv[2], int(sys.argv[3]))
    else:
        use(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
