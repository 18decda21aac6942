# SPDX-License-Identifier: Apache-2.0
"""A report as one HTML page that needs nothing else: no script, no font, no picture from anywhere.

The page is built as a tree, never as text, so that whatever stands in a report stays text.
"""

from __future__ import annotations

import importlib.resources
import shlex
from collections.abc import Iterable, Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from bareon.plan import picture
from bareon.plan.picture import Bar, State
from bareon.sizes import human
from bareon.text import visible

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_HEADLINES = {"done": "Deployment done", "failed": "Deployment failed", "running": "Deployment not finished"}


def page(report: dict[str, Any]) -> str:
    """The page of a report that fits ``schemas/report.json``."""
    html = Element("html", {"lang": "en"})
    head = SubElement(html, "head")
    SubElement(head, "meta", {"charset": "utf-8"})
    SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": _POLICY})
    SubElement(head, "meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"})
    _add(head, "title", f"{_HEADLINES[report['outcome']]}: bareon")
    SubElement(head, "style").text = importlib.resources.files("bareon.plan").joinpath("page.css").read_text()
    body = SubElement(html, "body")
    _headline(body, report)
    _error(body, report["error"])
    _warnings(body, report["warnings"])
    _disks(body, report)
    _steps(body, report)
    _commands(body, report)
    _about(body, report)
    return "<!DOCTYPE html>\n" + tostring(html, encoding="unicode", method="html") + "\n"


def _text(text: object) -> str:
    return visible(str(text), "\n")


def _add(parent: Element, tag: str, text: object = "", kind: str = "") -> Element:
    added = SubElement(parent, tag, {"class": kind} if kind else {})
    added.text = _text(text)
    return added


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{seconds:.1f} s" if seconds < 59.95 else f"{minutes} min {rest} s"


def _headline(body: Element, report: dict[str, Any]) -> None:
    header = SubElement(body, "header")
    _add(header, "h1", _HEADLINES[report["outcome"]], report["outcome"])
    words = [
        f"started {report['started'].replace('T', ' ').replace('Z', ' UTC')}",
        f"took {_time(report['seconds'])}",
    ]
    if "exit_code" in report:
        words.append(f"exit code {report['exit_code']}")
    if plan := report["plan"]:
        words += [f"policy {plan['policy']}", f"{plan['firmware'].upper()} firmware"]
    _add(header, "p", " · ".join(words), "faint")


def _error(body: Element, error: dict[str, Any] | None) -> None:
    if error is None:
        return
    panel = _add(body, "section", kind="panel failed")
    _add(panel, "strong", error["kind"])
    for line in error.get("lines") or [error["message"]]:
        _add(panel, "p", line)
    if command := error.get("command"):
        _add(panel, "pre", f"$ {shlex.join(command['argv'])}\n{command['stdout']}{command['stderr']}".rstrip())


def _warnings(body: Element, warnings: Sequence[str]) -> None:
    if warnings:
        panel = _add(body, "section", kind="panel warning")
        _add(panel, "strong", "Warnings")
        _list(panel, warnings)


def _list(parent: Element, items: Iterable[str], kind: str = "") -> None:
    listed = _add(parent, "ul", kind=kind)
    for item in items:
        _add(listed, "li", item)


def _disks(body: Element, report: dict[str, Any]) -> None:
    node, plan = report["node"], report["plan"]
    if node is None:
        return
    disks = picture.disks_before(node, plan), picture.disks_after(plan) if plan else []
    stacks = picture.stacks_before(node, plan), picture.stacks_after(plan) if plan else []
    later = "after" if report["outcome"] == "done" else "planned"
    _add(body, "h2", "Disks")
    _legend(body, {block.state for bars in (*disks, *stacks) for bar in bars for block in bar.blocks} | {"free"})
    _bars(body, {"before": disks[0], later: disks[1]})
    if any(stacks):
        _add(body, "h2", "Arrays and volume groups")
        _bars(body, {"before": stacks[0], later: stacks[1]})
    if plan and (others := {x["device"] for x in node["disks"]} - {x["device"] for x in plan["disks"]}):
        _add(body, "p", f"Not part of the plan, and not touched: {', '.join(sorted(others))}.", "faint")


def _bars(body: Element, stages: dict[str, list[Bar]]) -> None:
    """Everything by its name, each with its pictures below each other."""
    bars = [bar for listed in stages.values() for bar in listed]
    for name in dict.fromkeys(bar.name for bar in bars):
        title = _add(body, "h3", f"{name} ")
        _add(title, "small", next(bar.about for bar in bars if bar.name == name))
        for word, bar in ((word, bar) for word, listed in stages.items() for bar in listed if bar.name == name):
            figure = SubElement(body, "figure")
            _add(figure, "figcaption", word)
            figure.append(_visible(picture.svg(bar, f"{name} {word}")))


def _visible(drawn: Element) -> Element:
    for element in drawn.iter():
        element.text = _text(element.text or "")
        element.attrib.update({key: _text(value) for key, value in element.attrib.items()})
    return drawn


