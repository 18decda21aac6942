# SPDX-License-Identifier: Apache-2.0
"""A report as a self-contained HTML page: no script, no font, no picture from anywhere.

``page.html.jinja2`` lays it out. Its environment escapes whatever stands in a report, so that it stays text.
"""

from __future__ import annotations

import functools
import importlib.resources
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bareon.report import picture
from bareon.report.picture import Bar
from bareon.sizes import human
from bareon.text import visible

if TYPE_CHECKING:
    from jinja2 import Template

_HEADLINES = {"done": "Deployment done", "failed": "Deployment failed", "running": "Deployment not finished"}


def page(report: dict[str, Any]) -> str:
    """The page of a report that fits ``schemas/report.json``."""
    return _template().render(
        report=report,
        picture=picture,
        style=_file("page.css"),
        headline=_HEADLINES[report["outcome"]],
        summary=_summary(report),
        error=_error(report["error"]),
        **_drawings(report),
        planned=len(report["plan"]["steps"]) if report["plan"] else 0,
        rows=_rows(report),
        groups=_groups(report),
        facts=_facts(report),
    )


def _file(name: str) -> str:
    return importlib.resources.files("bareon.report").joinpath(name).read_text(encoding="utf-8")


@functools.cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(decimals=_decimals, duration=_duration, shell=shlex.join)
    return environment.from_string(_file("page.html.jinja2"))


def _shown(value: object) -> object:
    """The text of an expression of the template: control characters made visible, unless it is HTML already."""
    if hasattr(value, "__html__"):
        return value
    return visible(f"{value:g}" if isinstance(value, float) else str(value), "\n")


def _decimals(value: float, digits: int) -> str:
    return f"{value:.{digits}f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{seconds:.1f} s" if seconds < 59.95 else f"{minutes} min {rest} s"


def _summary(report: dict[str, Any]) -> list[str]:
    words = [
        f"started {report['started'].replace('T', ' ').replace('Z', ' UTC')}",
        f"took {_duration(report['seconds'])}",
    ]
    if "exit_code" in report:
        words.append(f"exit code {report['exit_code']}")
    if plan := report["plan"]:
        words += [f"policy {plan['policy']}", f"{plan['firmware'].upper()} firmware"]
    return words


def _error(error: dict[str, Any] | None) -> dict[str, Any] | None:
    if error is None:
        return None
    output = ""
    if command := error.get("command"):
        output = f"$ {shlex.join(command['argv'])}\n{command['stdout']}{command['stderr']}".rstrip()
    return {"kind": error["kind"], "lines": error.get("lines") or [error["message"]], "output": output}


@dataclass(frozen=True)
class _Drawing:
    """Something with its pictures below each other; ``stages`` are pairs of word and bar."""

    name: str
    about: str
    stages: tuple[tuple[str, Bar], ...]


def _drawings(report: dict[str, Any]) -> dict[str, Any]:
    """The pictures of disks, arrays and volume groups, and the words that go with them."""
    node, plan = report["node"], report["plan"]
    if node is None:
        return {}
    later = "after" if report["outcome"] == "done" else "planned"
    disks = {"before": picture.disks_before(node, plan), later: picture.disks_after(plan) if plan else []}
    stacks = {"before": picture.stacks_before(node, plan), later: picture.stacks_after(plan) if plan else []}
    bars = [bar for stages in (disks, stacks) for listed in stages.values() for bar in listed]
    states = {block.state for bar in bars for block in bar.blocks} | {"free"}
    others = {x["device"] for x in node["disks"]} - {x["device"] for x in plan["disks"]} if plan else set()
    return {
        "legend": [(state, word) for state, word in picture.WORDS.items() if state in states],
        "disks": _by_name(disks),
        "stacks": _by_name(stacks),
        "untouched": sorted(others),
    }


def _by_name(stages: dict[str, list[Bar]]) -> list[_Drawing]:
    found: dict[str, list[tuple[str, Bar]]] = {}
    for word, bars in stages.items():
        for bar in bars:
            found.setdefault(bar.name, []).append((word, bar))
    return [_Drawing(name, drawn[0][1].about, tuple(drawn)) for name, drawn in found.items()]


@dataclass(frozen=True)
class _Row:
    """A step; ``left`` and ``width`` are its place on the time line, in percent of it."""

    number: str
    description: str
    outcome: str
    seconds: float
    left: str
    width: str
    figures: str


def _rows(report: dict[str, Any]) -> Iterator[_Row]:
    """The preparations and the steps, on one time line."""
    steps = report["steps"]
    whole = max([report["seconds"], *(x["after"] + x["seconds"] for x in steps)]) or 1.0

    def row(what: tuple[str, str, str], start: float, seconds: float, figures: dict[str, Any]) -> _Row:
        left, width = (f"{min(share / whole, 1.0):.3%}" for share in (start, seconds))
        return _Row(*what, seconds, left, width, ", ".join(_figure(key, x) for key, x in figures.items()))

    ready = steps[0]["after"] if steps else report["seconds"]
    yield row(("", "Read the input and the node, decide, and check", "before"), 0.0, ready, {})
    for number, step in enumerate(steps, 1):
        seconds = step["seconds"]
        if step["outcome"] == "running":  # of which nothing is known but its start
            seconds = max(0.0, report["seconds"] - step["after"])
        yield row((str(number), step["description"], step["outcome"]), step["after"], seconds, step["figures"])


def _figure(key: str, value: object) -> str:
    if isinstance(value, int) and key == "rate":
        return f"{human(value)}/s"
    if isinstance(value, int) and key.endswith("bytes"):
        return f"{human(value)} {key.removesuffix('bytes').strip('_')}".strip()
    return f"{key} {value}"


def _groups(report: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    """The commands of a run, by what they were for."""
    steps = enumerate(report["steps"], 1)
    of_steps = [(f"{number}. {step['description']}", step["commands"]) for number, step in steps]
    return [("Before the first step", report["commands"]), *of_steps]


def _facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    facts = [*report["versions"].items(), ("SHA-256 of the input", report["input_sha256"] or "unknown")]
    if report["node"] and report["node"]["cmdline"]:
        facts.append(("kernel command line", report["node"]["cmdline"]))
    return facts
