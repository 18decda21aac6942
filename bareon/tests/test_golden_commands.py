# SPDX-License-Identifier: Apache-2.0
"""What every function of ``bareon/tools`` would run is what was written down, and none is without."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bareon.errors import CommandError
from bareon.run import run
from bareon.tests import golden, programs
from bareon.tools import mount

ENTRIES = [(path, *x) for path in golden.files() for x in [golden.load(path)]]
CALLS = [
    pytest.param(module, entry, id=f"{path.stem}-{number}-{entry['call']}")
    for path, module, calls in ENTRIES
    for number, entry in enumerate(calls, 1)
]


@pytest.mark.parametrize(("module", "entry"), CALLS)
def test_the_commands_are_those_written_down(module: str, entry: dict[str, Any]) -> None:
    assert golden.recorded(module, entry) == entry


@pytest.mark.parametrize("module", programs.modules(), ids=lambda module: module.__name__)
def test_every_function_that_runs_a_program_is_there(module: ModuleType) -> None:
    there = {entry["call"] for _, name, calls in ENTRIES if name == module.__name__ for entry in calls}
    assert set(programs.running(module)) <= there


@pytest.mark.parametrize("path", golden.files(), ids=lambda path: path.stem)
def test_a_file_is_as_it_would_be_written(path: Path) -> None:
    assert golden.dumped(*golden.load(path)) == path.read_text()


def _made(source: str) -> ModuleType:
    module = ModuleType("made")
    exec(source, vars(module))
    return module


def test_what_runs_a_program_is_found_however_it_does() -> None:
    source = """
import contextlib
import os
from bareon.run import run
from bareon.tools import mount
from bareon.tools.mount import mounted
def itself(): run(["x"])
def _private(): run(["x"])
def through_another(): _private()
def in_a_function_of_its_own(): return [lambda: run(["x"])]
def by_the_module(): mount.write_back("/")
def late():
    from bareon.run import run as started
    started(["x"])
@contextlib.contextmanager
def context():
    with mounted("a", "b"): yield
class Thing:
    def method(self): run(["x"])
    def idle(self): return 1
def idle(): return os.getpid()
def pure(): return mount.lacks("/")
"""
    assert programs.running(_made(source)) == [
        *(
            "Thing.method",
            "by_the_module",
            "context",
            "in_a_function_of_its_own",
            "itself",
            "late",
            "through_another",
        ),
    ]


def test_a_misspelt_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("module: bareon.tools.power\ncalls: [{call: reboot, comands: [reboot]}]\n")
    with pytest.raises(ValueError, match="comands"):
        golden.load(path)


def test_a_command_that_changes_is_noticed() -> None:
    entry = {"call": "write_back", "arguments": {"path": "/mnt"}, "commands": ["sync /mnt"]}
    now = golden.recorded("bareon.tools.mount", entry)
    assert now["commands"] == [{"argv": "sync --file-system /mnt", "timeout": 3600.0}]


def test_a_recorder_takes_only_what_run_takes_and_fails_as_it_does() -> None:
    recorder = golden.Recorder([{"code": 3, "stderr": "no"}, {"code": 3}])
    with pytest.raises(TypeError):
        recorder.run(["x"], input="y")
    with pytest.raises(CommandError, match="exit code 3"):
        recorder.run(["x"])
    assert recorder.run(["x"], ok=(3,)).code == 3


def test_nothing_stays_in_place_afterwards() -> None:
    with golden.Recorder().in_place():
        assert vars(mount)["run"] is not run
    assert vars(mount)["run"] is run
