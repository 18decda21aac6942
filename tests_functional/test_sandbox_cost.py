# SPDX-License-Identifier: Apache-2.0
"""What a call in the sandbox costs in the ramdisk, shown and not judged; and that the sandbox works there at all."""

from __future__ import annotations

import re
from pathlib import Path

from building import wheel
from tests_functional.bench.session import Record, Session
from tests_functional.bench.template import Template

BENCHMARK = Path(__file__).resolve().parents[1] / "benchmarks/sandbox.py"


def test_a_call_in_the_ramdisk(session: Session, record_property: Record) -> None:
    template = Template.load("two_disks")
    with session.node_in_ramdisk(template, template.disks, "sandbox-cost") as node:
        node.ssh.put(BENCHMARK.read_text(), "/tmp/sandbox.py")
        said = node.ssh.run(f"{wheel.VENV}/bin/python /tmp/sandbox.py", timeout=120).stdout.strip()
    record_property("sandbox, a call under emulation", said)
    assert re.fullmatch(r"true in the sandbox: \d+ ms, chroot: \d+ ms, difference \d+ ms \(.*\)", said), said
