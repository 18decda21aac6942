# SPDX-License-Identifier: Apache-2.0
"""Showing the executor's events: a bar, plain lines, JSON, or nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from datetime import timedelta
from typing import Any, TextIO

from bareon.executor import Event, Listener
from bareon.sizes import human
from bareon.text import visible

PLAIN_INTERVAL = 5.0  # seconds between two lines of progress


def listener(mode: str, out: TextIO | None = None) -> Listener:
    """The listener for a mode. ``auto`` is a bar on a terminal that can draw one, else plain lines."""
    stream = out or sys.stdout
    if mode == "auto":
        mode = "bar" if stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "vt100") else "plain"
    if mode == "bar":
        return _Bar(stream)
    if mode == "plain":
        return _Plain(stream)
    if mode == "json":
        return _Json(stream)
    return lambda event: None


def _amount(event: Event) -> str:
    if event.done is None:
        return ""
    amount = human(event.done)
    if event.total:
        amount = f"{min(100, event.done * 100 // event.total)}% of {human(event.total)}"
    return ", ".join([amount, *_speed(event)])


def _speed(event: Event) -> list[str]:
    """Rate and remaining time, once they mean something."""
    if event.done is None or event.seconds <= 0.5:
        return []
    rest = event.remaining
    left = [f"{timedelta(seconds=round(rest))} left"] if rest is not None else []
    return [f"{human(event.rate or 0)}/s", *left]


def _figures(event: Event) -> str:
    """Amount and rate of what was brought, and whatever the step says in words."""
    said = [f"{name}: {value}" for name, value in event.outcome.items() if isinstance(value, str)]
    size = event.outcome.get("bytes")
    if isinstance(size, int) and event.rate is not None:
        said = [human(size), f"{human(event.rate)}/s", *said]
    if isinstance(attempts := event.outcome.get("attempts"), int) and attempts > 1:
        said.append(f"{attempts} attempts")
    return f": {', '.join(said)}" if said else ""


class _Plain:
    """A line when a step starts, at most one every 5 s while it goes on, and one when it ends."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last = 0.0

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        if event.kind == "progressed" and now - self._last < PLAIN_INTERVAL:
            return
        self._last = now
        number = f"[{event.number}/{event.count}]"
        match event.kind:
            case "started":
                text = f"{number} {event.description}"
            case "progressed":
                text = f"{number} … {_amount(event)}"
            case "finished":
                text = f"{number} done in {event.seconds:.1f} s{_figures(event)}"
            case "failed":
                text = f"{number} failed after {event.seconds:.1f} s"
        _write(self._out, visible(text))


class _Json:
    """One event a line, in the form of ``schemas/event.json``."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __call__(self, event: Event) -> None:
        _write(self._out, json.dumps({"event": event.kind, **_fields(event)}))


def _fields(event: Event) -> dict[str, Any]:
    fields = dataclasses.asdict(event)
    del fields["kind"]
    fields["seconds"] = round(event.seconds, 3)
    fields["rate"] = event.rate
    if event.remaining is not None:
        fields["remaining_seconds"] = round(event.remaining, 1)
    return {key: value for key, value in fields.items() if value not in (None, {})}


def _write(out: TextIO, text: str) -> None:
    """Write a line; after an error the rest is dropped, since that must not stop a deployment half-way."""
    try:
        out.write(text + "\n")
        out.flush()
    except OSError:
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), out.fileno())


class _Bar:
    """A bar for the present step and a line for each finished one, by rich."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.table import Column

        # Names of images are in it: not markup, and whatever their length, a line stays a line.
        what = "[{task.fields[number]}/{task.fields[count]}] {task.description}"
        self._progress = Progress(
            TextColumn(what, markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
            BarColumn(bar_width=10, table_column=Column(no_wrap=True)),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[amount]}", markup=False, table_column=Column(no_wrap=True)),
            console=Console(file=out),
            transient=True,
            expand=True,
        )
        self._task: Any = None

    def __call__(self, event: Event) -> None:
        if event.kind == "started":
            self._progress.start()
            self._task = self._progress.add_task(
                visible(event.description), total=None, number=event.number, count=event.count, amount=""
            )
        elif event.kind == "progressed":
            self._progress.update(self._task, completed=event.done, total=event.total, amount=_amount(event))
        else:
            self._progress.remove_task(self._task)
            self._progress.stop()
            word = "done in" if event.kind == "finished" else "failed after"
            text = (
                f"[{event.number}/{event.count}] {event.description}: {word} {event.seconds:.1f} s{_figures(event)}"
            )
            self._progress.console.print(
                visible(text),
                markup=False,
                soft_wrap=True,
                highlight=False,
            )
