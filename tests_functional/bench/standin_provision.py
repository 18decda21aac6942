# SPDX-License-Identifier: Apache-2.0
"""What stands for bareon's programs in :class:`tests_functional.bench.standin.Ramdisk`.

``bareon-provision`` decides as the real one does, for the node facts in ``facts.json``: a document that it would
refuse ends with the real exit code and words. Where the real one would then write to disks, this one does as
``behaviour.json`` says: ``events`` are printed, ``hold`` waits for the file ``go``, ``errors`` go to standard error,
``exit`` is the exit code, ``files`` are written. ``bareon-boot`` notes its arguments.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from bareon.cmd import provision

HOME = Path(os.environ["STANDIN"])
FACTS = HOME / "facts.json"


def main(program: str, arguments: list[str]) -> int:
    """Do what the program would do."""
    with (HOME / "commands").open("a") as commands:
        commands.write(json.dumps([program, *arguments]) + "\n")
    if program == "bareon-boot":
        return 0
    if "--dump_node_facts" in arguments:
        sys.stdout.write(FACTS.read_text())
        return 0
    if "--plan" in arguments:
        return provision.main([*arguments, "--node_facts", str(FACTS)])
    plan = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    code = provision.main([*arguments, "--plan", "--node_facts", str(FACTS)])
    os.dup2(plan, 1)
    return code or deploy(dict(zip(arguments[::2], arguments[1::2], strict=True)))


def deploy(options: dict[str, str]) -> int:
    """Do what is asked for instead of a deployment."""
    path = HOME / "behaviour.json"
    behaviour: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    ended: list[int] = []

    def terminate(number: int, _frame: FrameType | None) -> None:
        ended.append(number)

    signal.signal(signal.SIGTERM, terminate)
    write_report(options["--report"], "running", None)
    for event in behaviour.get("events", ()):
        os.write(1, (json.dumps(event) + "\n").encode())
    while behaviour.get("hold") and not ended and not (HOME / "go").exists():
        time.sleep(0.05)
    if ended:
        (HOME / "terminated").touch()
    code = 143 if ended else int(behaviour.get("exit", 0))
    sys.stderr.write("bareon-provision: ended by SIGTERM\n" if ended else behaviour.get("errors", ""))
    for option, text in behaviour.get("files", {}).items():
        Path(options[option]).write_text(text)
    write_report(options["--report"], "failed" if code else "done", code)
    return code


def write_report(path: str, outcome: str, code: int | None) -> None:
    """Write a report in the published form."""
    content: dict[str, Any] = {
        "format": 1,
        "versions": {"bareon": "0", "python": "3", "kernel": "6"},
        "started": "2026-01-01T00:00:00Z",
        "outcome": outcome,
        "seconds": 1.5,
        "input_sha256": None,
        "node": None,
        "plan": None,
        "warnings": [],
        "commands": [],
        "steps": [],
        "error": None,
    }
    if code is not None:
        content["exit_code"] = code
    Path(path).write_text(json.dumps(content))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
