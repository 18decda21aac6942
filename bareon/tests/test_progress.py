# SPDX-License-Identifier: Apache-2.0
"""What is shown while steps run. That each event has its published form is held by ``conftest.py``."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest

from bareon.errors import ActionFailed
from bareon.executor import Event
from bareon.report import progress, schema
from bareon.tests import recording

COPY = {"number": 2, "count": 3, "action": "do_copyimage", "description": "Copy"}


def _event(**fields: Any) -> dict[str, Any]:
    out = io.StringIO()
    progress.listener("json", out)(Event(**{**COPY, **fields}))
    assert out.getvalue().endswith("\n")
    found: dict[str, Any] = json.loads(out.getvalue())
    schema.check(found, "event")
    return found


def test_amount_rate_and_remaining_time() -> None:
    assert _event(kind="started") == {"event": "started", **COPY, "seconds": 0}
    assert _event(kind="progressed", seconds=4.0, done=100, total=300) == {
        "event": "progressed",
        **COPY,
        "seconds": 4.0,
        "done": 100,
        "total": 300,
        "rate": 25,
        "remaining_seconds": 8.0,
    }
    unknown = _event(kind="progressed", seconds=4.0, done=100)
    assert unknown["rate"] == 25 and "remaining_seconds" not in unknown
    assert "rate" not in _event(kind="progressed", done=0, total=0)
    assert "remaining_seconds" not in _event(kind="progressed", seconds=1.0, done=3, total=2)


def test_the_end_of_a_step() -> None:
    finished = _event(kind="finished", seconds=2.0, outcome={"bytes": 10, "form": "raw"})
    assert (finished["rate"], finished["outcome"]) == (5, {"bytes": 10, "form": "raw"})
    assert _event(kind="failed", error="no")["error"] == "no"


@pytest.mark.pain("progress")
def test_a_run_from_the_first_event_to_the_last() -> None:
    out = io.StringIO()
    plan, node = recording.case("two-disks")
    recording.recorded(plan, node, ActionFailed("no"), [progress.listener("json", out)])
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    kinds = [event["event"] for event in events if event["event"] != "progressed"]
    assert kinds == ["started", "finished"] * (len(plan.steps) - 1) + ["started", "failed"]
    assert [event["done"] for event in events if event["event"] == "progressed"][-1] == recording.GIB


def test_plain_lines_say_how_long_it_will_take() -> None:
    out = io.StringIO()
    plain = progress.listener("plain", out)
    plain(Event(**COPY, kind="progressed", seconds=60.0, done=recording.GIB, total=3 * recording.GIB))
    assert out.getvalue() == "[2/3] … 33% of 3 GiB, 17 MiB/s, 0:02:00 left\n"


@pytest.mark.parametrize("columns", [80, 132])
def test_a_bar_is_one_line_whatever_an_image_is_called(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    out = io.StringIO()
    bar = progress.listener("bar", out)
    step = {**COPY, "description": "Copy image '[/red][bold]' from rsync://192.0.2.1/images/debian-12/ to /"}
    bar(Event(**step, kind="started"))
    bar(Event(**step, kind="progressed", seconds=60.0, done=recording.GIB, total=3 * recording.GIB))
    bar._progress.refresh()  # type: ignore[attr-defined]
    shown = re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", out.getvalue()).replace("\r", "\n").split("\n")
    line = next(line for line in reversed(shown) if line.strip())
    assert line.startswith("[2/3] Copy image ") and len(line) <= columns
    assert line.rstrip().endswith("33% of 3 GiB, 17 MiB/s, 0:02:00 left")
    bar(Event(**step, kind="finished", seconds=180.0, outcome={"bytes": 3 * recording.GIB}))
    assert "'[/red][bold]'" in out.getvalue()


def test_plain_lines_are_few() -> None:
    out = io.StringIO()
    plan, node = recording.case("two-disks")
    recording.recorded(plan, node, listeners=[progress.listener("plain", out)])
    lines = out.getvalue().splitlines()
    assert len(lines) == 2 * len(plan.steps)  # the copy took less than the 5 s between two lines of progress
    assert any(re.match(r"\[8/10\] done in [0-9.]+ s: 1 GiB, ", line) for line in lines)
