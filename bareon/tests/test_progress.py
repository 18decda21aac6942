# SPDX-License-Identifier: Apache-2.0
"""What is shown while steps run. That each event has its published form is held by ``conftest.py``."""

from __future__ import annotations

import io
import json
from typing import Any

from bareon.errors import ActionFailed
from bareon.plan import progress, schema
from bareon.plan.event import Event
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


def test_a_run_from_the_first_event_to_the_last() -> None:
    out = io.StringIO()
    plan, node = recording.case("two-disks")
    recording.recorded(plan, node, ActionFailed("no"), [progress.listener("json", out)])
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    kinds = [event["event"] for event in events if event["event"] != "progressed"]
    assert kinds == ["started", "finished"] * (len(plan.steps) - 1) + ["started", "failed"]
    assert [event["done"] for event in events if event["event"] == "progressed"][-1] == recording.GIB


def test_plain_lines_are_few() -> None:
    out = io.StringIO()
    plan, node = recording.case("two-disks")
    recording.recorded(plan, node, listeners=[progress.listener("plain", out)])
    lines = out.getvalue().splitlines()
    assert len(lines) == 2 * len(plan.steps)  # the copy took less than the 5 s between two lines of progress
    assert any(line.startswith("[8/10] done in 0.3 s: 1 GiB, ") for line in lines)