def _legend(body: Element, states: set[State]) -> None:
    """What the colours mean, and the hatching of what is kept."""
    definitions = SubElement(SubElement(body, "svg", {"class": "patterns", "aria-hidden": "true"}), "defs")
    lines = {"id": "hatch", "width": "8", "height": "8", "patternUnits": "userSpaceOnUse"}
    hatch = SubElement(definitions, "pattern", {**lines, "patternTransform": "rotate(45)"})
    SubElement(hatch, "line", {"y2": "8", "stroke": "#fff", "stroke-width": "4", "stroke-opacity": "0.28"})
    legend = _add(body, "ul", kind="legend")
    for state in (state for state in picture.WORDS if state in states):
        item = SubElement(legend, "li")
        drawn = SubElement(item, "svg", {"viewBox": "0 0 22 16", "aria-hidden": "true"})
        group = SubElement(drawn, "g", {"class": state})
        for kind in ("", "hatch") if state == "keep" else ("",):
            SubElement(group, "rect", {"width": "22", "height": "16", "class": kind})
        drawn.tail = picture.WORDS[state]
    _add(body, "p", "Each picture is in scale; the figures below it are its own.", "faint")


def _steps(body: Element, report: dict[str, Any]) -> None:
    planned = len(report["plan"]["steps"]) if report["plan"] else 0
    if not report["steps"] and not planned:
        return
    _add(body, "h2", f"Steps: {len(report['steps'])} of {planned} started")
    table = SubElement(body, "table")
    head = SubElement(table, "tr")
    for title, kind in (("#", "number"), ("step", ""), ("time line", "time"), ("duration", "number")):
        _add(head, "th", title, kind)
    whole = max([report["seconds"], *(x["after"] + x["seconds"] for x in report["steps"])], default=0) or 1.0
    ready = report["steps"][0]["after"] if report["steps"] else report["seconds"]
    _step(table, ("", "Read the input and the node, decide, and check", "before"), (0.0, ready, whole), {})
    for number, step in enumerate(report["steps"], 1):
        seconds = step["seconds"]
        if step["outcome"] == "running":  # of which nothing is known but its start
            seconds = max(0.0, report["seconds"] - step["after"])
        what = (str(number), step["description"], step["outcome"])
        _step(table, what, (step["after"], seconds, whole), step["figures"])


def _step(
    table: Element, what: tuple[str, str, str], when: tuple[float, float, float], figures: dict[str, Any]
) -> None:
    """A row: ``what`` is number, description, outcome; ``when`` is start, duration, length of the time line."""
    number, description, outcome = what
    start, seconds, whole = when
    row = _add(table, "tr", kind=outcome)
    _add(row, "td", number, "number")
    cell = _add(row, "td", description)
    if figures:
        _add(cell, "div", ", ".join(_figure(key, value) for key, value in figures.items()), "faint")
    track = _add(_add(row, "td", kind="time"), "div", kind="track")
    width = min(seconds / whole, 1.0)
    SubElement(track, "span", {"style": f"left:{min(start / whole, 1.0):.3%};width:{width:.3%}"})
    _add(row, "td", _time(seconds), "number")


def _figure(key: str, value: object) -> str:
    if isinstance(value, int) and key == "rate":
        return f"{human(value)}/s"
    if isinstance(value, int) and key.endswith("bytes"):
        return f"{human(value)} {key.removesuffix('bytes').strip('_')}".strip()
    return f"{key} {value}"


def _commands(body: Element, report: dict[str, Any]) -> None:
    groups = [("Before the first step", report["commands"])]
    groups += [
        (f"{number}. {step['description']}", step["commands"]) for number, step in enumerate(report["steps"], 1)
    ]
    _add(body, "h2", "Commands")
    for title, commands in groups:
        if not commands:
            continue
        details = SubElement(body, "details")
        summary = _add(details, "summary", f"{title} ")
        amount = f"{len(commands)} command{'s'[: len(commands) > 1]}"
        _add(summary, "span", f"{amount}, {_time(sum(x['seconds'] for x in commands))}", "faint")
        table = SubElement(details, "table")
        for command in commands:
            row = SubElement(table, "tr")
            _add(SubElement(row, "td"), "code", shlex.join(command["argv"]))
            _add(row, "td", f"exit {command['exit_code']}", "number")
            _add(row, "td", f"{command['seconds']:.2f} s", "number")


def _about(body: Element, report: dict[str, Any]) -> None:
    _add(body, "h2", "About this run")
    listed = SubElement(body, "dl")
    facts = [(name, version) for name, version in report["versions"].items()]
    facts.append(("SHA-256 of the input", report["input_sha256"] or "unknown"))
    if report["node"] and report["node"]["cmdline"]:
        facts.append(("kernel command line", report["node"]["cmdline"]))
    for name, value in facts:
        _add(listed, "dt", name)
        _add(listed, "dd", value)
