# SPDX-License-Identifier: Apache-2.0
"""Records what programs say of real disks, for the unit tests: ``python -m tests_functional.record``.

``captures.yaml`` beside this file lists machines, the shell commands that fill their disks, and between these the
calls to record. A call is made in the ramdisk by bareon's own function, so that the commands are bareon's. What the
programs say goes to files of ``bareon/tests/captured/``, and what bareon reads from it too: look at ``git diff``.
"""

from __future__ import annotations

import base64
import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bareon.tests import captured
from bareon.tests.keys import known
from building.process import ProgramError
from building.wheel import VENV
from tests_functional import node_capture
from tests_functional.bench import case, cell, products
from tests_functional.bench.imageserver import ImageServers
from tests_functional.bench.node import Node, NodeTimeoutError
from tests_functional.bench.session import Session
from tests_functional.bench.ssh import UnreachableError

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_name("captures.yaml")
SCRIPT = "/tmp/node_capture.py"
EFIVARS = "/sys/firmware/efi/efivars"
#: Seconds for each command on a node.
LIMIT = 300.0


def say(line: str) -> None:
    """Print at once, also into a pipe."""
    print(line, flush=True)


def machines() -> list[dict[str, Any]]:
    """Return the machines of the list, and what is done on each.

    :raises ValueError: for a key that is not known
    """
    found: list[dict[str, Any]] = yaml.safe_load(LIST.read_text())
    for machine in found:
        known(machine, ("node", "steps"), LIST.name)
        for step in machine["steps"]:
            known(step, ("run",) if "run" in step else ("capture", "about", "call", "arguments"), str(step))
    return found


def capture(node: Node, step: Mapping[str, Any], url: str) -> None:
    """Make one call on the node, and write what came of it; ``url`` is that of the rsync server."""
    path = captured.FOLDER / f"{step['capture']}.yaml"
    say(f"  {step['capture']}")
    module = captured.MODULES[path.parent.name]
    arguments = json.dumps(step.get("arguments", {})).replace("{rsync}", url)
    argv = [f"{VENV}/bin/python3", SCRIPT, module, step["call"], arguments.replace("{files}", EFIVARS)]
    done = json.loads(node.ssh.run(shlex.join(argv), timeout=LIMIT).stdout)
    entry = {"about": step["about"], "call": step["call"], "arguments": json.loads(arguments)}
    if done["files"]:
        entry["files"] = {name: base64.b64decode(content) for name, content in done["files"].items()}
    entry["commands"] = [captured.command(**command) for command in done["commands"]]
    captured.written(path, entry)


def record(session: Session) -> None:
    """Make every machine of the list, one after the other, and record what is asked for."""
    for machine in machines():
        template, disks = case.machine(machine["node"])
        say(f"{template.name}: {', '.join(disk.target for disk in disks)}")
        with session.node_in_ramdisk(template, disks, "record") as node:
            node.ssh.put(Path(node_capture.__file__).read_text(), SCRIPT)
            for step in machine["steps"]:
                if "run" in step:
                    node.ssh.run(step["run"], timeout=LIMIT)
                else:
                    capture(node, step, session.rsync.url)


def inside() -> int:
    """Record; this process is in a cell."""
    made = products.Products.received()
    try:
        with ImageServers(made.images, cell.SCRATCH, say) as images, Session(made, images, say) as session:
            record(session)
    except (NodeTimeoutError, ProgramError, UnreachableError) as error:
        say(f"FAILED: {error}")
        return 1
    return 0


def main() -> int:
    """Build what is missing, then go on in a cell."""
    if cell.inside():
        return inside()
    machines()
    try:
        products.build(say).hand_over()
    except (ProgramError, ValueError) as error:
        say(f"FAILED: {error}")
        return 1
    return cell.run_inside([sys.executable, "-m", "tests_functional.record"], root=ROOT)


if __name__ == "__main__":
    sys.exit(main())
