# SPDX-License-Identifier: MIT OR Apache-2.0
"""scripts/bench refused: instructions per refused SYN or segment, beside those per accepted one."""
import json
import os
import re
import subprocess
import sys
import tempfile

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(TREE, "target"))
PROGRAM = f"{TARGET}/release/refused-cost"
# What each is compared with, and what is refused.
KINDS = {
    "segment-accepted": ("segment-outside-window", "segment-old", "segment-stale-timestamp", "segment-acknowledges-unsent",
                         "segment-bad-checksum", "segment-of-no-connection", "segment-of-no-connection-forged",
                         "segment-of-no-connection-answered", "reset-inside-window", "syn-on-connection"),
    "syn-accepted": ("syn-answered-by-cookie", "syn-refused"),
}
# At most 20,000 a second get an answer, which costs more than they do: printed, not judged. The rows beside it are of a
# flood, whose first thousand are answered (the shorter run) and whose others are not.
LIMITED = {"segment-of-no-connection-answered": "at most 20,000 a second"}
# Two run lengths, whose difference is exact: the start of the program is in both.
COUNTS = (1000, 3000)


class Failed(Exception):
    """Says what happened."""


def counted(kind, count):
    """Instructions in handle_frames and what it calls."""
    with tempfile.TemporaryDirectory() as directory:
        out = os.path.join(directory, "callgrind.out")
        command = ["valgrind", "--tool=callgrind", "--quiet", f"--callgrind-out-file={out}", "--toggle-collect=*handle_frames*",
                   PROGRAM, kind, str(count)]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode != 0:
            raise Failed(f"{' '.join(command)}: {run.stderr.strip()[-1000:]}")
        with open(out) as file:
            total = re.search(r"^(?:summary|totals): (\d+)", file.read(), re.M)
    if not total or total[1] == "0":
        raise Failed("callgrind counted nothing: was handle_frames inlined?")
    return int(total[1]), run.stdout.strip()


def cost(kind):
    (short, _), (long, counters) = (counted(kind, count) for count in COUNTS)
    return (long - short) / (COUNTS[1] - COUNTS[0]), counters


def remark(row):
    return LIMITED.get(row["kind"]) or ("more than an accepted one" if row["ratio"] > 1 else "")


def main(options):
    """Measures, prints, writes. False if something refused costs more than what is accepted."""
    if not options.no_build:
        subprocess.run(["cargo", "build", "--release", "--locked", "--manifest-path", f"{TREE}/Cargo.toml", "-p", "tas-adversary"], check=True)
    rows = []
    for accepted, refused in KINDS.items():
        base, counters = cost(accepted)
        rows.append({"kind": accepted, "instructions": base, "ratio": 1.0, "counters": counters})
        for kind in refused:
            instructions, counters = cost(kind)
            rows.append({"kind": kind, "instructions": instructions, "ratio": instructions / base, "counters": counters})
    print("Instructions per frame, fast path and slow path together, and relative to an accepted one.")
    for row in rows:
        print(f"{row['kind']:30} {row['instructions']:>9.0f} {row['ratio']:>6.2f}  {remark(row)}".rstrip())
    os.makedirs(f"{TARGET}/bench", exist_ok=True)
    with open(f"{TARGET}/bench/refused.json", "w") as file:
        json.dump(rows, file, indent=1)
    print(f"bench: figures in {TARGET}/bench/refused.json", file=sys.stderr)
    return all(row["ratio"] <= 1 for row in rows if row["kind"] not in LIMITED)
