# SPDX-License-Identifier: MIT OR Apache-2.0
"""What both ends of the interop matrix do with a connection: as many bytes each way at the same time, every one
compared, and an orderly end. Run as a program it is the end on TAS: `exchange.py PORT`."""
import hashlib
import socket
import struct
import sys
import threading

# Longest silence of a connection, seconds.
PATIENCE = 60


def content(seed, count):
    return hashlib.shake_128(seed.encode()).digest(count)


def read_all(connection, count):
    """`count` bytes and the end of the stream behind them."""
    parts, got = [], 0
    while got <= count:
        data = connection.recv(262144)
        if not data:
            break
        parts.append(data)
        got += len(data)
    return b"".join(parts)


def exchange(connection, seed, count, mine, ends_first):
    """Sends side `mine`'s bytes while it reads the other's. The side that does not end first shuts down only when it
    has seen that all is well; else it resets."""
    connection.settimeout(PATIENCE)
    other = "b" if mine == "a" else "a"
    failures = []

    def send():
        try:
            connection.sendall(content(seed + mine, count))
            if ends_first:
                connection.shutdown(socket.SHUT_WR)
        except OSError as error:
            failures.append(f"sending: {error}")

    sender = threading.Thread(target=send)
    sender.start()
    try:
        got = read_all(connection, count)
    except OSError as error:
        got = None
        failures.append(f"receiving: {error}")
    sender.join()
    if got is not None and got != content(seed + other, count):
        same = next((i for i, (x, y) in enumerate(zip(got, content(seed + other, count))) if x != y), min(len(got), count))
        failures.append(f"{len(got)} of {count} bytes came, wrong from {same} on")
    if failures:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        raise RuntimeError("; ".join(failures))
    if not ends_first:
        connection.shutdown(socket.SHUT_WR)


def line(connection):
    text = b""
    while not text.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            break
        text += byte
    return text.decode().split()


def answer(connection):
    """One order: `serve SEED COUNT` on this connection, or `dial ADDRESS PORT SEED COUNT` on one of its own."""
    try:
        with connection:
            connection.settimeout(PATIENCE)
            order = line(connection)
            if order[:1] == ["serve"]:
                exchange(connection, order[1], int(order[2]), "b", ends_first=False)
            elif order[:1] == ["dial"]:
                try:
                    with socket.create_connection((order[1], int(order[2])), PATIENCE) as dialled:
                        exchange(dialled, order[3], int(order[4]), "b", ends_first=True)
                    said = "ok"
                except (OSError, RuntimeError) as error:
                    said = f"error {error}"
                connection.sendall(said.encode() + b"\n")
    except (OSError, RuntimeError) as error:
        print(f"interop: {error}", file=sys.stderr, flush=True)


def main():
    # Both versions of IP on one socket.
    listener = socket.create_server(("", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
    print("interop: listening", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    main()
