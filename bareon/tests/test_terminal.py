# SPDX-License-Identifier: Apache-2.0
"""What a step confides to the operator, and the terminal that it is shown on."""

from __future__ import annotations

import os
from pathlib import Path

from bareon.cmd.terminal import terminal
from bareon.step import confide, confiding, has_confidant


def test_what_is_confided_is_on_the_terminal_alone(tmp_path: Path) -> None:
    master, slave = os.openpty()
    try:
        with confiding(terminal(os.ttyname(slave))):
            assert has_confidant()
            confide("planted")
        assert os.read(master, 100) == b"planted\r\n"
    finally:
        os.close(master)
        os.close(slave)


def test_without_a_terminal_there_is_nobody(tmp_path: Path) -> None:
    with confiding(terminal(str(tmp_path / "none"))):
        assert not has_confidant()
        confide("planted")
    assert not has_confidant()
