# SPDX-License-Identifier: Apache-2.0
"""How long a large plan takes (64 disks with 32 volumes each), against the bare start, and how it grows."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import BIN, best, show

GIB = 1 << 30


def write(folder: Path, disks: int, volumes: int) -> list[str]:
    """A node and an input of that size; the command that plans them."""
    facts = {
        "format": 1,
        "firmware": "bios",
        "disks": [{"device": f"/dev/disk{i}", "size": 100 * GIB, "serial": str(i)} for i in range(disks)],
    }
    partitions = [
        {
            "type": "disk",
            "id": {"type": "serial", "value": str(i)},
            "volumes": [
                {"type": "partition", "mount": f"/srv/{i}/{j}", "file_system": "ext4", "size": "1 GiB"}
                for j in range(volumes)
            ],
        }
        for i in range(disks)
    ]
    node, document = folder / f"node-{disks}", folder / f"input-{disks}"
    node.write_text(json.dumps(facts))
    document.write_text(json.dumps({"partitions_policy": "clean", "partitions": partitions}))
    argv = ["--plan", "--plan_format=json", f"--node_facts={node}", f"--input_data_file={document}"]
    return [str(BIN / "bareon-partition"), *argv]


def main() -> int:
    """Print the ratios; exit code 1 when one is over its limit."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands = [write(folder, disks, 32) for disks in (1, 32, 64)]
        start, one, half, whole = best([str(BIN / "bareon-partition"), "--version"], *commands, rounds=9)
    good = show("a plan for 64 disks of 32 volumes", whole, "--version", start, 3.3)
    return 0 if show("its part beyond that of one disk", whole - one, "32 disks", half - one, 2.4) and good else 1


if __name__ == "__main__":
    sys.exit(main())
