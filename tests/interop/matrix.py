# SPDX-License-Identifier: MIT OR Apache-2.0
"""The interop matrix, run on the Linux side: every combination of what Linux can switch, both roles, bytes both ways at
once. What was agreed is read from Linux's TCP_INFO, so that an option that silently stays off fails too."""
import argparse
import itertools
import socket
import struct
import subprocess
import sys
import time

from exchange import PATIENCE, exchange, line

AXES = {
    "timestamps": (1, 0),
    "sack": (1, 0),
    # Off, or the shift that Linux announces.
    "scale": (14, 0, "off"),
    # net.ipv4.tcp_ecn: off, asked for and accepted, accepted only.
    "ecn": (0, 1, 2),
    # The smallest that every IPv4 host takes; over IPv6 the smallest a link may have.
    "mtu": (1500, "least", 9000),
    "IPv": (4, 6),
}
LEAST_MTU = {4: 576, 6: 1280}
ROLES = ("Linux connects", "TAS connects")
# Bits of tcpi_options, and where to find what else is looked at (linux/tcp.h).
TIMESTAMPS, SACK, SCALE, ECN = 1, 2, 4, 8
OPTIONS_AT, SHIFTS_AT, SND_MSS_AT = 5, 6, 16
# Larger than any buffer here and small enough that Linux scales it by nothing.
CLAMP_BYTES = 60000
# Receive buffer limit for which Linux announces a shift of 14.
LARGE_BYTES = 1 << 30
# IP and TCP headers.
HEADERS_BYTES = {4: 40, 6: 60}


def everything():
    return list(itertools.product(*AXES.values()))


def pairwise():
    """Few combinations that contain every pair of values of two axes, chosen greedily: always the same."""
    values = list(AXES.values())
    pairs = lambda one: {(i, one[i], j, one[j]) for i, j in itertools.combinations(range(len(values)), 2)}
    missing, chosen, all_of_them = set(), [], everything()
    for one in all_of_them:
        missing |= pairs(one)
    while missing:
        best = max(all_of_them, key=lambda one: len(pairs(one) & missing))
        chosen.append(best)
        missing -= pairs(best)
    return chosen


class Linux:
    """The switches of this side; what they were comes back at the end."""

    def __init__(self, device, address6, mtu):
        self.device, self.before = device, {}
        self.address6, self.mtu, self.mtu_before = address6, None, mtu

    def set(self, name, value):
        path = f"/proc/sys/net/ipv4/{name}"
        if name not in self.before:
            with open(path) as file:
                self.before[name] = file.read().strip()
        with open(path, "w") as file:
            file.write(str(value))

    def take(self, combination):
        timestamps, sack, scale, ecn, _, _ = combination
        self.set("tcp_timestamps", timestamps)
        self.set("tcp_sack", sack)
        self.set("tcp_window_scaling", 0 if scale == "off" else 1)
        self.set("tcp_rmem", f"4096 131072 {LARGE_BYTES}")
        self.set("tcp_ecn", ecn)
        # An ECN handshake that failed is remembered for a while and not tried again.
        self.set("tcp_ecn_fallback", 0)
        if mtu_of(combination) != self.mtu:
            self.set_mtu(mtu_of(combination))
        # What earlier connections learned of this path is no part of the combination.
        subprocess.run(["ip", "tcp_metrics", "flush", "all"], check=False, capture_output=True)

    def set_mtu(self, mtu):
        subprocess.run(["ip", "link", "set", self.device, "mtu", str(mtu)], check=True)
        self.mtu = mtu
        if mtu >= LEAST_MTU[6]:
            # Below it Linux has taken IPv6 off the interface, and its address with it.
            subprocess.run(["ip", "-6", "addr", "replace", f"{self.address6}/64", "dev", self.device, "nodad"], check=True)

    def restore(self):
        for name, value in self.before.items():
            self.set(name, value)
        if self.mtu:
            self.set_mtu(self.mtu_before)


def mtu_of(combination):
    *_, mtu, version = combination
    return LEAST_MTU[version] if mtu == "least" else mtu


