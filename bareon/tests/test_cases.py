# SPDX-License-Identifier: Apache-2.0
"""Runs the case files, where no program can be started: a plan is made of input and node alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bareon import errors
from bareon.run import run
from bareon.tests.cases import PARTS, cases, describe, load, plan_of


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every start of a process fail with an error that no code under test handles."""

    def refuse(argv: object, *_: object, **__: object) -> None:
        raise AssertionError(f"a process was to be started while a plan was made: {argv}")

    monkeypatch.setattr(subprocess, "Popen", refuse)


def test_no_process_can_be_started() -> None:
    with pytest.raises(AssertionError, match=r"to be started .*\['true'\]"):
        run(["true"])


@pytest.mark.parametrize("path", cases("plan"), ids=lambda path: path.stem)
def test_plan(path: Path) -> None:
    case = load(path)
    found = describe(plan_of(case))
    for key, nothing in PARTS.items():
        assert found[key] == case.get(key, nothing)
    for key in {"images", "steps"} & case.keys():
        assert found[key] == case[key]
    for expected, warning in zip(case.get("warnings", []), found["warnings"], strict=True):
        assert expected in warning


def test_volumes_that_are_kept_are_planned_with_the_names_they_have() -> None:
    (path,) = (path for path in cases("plan") if path.stem == "verify-partitions-of-other-tools")
    assert [part.name for part in plan_of(load(path)).layout.disks[0].partitions[1:]] == ["primary", "primary", None]


@pytest.mark.parametrize("path", cases("error"), ids=lambda path: path.stem)
def test_error(path: Path) -> None:
    case = load(path)
    kind = getattr(errors, case["error"])
    with pytest.raises(kind) as caught:
        plan_of(case)
    lines = caught.value.lines()
    assert type(caught.value) is kind
    assert len(lines) == len(case["lines"]), lines
    for expected, found in zip(case["lines"], lines, strict=True):
        assert expected in found


@pytest.mark.parametrize(
    ("kind", "key", "says"),
    [
        ("plan", "step", "unknown: step; there are: description, .*, steps, "),
        ("plan", "lines", "unknown: lines"),
        ("error", "steps", "unknown: steps"),
        ("error", "line", "unknown: line; there are: .*, lines"),
        ("plan", "input_text", "either input or input_text"),
    ],
)
def test_a_key_that_is_not_known_is_refused(kind: str, key: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / kind / "misspelt.yaml"
    path.parent.mkdir()
    path.write_text(f"description: Misspelt.\nnode: two-disks\ninput: {{}}\n{key}: []\n")
    with pytest.raises(ValueError, match=f"misspelt.yaml: .*{says}"):
        load(path)
