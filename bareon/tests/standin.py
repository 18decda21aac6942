# SPDX-License-Identifier: Apache-2.0
"""A ramdisk that is a folder, and programs that stand in for what changes a machine; the disk is a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

MAC = "52:54:00:12:34:56"
PROGRAM = "import sys; from bareon.cmd.unattended import main; sys.exit(main())"
DOCUMENT = json.dumps({"partitions": [], "for": "a stand-in"})
KEY = "0123456789abcdef"
#: Tells what bareon-provision tells, and what became of the disk.
STAND_IN = """
import json, pathlib, sys, time
here = pathlib.Path(sys.argv[0]).parent
if "--dump_node_facts" in sys.argv:
    print(json.dumps({"disks": [], "format": 1}))
    sys.exit(0)
options = dict(x[2:].partition("=")[::2] for x in sys.argv[1:])
(here / "argv").write_text(json.dumps(sys.argv[1:]))
assert pathlib.Path(options["input_data_file"]).read_text() == %(document)r
event = {"number": 1, "count": 2, "action": "do_partitioning", "description": "Make tables", "seconds": 0.0}
print(json.dumps({"event": "started", **event}))
print(json.dumps({"event": "finished", **event}), flush=True)
time.sleep(float((here / "seconds").read_text()))
code = int((here / "code").read_text())
report = {"outcome": "failed" if code else "done", "plan": {"disks": [{"device": %(disk)r}]}}
report["steps"] = [{"figures": {}}, {"figures": json.loads((here / "figures").read_text())}]
pathlib.Path(options["report"]).write_text(json.dumps(report))
if code:
    pathlib.Path(options["bundle"]).write_bytes(b"the bundle")
    sys.stderr.write("warning: of something\\nbareon-provision: no such disk\\nbareon-provision: the log is there\\n")
sys.exit(code)
"""


def laid_out(place: Path) -> Path:
    """Make the tree of a ramdisk, as far as the program looks at it: two ports, the second with the default route."""
    files = {
        "proc/cmdline": "quiet",
        "proc/meminfo": "MemTotal:  2000000 kB\nMemAvailable:  1000000 kB\n",
        "proc/sys/kernel/hostname": "bareon",
        "proc/net/route": "Iface\tDestination\tGateway\neth1\t00000000\t0196A8C0\n",
        "sys/class/dmi/id/product_serial": "ABC 1/2",
        "sys/class/dmi/id/product_uuid": "4C4C4544-0000-4000-8000-000000000001",
        "sys/class/tty/console/active": "one two",
        **{f"dev/{name}": "" for name in ("one", "two")},
    }
    for number, name in enumerate(("eth0", "eth1")):
        port = f"sys/class/net/{name}"
        files |= {f"{port}/address": MAC[:-1] + str(number), f"{port}/type": "1", f"{port}/carrier": "1"}
        (place / port / "device").mkdir(parents=True)
    for name, text in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text + "\n")
    for name in ("run", "var/log", "etc/bareon"):
        (place / name).mkdir(parents=True)
    return place


def stand_ins(place: Path) -> tuple[Path, Path]:
    """Make a folder of programs that stand in for what changes a machine, and the disk that they show."""
    (programs := place / "programs").mkdir()
    disk = place / "disk"
    disk.write_bytes(b"")
    with disk.open("ab") as file:
        file.truncate(8 << 20)
    subprocess.run(["sfdisk", "--quiet", disk], input="label: gpt\nsize=2M\n", text=True, check=True)
    columns = ("path", "kname", "type", "size", "ro", "rm", "log-sec", "phy-sec", "model", "serial", "wwn", "hctl")
    row = dict.fromkeys((*columns, "tran", "maj:min", "pkname")) | {
        "path": str(disk),
        "type": "disk",
        "size": 8 << 20,
    }
    shells = {
        "lsblk": f"cat <<'END'\n{json.dumps({'blockdevices': [row]})}\nEND",
        **{name: f"echo {name} >>{programs}/told" for name in ("reboot", "poweroff", "umount", "kexec")},
        "sync": ":",
    }
    for name, text in shells.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
    stand_in = STAND_IN % {"document": DOCUMENT, "disk": str(disk)}
    (programs / "bareon-provision").write_text(f"#!{sys.executable}\n{stand_in}")
    for path in programs.iterdir():
        path.chmod(0o755)
    for name, text in (("code", "0"), ("seconds", "0"), ("figures", "{}")):
        (programs / name).write_text(text)
    return programs, disk
