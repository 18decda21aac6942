# SPDX-License-Identifier: Apache-2.0
"""The machine restarts when the report is written, and a restart that fails is in it."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from bareon import executor
from bareon.actions.reboot import Reboot, Restart
from bareon.boot import kexec
from bareon.cmd.provision import _conclude
from bareon.errors import CommandError
from bareon.model.layout import Layout
from bareon.plan.plan import Plan
from bareon.report.report import Report
from bareon.tools import power

NODE: Any = None


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(power, "write_back", lambda: None)
    return Plan(Layout("clean", "bios", ()), tuple(Reboot().plan(NODE)))


def test_the_report_is_complete_before(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report(str(tmp_path / "report"), "1")
    seen = []
    monkeypatch.setattr(power, "reboot", lambda: seen.append(json.loads((tmp_path / "report").read_text())))
    executor.execute(plan, [report.listen])
    assert not seen
    report.end(0)
    _conclude(plan, report)
    assert [(x["outcome"], x["exit_code"], x["steps"][0]["outcome"]) for x in seen] == [("done", 0, "finished")]


@pytest.mark.parametrize(("reason", "told"), [(None, []), ("kexec failed with exit code 255", ["reboot"])])
def test_a_kernel_that_was_loaded_comes_first(
    reason: str | None, told: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(power, "write_back", lambda: None)
    monkeypatch.setattr(power, "reboot", lambda: seen.append("reboot"))
    monkeypatch.setattr(kexec, "start", lambda: reason)
    Restart("do_reboot", kexec=True).conclude()
    assert seen == told
    assert (f"the firmware restarts the node: {reason}" in caplog.text) == bool(told)


def test_a_restart_that_fails(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise CommandError(["reboot"], 1, "failed with exit code 1")

    monkeypatch.setattr(power, "reboot", fail)
    report = Report(str(tmp_path / "report"), "1")
    report.end(0)
    with pytest.raises(CommandError):
        _conclude(plan, report)
    content = json.loads((tmp_path / "report").read_text())
    assert (content["outcome"], content["exit_code"], content["error"]["kind"]) == ("failed", 6, "CommandError")
