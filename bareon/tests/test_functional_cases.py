# SPDX-License-Identifier: Apache-2.0
"""The case files of the functional tests, read without a machine to run them on: all of them can be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests_functional.bench import case


class _Anything(dict[str, Callable[[str], str]]):
    """Words of the bench, whatever they are called; their values are servers that nobody has started."""

    def get(self, name: str, default: object = None) -> Callable[[str], str]:  # type: ignore[override]
        return lambda of: f"{name}-{of}"


@pytest.mark.parametrize("path", [*case.find("positive"), *case.find("negative")], ids=lambda x: x.stem)
def test_a_case_can_be_read(path: Path) -> None:
    found = case.load(path, _Anything())
    assert found.description
    assert (found.exit_code == 0) == (path.parent.name == "positive")
    assert found.command != case.DEFAULT_COMMAND or found.input_text.strip() not in ("", "{}")


def test_there_are_cases() -> None:
    assert len(case.find("positive")) > 40
    assert len(case.find("negative")) > 30
    names = [path.stem for kind in ("positive", "negative") for path in case.find(kind)]
    assert len(names) == len(set(names))
    everything = {path.name for path in case.CASES.rglob("*") if path.is_file()} - {"README.rst"}
    assert everything == {f"{name}.yaml" for name in names}  # one in another folder, or .yml, is never run
