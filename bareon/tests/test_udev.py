# SPDX-License-Identifier: Apache-2.0
"""udev that is slow, with a udevadm that says so. Devices that are late are waited for in ``tests_functional``."""

from __future__ import annotations

from pathlib import Path

import pytest

from bareon.errors import ActionFailed
from bareon.tools import udev


@pytest.fixture
def udevadm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A udevadm whose ``settle`` ends as with events that were not handled in time; a log of what was asked."""
    program, log = tmp_path / "bin/udevadm", tmp_path / "log"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >>{log}\n[ "$1" != settle ]\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return log


@pytest.fixture
def event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the kernel for events of ``/dev/null``, as if that were a block device."""
    file = tmp_path / "block/1:3/uevent"
    file.parent.mkdir(parents=True)
    monkeypatch.setattr(udev, "DEVICES", tmp_path / "block")
    return file


@pytest.mark.pain("settle-is-not-enough", "slow-udev")
def test_events_of_others_are_no_reason_to_fail(udevadm: Path, event: Path, caplog: pytest.LogCaptureFixture) -> None:
    udev.settle(5)
    udev.look_again("/dev/null")
    udev.wait_for({})
    assert udevadm.read_text().splitlines() == [
        "settle --timeout=5",
        "settle --timeout=60",
        "settle --timeout=30",
    ]
    assert event.read_text() == "change"
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"udev is still busy after {seconds} s; going on" for seconds in (5, 60, 30)
    ]


def test_a_device_that_is_not_there_is_one(udevadm: Path, event: Path) -> None:
    event.parent.rmdir()
    for device, reason in (("/dev/absent", "No such file"), ("/dev/null", "No such file")):
        with pytest.raises(ActionFailed, match=f"^{device}: udev cannot be told to read it again: {reason}"):
            udev.look_again(device)
    assert not udevadm.exists()
