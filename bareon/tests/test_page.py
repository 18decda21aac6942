# SPDX-License-Identifier: Apache-2.0
"""bareon-report: the page shows what the report says, and only that."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bareon.errors import CommandError, InvalidInput
from bareon.report import picture, schema
from bareon.report.page import page
from bareon.tests import recording

HOSTILE = """</style></title><script>alert(1)</script><img src=x onerror="alert(2)">'\u202e\x00\ud800\n&lt;"""
PROGRAM = str(Path(sys.executable).parent / "bareon-report")


class _Read(HTMLParser):
    """What a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def reports() -> dict[str, dict[str, Any]]:
    return recording.examples()


def _with_texts(value: Any, change: Callable[[str], str], fixed: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return {key: x if key in fixed else _with_texts(x, change, fixed) for key, x in value.items()}
    if isinstance(value, list):
        return [_with_texts(item, change, fixed) for item in value]
    return change(value) if isinstance(value, str) else value


def test_the_page_says_what_the_report_says(reports: dict[str, dict[str, Any]]) -> None:
    words = _Read(page(reports["failed"])).words
    for expected in (
        "Deployment failed",
        "exit code 6",
        "No space left on device",
        "Steps: 10 of 10 started",
        "1 GiB, files 41207, attempts 2",
        "/s",
        "lsblk --json --output NAME,SIZE,TYPE",
        reports["failed"]["input_sha256"],
    ):
        assert expected in words
    assert "planned" in words and "after" not in words
    assert "Arrays and volume groups" in _Read(page(reports["done"])).words
    kept = _Read(page(reports["kept"]))
    assert "kept" in kept.words
    assert [1 for tag, found in kept.tags if found.get("fill") == "url(#hatch)"]


def test_nothing_comes_from_outside_and_nothing_runs(reports: dict[str, dict[str, Any]]) -> None:
    fixed = ("outcome", "started", "decision", "role", "policy", "firmware")
    for recorded in reports.values():
        report = {**recorded, "node": {**recorded["node"], "cmdline": "quiet"}}
        hostile = _with_texts(copy.deepcopy(report), lambda text: text + HOSTILE, fixed)
        hostile["warnings"] = [HOSTILE]
        hostile["versions"][HOSTILE] = "1"
        text = page(hostile)
        text.encode()
        plain = _Read(page({**report, "warnings": ["x"], "versions": {**report["versions"], "x": "1"}}))
        found = _Read(text)
        assert [tag for tag, _ in found.tags] == [tag for tag, _ in plain.tags]
        names = {name for _, attributes in found.tags for name in attributes}
        assert not {name for name in names if name in ("src", "href", "srcset", "action") or name.startswith("on")}
        assert "<script>alert(1)</script>" in found.words
        assert "\u202e" not in text and r"\u202e\x00\ud800" in found.words
        assert found.tags[3][1]["content"] == "default-src 'none'; style-src 'unsafe-inline'"
        assert "url(" not in text.replace("url(#hatch)", "") and "@import" not in text


def _drawn(tags: list[tuple[str, dict[str, str | None]]], label: str, state: str) -> list[tuple[float, float]]:
    """Left and width of each block of ``state`` in the picture that has the ``label``."""
    labels = [found.get("aria-label") for _, found in tags]
    found, group = [], ""
    for tag, attributes in tags[labels.index(label) + 1 :]:
        if tag == "svg":
            break
        if tag == "g":
            group = attributes["class"] or ""
        if tag == "rect" and group == state:
            found.append((float(attributes["x"] or 0), float(attributes["width"] or 0)))
    return found


def test_pictures_are_in_scale(reports: dict[str, dict[str, Any]]) -> None:
    plan = reports["done"]["plan"]
    tags = _Read(page(reports["done"])).tags
    for disk in plan["disks"]:
        found = sorted(_drawn(tags, f"{disk['device']} after", "create"))
        for (left, width), part in zip(found, disk["partitions"], strict=True):
            assert left == pytest.approx(part["start"] / disk["size"] * picture.WIDTH, abs=0.01)
            assert width == pytest.approx(max(2.0, part["size"] / disk["size"] * picture.WIDTH), abs=0.01)


def test_what_the_plan_replaces_and_keeps(reports: dict[str, dict[str, Any]]) -> None:
    kept, done = reports["kept"], reports["done"]
    states = {block.state for bar in picture.disks_before(kept["node"], kept["plan"]) for block in bar.blocks}
    assert states == {"keep"}
    groups = {bar.name: bar for bar in picture.stacks_before(kept["node"], kept["plan"])}
    assert [block.state for block in groups["os"].blocks] == ["keep", "lost"]
    states = {block.state for bar in picture.disks_before(done["node"], done["plan"]) for block in bar.blocks}
    assert states == {"lost"}
    assert {bar.name for bar in picture.disks_before(done["node"], None)} >= {"/dev/vda", "/dev/vdc"}


def test_reports_that_ended_early(reports: dict[str, dict[str, Any]]) -> None:
    early = {**reports["failed"], "plan": None, "steps": []}
    assert "as found" in _Read(page(early)).words
    assert "Disks" not in _Read(page({**early, "node": None})).words
    running = copy.deepcopy(reports["done"])
    running["outcome"] = running["steps"][-1]["outcome"] = "running"
    del running["exit_code"]
    assert "Deployment not finished" in _Read(page(running)).words
    for disk in running["node"]["disks"]:
        disk["size"] = 0
    assert page(running)


def test_any_report_of_the_form_has_a_page(reports: dict[str, dict[str, Any]]) -> None:
    largest = _numbers(copy.deepcopy(reports["done"]), 2**63)
    for report in (largest, _numbers(copy.deepcopy(reports["done"]), 0)):
        report["seconds"] = 10**9
        for step in report["steps"]:
            step.update(seconds=0, after=10**9)
        schema.check({**report, "commands": []}, "report")
        assert page({**report, "commands": []})


def _numbers(value: Any, number: int, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _numbers(x, number, name) for name, x in value.items()}
    if isinstance(value, list):
        return [_numbers(item, number, key) for item in value]
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or key in ("format", "seconds", "after", "exit_code")
    ):
        return value
    return number


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "$: not JSON"),
        ("[" * 100_000, "$: not JSON"),
        ('{"seconds": NaN}', "NaN is no JSON value"),
        ("[]", "$: [] is not of type 'object'"),
        ('{"format": 2}', "$.format: 1 was expected"),
    ],
)
def test_what_is_no_report(text: str, says: str) -> None:
    done = subprocess.run([PROGRAM, "-", "--html", "-"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert says in done.stderr and "Traceback" not in done.stderr


def test_the_program(reports: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "report").write_text(json.dumps(reports["done"]))
    for argv, code, says in (
        (["report", "--html", "page"], 0, ""),
        (["report", "--html", "absent/page"], 2, "absent/page cannot be written: No such file"),
        (["absent", "--html", "page"], 2, "absent is not there"),
        (["report"], 2, "--html"),
    ):
        done = subprocess.run([PROGRAM, *argv], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (code, "")
        assert says in done.stderr
    assert (tmp_path / "page").read_text() == page(reports["done"])


def test_schema_defects_are_all_listed() -> None:
    with pytest.raises(InvalidInput) as caught:
        schema.check({}, "report")
    assert len(caught.value.defects) == len(schema.published("report")["required"])


def test_errors_of_every_kind_fit() -> None:
    plan, node = recording.case("two-disks")
    for error in (CommandError(["x"], None, "is not installed"), InvalidInput([])):
        assert recording.recorded(plan, node, error)["outcome"] == "failed"


def test_thin_volumes_are_named_in_their_pool() -> None:
    pool = {"name": "pool", "device": "/dev/os/pool", "size": 100, "taken": 110, "decision": "create"}
    thin = {"size": 400, "taken": 0, "pool": "pool", "decision": "create"}
    for part in (pool, thin):
        part |= {"mount": None, "file_system": None}
    volumes = [{**thin, "name": "root", "mount": "/"}, pool, {**thin, "name": "swap", "file_system": "swap"}]
    group = {"name": "os", "size": 200, "members": ["/dev/vda2"], "volumes": volumes}
    (bar,) = picture.stacks_after({"volume_groups": [group]})
    assert [(x.label, x.start, x.size) for x in bar.blocks] == [("pool (root /, swap swap)", 0, 110)]
