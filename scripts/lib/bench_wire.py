# SPDX-License-Identifier: MIT OR Apache-2.0
"""scripts/bench wire: TAS and Linux over the same flaky wire, in the same run."""
import json
import os
import signal
import subprocess
import sys
import time

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(TREE, "target"))
LAB = f"{TREE}/scripts/lab"
TAS, PEER = "10.77.0.1", "10.77.0.2"
LEAST = 0.8
# What every cell has besides its loss and reordering. The guest runs without hardware virtualisation.
BASE = {"daemon": "rate=400mbit,delay=1ms", "kernel": "rate=40mbit,delay=1ms"}
# Attempts to connect, 0.2 s apart: under emulation a server takes seconds to start.
RETRIES = 100


class Failed(Exception):
    """Says what happened."""


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def run(*command, check=True, timeout=120):
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    if check and done.returncode != 0:
        raise Failed(f"{' '.join(command)}: {done.stderr.strip()[-1500:]}")
    return done.stdout


def iperf(server, client, address, flows, seconds, reverse, port):
    """One run between two command prefixes: what the receiving side counted.

    Only connections refused are tried again: an iperf3 that serves one test cannot be probed."""
    serving = subprocess.Popen(server + ["iperf3", "-s", "-1", "-p", str(port)], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    command = client + ["timeout", str(seconds + 90), "iperf3", "-c", address, "-p", str(port), "-P", str(flows), "-t", str(seconds), "-O", "1", "-J"]
    command += ["-R"] if reverse else []
    try:
        for _ in range(RETRIES):
            done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            if "Connection refused" not in done.stdout + done.stderr:
                break
            time.sleep(0.2)
    finally:
        serving.terminate()
        try:
            serving.wait(15)
        except subprocess.TimeoutExpired:
            serving.kill()
    try:
        report = json.loads(done.stdout)
    except ValueError:
        return {"error": (done.stdout + done.stderr).strip()[-300:] or "iperf3 said nothing"}
    return summary(report)


def summary(report):
    """What matters of iperf3's report."""
    if "error" in report:
        return {"error": report["error"]}
    streams = {}
    # The first second is left out (-O 1) and marked so.
    kept = [one for one in report["intervals"] if not one["sum"].get("omitted")]
    for interval in kept:
        for stream in interval["streams"]:
            streams.setdefault(stream["socket"], []).append(stream["bytes"])
    return {
        "bits_per_second": report["end"]["sum_received"]["bits_per_second"],
        "retransmits": report["end"].get("sum_sent", {}).get("retransmits"),
        "silent_seconds": sum(1 for one in kept if one["sum"]["bytes"] == 0),
        "starved_streams": sum(1 for counts in streams.values() if sum(counts) == 0),
    }


def wait_for(path, what):
    for _ in range(500):
        if os.path.exists(path):
            with open(path) as file:
                return json.load(file)
        time.sleep(0.02)
    raise Failed(what)


class Lab:
    """TAS's side: the lab, whose wire is changed from cell to cell."""

    def __init__(self, backend):
        run(LAB, "up", "--backend", backend, "--wire", "none", timeout=1800)
        self.port = 5300

    def measure(self, spec, options, reverse):
        run(LAB, "wire", spec)
        self.port += 1
        result = iperf([LAB, "run", "tas", "--"], [LAB, "run", "peer", "--"], TAS, options.flows, options.seconds, reverse, self.port)
        result["wire"] = json.loads(run(LAB, "wire"))
        return result

    def close(self):
        run(LAB, "down", check=False, timeout=300)


class TwoNamespaces:
    """Linux on both ends of a wire of their own, on this machine."""

    names = ("tas-bench-left", "tas-bench-right")
    own = "tas-bench-wire"

    def __init__(self):
        self.close_namespaces()
        self.state = f"/run/tas-bench-{os.getpid()}"
        os.makedirs(self.state, exist_ok=True)
        self.port = 5300
        for name in (*self.names, self.own):
            run("ip", "netns", "add", name)
        self.program = subprocess.Popen(
            ["ip", "netns", "exec", self.own, f"{TARGET}/release/tas-wire", "--left", "tap:left0", "--right", "tap:right0",
             "--spec-file", f"{self.state}/spec", "--status", f"{self.state}/status.json"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        if "ready" not in self.program.stdout.readline():
            raise Failed("tas-wire did not become ready")
        for name, device, address in zip(self.names, ("left0", "right0"), ("10.78.0.1", "10.78.0.2")):
            run("ip", "-n", self.own, "link", "set", device, "netns", name)
            run("ip", "netns", "exec", name, "sysctl", "-qw", f"net.ipv6.conf.{device}.disable_ipv6=1", check=False)
            run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", device)
            run("ip", "-n", name, "link", "set", device, "up")

    def signal(self, which):
        path = f"{self.state}/status.json"
        if os.path.exists(path):
            os.unlink(path)
        os.kill(self.program.pid, which)
        return wait_for(path, "tas-wire does not answer")

    def measure(self, spec, options, reverse):
        with open(f"{self.state}/spec", "w") as file:
            file.write(spec)
        answer = self.signal(signal.SIGHUP)
        if "error" in answer:
            raise Failed(answer["error"])
        self.port += 1
        left, right = (["ip", "netns", "exec", name] for name in self.names)
        result = iperf(left, right, "10.78.0.1", options.flows, options.seconds, reverse, self.port)
        result["wire"] = self.signal(signal.SIGUSR1)
        return result

    def close_namespaces(self):
        for name in (*self.names, self.own):
            if os.path.exists(f"/run/netns/{name}"):
                run("ip", "netns", "delete", name, check=False)

    def close(self):
        self.program.terminate()
        self.program.wait()
        self.close_namespaces()
        subprocess.run(["rm", "-rf", self.state], check=False)


class LinuxInGuest:
    """After TAS: its fast path ends, and Linux in the same guest gets the NIC and TAS's address. The wire stays."""

    def __init__(self):
        script = f"""
            set -e
            kill $(pidof tas-fastpath); while pidof tas-fastpath >/dev/null; do sleep 0.1; done
            nic=0000:00:08.0
            echo $nic >/sys/bus/pci/devices/$nic/driver/unbind
            echo virtio-pci >/sys/bus/pci/devices/$nic/driver_override
            modprobe virtio_pci; modprobe virtio_net
            echo $nic >/sys/bus/pci/drivers_probe
            for i in $(seq 100); do [ -d /sys/bus/pci/devices/$nic/virtio*/net ] && break; sleep 0.1; done
            device=$(ls /sys/bus/pci/devices/$nic/virtio*/net)
            ethtool -K $device tso off gso off ufo off 2>/dev/null || true
            ip addr add {TAS}/24 dev $device
            ip link set $device up"""
        run(*self.inside(), "sh", "-c", script)
        # The peer knows another MAC address for it.
        run(LAB, "run", "peer", "--", "ip", "neigh", "flush", "all")
        run(LAB, "run", "peer", "--", "ping", "-q", "-c", "1", "-w", "30", TAS)
        self.port = 5400

    def inside(self):
        return [f"{TREE}/scripts/guest", "exec", "--name", "tas-lab", "--"]

    def measure(self, spec, options, reverse):
        run(LAB, "wire", spec)
        self.port += 1
        result = iperf(self.inside(), [LAB, "run", "peer", "--"], TAS, options.flows, options.seconds, reverse, self.port)
        result["wire"] = json.loads(run(LAB, "wire"))
        return result

    def close(self):
        """The lab closes it."""


def cells(options):
    """Loss and reordering are varied one at a time, as the base of the other."""
    for reorder in options.reorder_ms:
        for loss in options.loss:
            if reorder != "0" and loss != options.loss[0]:
                continue
            parts = [options.base, f"seed={options.seed}"]
            parts += [f"loss={loss}%"] if float(loss) else []
            parts += [f"reorder={options.reorder_share}%/{reorder}ms"] if float(reorder) else []
            for reverse in (False, True):
                yield {"loss_percent": float(loss), "reorder_ms": float(reorder), "direction": "from TAS" if reverse else "to TAS",
                       "spec": ",".join(part for part in parts if part), "reverse": reverse}


def measure(side, name, rows, options):
    for row in rows:
        row[name] = side.measure(row["spec"], options, row["reverse"])
        shown = row[name].get("error") or f"{row[name]['bits_per_second'] / 1e6:.1f} Mbit/s"
        say(f"{name:5} {row['direction']:8} loss {row['loss_percent']:g} %, reordering {row['reorder_ms']:g} ms: {shown}")


def judge(row):
    """The ratio, and what is wrong with the row."""
    wrong = [f"{name}: {row[name]['error']}" for name in ("tas", "linux") if "error" in row[name]]
    if wrong:
        return None, wrong
    linux = row["linux"]["bits_per_second"]
    ratio = row["tas"]["bits_per_second"] / linux if linux else None
    if ratio is not None and ratio < LEAST:
        wrong.append(f"below {LEAST}")
    if row["tas"]["silent_seconds"]:
        wrong.append(f"{row['tas']['silent_seconds']} s without data")
    if row["tas"]["starved_streams"]:
        wrong.append(f"{row['tas']['starved_streams']} streams without data")
    return ratio, wrong


def table(rows):
    print(f"{'direction':9} {'loss %':>7} {'reorder ms':>10} {'TAS Mbit/s':>11} {'Linux Mbit/s':>13} {'ratio':>6}")
    for row in rows:
        speed = lambda name: f"{row[name]['bits_per_second'] / 1e6:.1f}" if "error" not in row[name] else "–"
        ratio = "–" if row["ratio"] is None else f"{row['ratio']:.2f}"
        print(f"{row['direction']:9} {row['loss_percent']:>7g} {row['reorder_ms']:>10g} {speed('tas'):>11} {speed('linux'):>13} {ratio:>6}  {'; '.join(row['wrong'])}")


def plot(rows, title):
    """Bars of the ratios, with a line at the least that is accepted."""
    width, height, top, left = 56 * len(rows) + 80, 320, 40, 50
    most = max([1.2] + [row["ratio"] or 0 for row in rows])
    y = lambda ratio: top + (height - top - 60) * (1 - ratio / most)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
           f'<text x="{left}" y="20" font-size="14">{title}</text>']
    for value in (0, 0.2, 0.4, 0.6, LEAST, 1.0):
        colour = "#c00" if value == LEAST else "#ccc"
        out.append(f'<line x1="{left}" x2="{width - 20}" y1="{y(value):.0f}" y2="{y(value):.0f}" stroke="{colour}"/><text x="20" y="{y(value) + 4:.0f}">{value:g}</text>')
    for index, row in enumerate(rows):
        x, ratio = left + 10 + 56 * index, row["ratio"] or 0
        colour = "#4878a8" if row["direction"] == "to TAS" else "#e0a050"
        out.append(f'<rect x="{x}" y="{y(ratio):.0f}" width="40" height="{y(0) - y(ratio):.0f}" fill="{colour}"/>')
        for line, text in enumerate((row["direction"], f"{row['loss_percent']:g} % loss", f"{row['reorder_ms']:g} ms reord.")):
            out.append(f'<text x="{x - 4}" y="{y(0) + 14 + 13 * line:.0f}" font-size="9">{text}</text>')
    return "\n".join(out + ["</svg>\n"])


def add_arguments(commands):
    """The command's options."""
    wire = commands.add_parser("wire", help="throughput over a flaky wire, relative to Linux's (root; uses the lab)")
    words = lambda text: text.split(",")
    wire.add_argument("--backend", choices=("daemon", "kernel"), default="daemon")
    wire.add_argument("--flows", type=int, default=100)
    wire.add_argument("--loss", type=words, default=["0", "0.1", "1", "2", "5"], help="percent, separated by commas")
    wire.add_argument("--reorder-ms", type=words, default=["0", "5"], help="frames are held back by up to so much")
    wire.add_argument("--reorder-share", default="100", help="of the frames, percent")
    wire.add_argument("--seconds", type=int, default=10, help="of each measurement, after one that does not count")
    wire.add_argument("--base", help="what every wire has besides (rate and delay, by backend)")
    wire.add_argument("--seed", type=int, default=1)
    return wire


def main(options):
    """Measures, prints, writes. False if a row is not as it should be."""
    options.base = BASE[options.backend] if options.base is None else options.base
    rows, sides = list(cells(options)), []
    try:
        lab = Lab(options.backend)
        sides.append(lab)
        if options.backend == "daemon":
            linux = TwoNamespaces()
            sides.append(linux)
            # Neighbours in time: the machine's other work is the same for both.
            for row in rows:
                measure(lab, "tas", [row], options)
                measure(linux, "linux", [row], options)
        else:
            measure(lab, "tas", rows, options)
            measure(LinuxInGuest(), "linux", rows, options)
    finally:
        for side in reversed(sides):
            side.close()
    for row in rows:
        row["ratio"], row["wrong"] = judge(row)
    table(rows)
    os.makedirs(f"{TARGET}/bench", exist_ok=True)
    path = f"{TARGET}/bench/wire-{options.backend}"
    with open(f"{path}.json", "w") as file:
        json.dump({"backend": options.backend, "flows": options.flows, "base": options.base, "rows": rows}, file, indent=1)
    with open(f"{path}.svg", "w") as file:
        file.write(plot(rows, f"TAS relative to Linux over the same wire, {options.backend} backend, {options.flows} flows, {options.base}"))
    say(f"figures in {path}.json, plot in {path}.svg")
    return not any(row["wrong"] for row in rows)
