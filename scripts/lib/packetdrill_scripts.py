# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the scripts that run packetdrill scripts with Google's tool share."""
import pathlib
import re

FOLDER = pathlib.Path(__file__).resolve().parent.parent.parent / "tests" / "packetdrill"
# Our extensions, and what the tool lacks.
NOT_PORTABLE = re.compile(r"\[ipopt|\[badsum|\[port|\bhex |SIOCOUTQ|write\(\d+, \"", re.M)
SYN = re.compile(r">\s*(\[\w+\]\s*)?S[EWP.]*\s")
OPTIONS = re.compile(r"<([^<>]*)>\s*$")


def syn_options(line, shift):
    """A SYN's options in the order that Linux and TAS send them, with the window shift."""
    found = OPTIONS.search(line)
    if not found or "..." in found.group(1):
        return line
    given = {text.split()[0]: text for text in map(str.strip, found.group(1).split(","))}
    options = [given[name] for name in ("mss",) if name in given]
    if "TS" in given:
        options += (["sackOK"] if "sackOK" in given else ["nop", "nop"]) + [given["TS"]]
    elif "sackOK" in given:
        options += ["nop", "nop", "sackOK"]
    if "wscale" in given:
        options += ["nop", f"wscale {shift}"]
    options += [text for name, text in given.items() if name not in ("mss", "TS", "sackOK", "wscale", "nop", "eol")]
    return line[: found.start()] + "<" + ",".join(options) + ">"


def scripts_of(given):
    """Every script of the files and folders, in order."""
    paths = [pathlib.Path(path) for path in given] or [FOLDER]
    return sorted(script for path in paths for script in (path.rglob("*.pkt") if path.is_dir() else [path]))