def new_socket(scale, version):
    made = socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if scale == 0:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, CLAMP_BYTES)
    made.settimeout(PATIENCE)
    return made


def check(connection, combination, role, tas_mtu):
    """What was agreed is what Linux allows."""
    timestamps, sack, scale, ecn, _, version = combination
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    options, shifts = info[OPTIONS_AT], info[SHIFTS_AT]
    (mss,) = struct.unpack_from("I", info, SND_MSS_AT)
    # TAS asks for ECN and accepts it; Linux asks with 1 only.
    wants_ecn = ecn == 1 or (ecn == 2 and role == "TAS connects")
    for name, bit, wanted in (("timestamps", TIMESTAMPS, timestamps), ("SACK", SACK, sack),
                              ("window scaling", SCALE, scale != "off"), ("ECN", ECN, wants_ecn)):
        if bool(options & bit) != bool(wanted):
            raise RuntimeError(f"{name} is {'on' if options & bit else 'off'}")
    if scale != "off" and shifts >> 4 != scale:
        raise RuntimeError(f"Linux's shift is {shifts >> 4}, not {scale}")
    # Linux counts the timestamps, which are in every segment, off.
    most = min(mtu_of(combination), tas_mtu) - HEADERS_BYTES[version]
    if not most - 12 <= mss <= most:
        raise RuntimeError(f"an MSS of {mss} with MTUs of {mtu_of(combination)} and {tas_mtu}")


def linux_connects(options, combination, seed):
    tas, _ = options.ends[combination[-1]]
    with new_socket(combination[2], combination[-1]) as connection:
        connection.connect((tas, options.port))
        connection.sendall(f"serve {seed} {options.bytes}\n".encode())
        exchange(connection, seed, options.bytes, "a", ends_first=True)
        check(connection, combination, ROLES[0], options.tas_mtu)


def tas_connects(options, combination, seed):
    version = combination[-1]
    tas, peer = options.ends[version]
    with new_socket(combination[2], version) as listener, new_socket(None, version) as control:
        listener.bind((peer, 0))
        listener.listen(1)
        control.connect((tas, options.port))
        port = listener.getsockname()[1]
        control.sendall(f"dial {peer} {port} {seed} {options.bytes}\n".encode())
        connection, _ = listener.accept()
        with connection:
            exchange(connection, seed, options.bytes, "a", ends_first=False)
            check(connection, combination, ROLES[1], options.tas_mtu)
        said = line(control)
        if said != ["ok"]:
            raise RuntimeError(f"on TAS: {' '.join(said)}")


def wait_for_tas(options):
    end = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection((options.tas, options.port), 5).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tas", default="10.77.0.1")
    parser.add_argument("--peer", default="10.77.0.2")
    parser.add_argument("--tas6", default="fd77::1")
    parser.add_argument("--peer6", default="fd77::2")
    parser.add_argument("--port", type=int, default=9100)
    parser.add_argument("--device", default="tas0", help="Linux's interface, whose MTU is changed")
    parser.add_argument("--tas-mtu", type=int, default=1500, help="what TAS has")
    parser.add_argument("--bytes", type=int, default=200_000, help="each way on each connection")
    parser.add_argument("--pairwise", action="store_true", help="only so many that every pair of values occurs")
    options = parser.parse_args()
    options.ends = {4: (options.tas, options.peer), 6: (options.tas6, options.peer6)}
    wait_for_tas(options)
    linux, failed, done = Linux(options.device, options.peer6, options.tas_mtu), [], 0
    try:
        for number, combination in enumerate(pairwise() if options.pairwise else everything()):
            linux.take(combination)
            for role, run in zip(ROLES, (linux_connects, tas_connects)):
                name = f"{role}, " + ", ".join(f"{axis} {value}" for axis, value in zip(AXES, combination))
                try:
                    run(options, combination, f"{number}{role[0]}")
                    done += 1
                except (OSError, RuntimeError) as error:
                    failed.append(name)
                    print(f"FAILED {name}: {error}", flush=True)
    finally:
        linux.restore()
    print(f"interop: {done} connections as they should be, {len(failed)} not")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
