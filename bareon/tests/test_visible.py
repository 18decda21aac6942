# SPDX-License-Identifier: Apache-2.0
"""What disks, images and inputs are called reaches a terminal as text, never as commands to it."""

from __future__ import annotations

import dataclasses

import pytest

from bareon.cmd.exit import guarded
from bareon.errors import UnsuitableNode
from bareon.plan import text
from bareon.tests import recording
from bareon.visible import visible

EVIL = "\x1b[2J\x9b2J\x7f\u202e\u2028\n 99. No content will be lost"


def test_what_is_not_seen_is_shown() -> None:
    assert visible("é \U0001f600 a\tb\x1b[2J\x85\u202e") == "é \U0001f600 a\\tb\\x1b[2J\\x85\\u202e"
    assert visible("a\nb", "\n") == "a\nb"


def test_a_plan_shows_a_disk_with_an_evil_name() -> None:
    plan, node = recording.case("two-disks")
    disks = tuple(dataclasses.replace(disk, model=EVIL, serial=EVIL) for disk in node.disks)
    shown = text.render(plan, dataclasses.replace(node, disks=disks))
    assert shown.count("\\x1b[2J") == 2 * len(plan.layout.disks)
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert not any(line.startswith(" 99.") for line in shown.splitlines())


def test_an_error_shows_an_evil_name(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> None:
        raise UnsuitableNode(f"no disk {EVIL}")

    assert guarded("bareon-provision", body) == 4
    said = capsys.readouterr().err
    assert "\\x1b[2J" in said and said.count("\n") == 1 and said.rstrip("\n").isprintable()
