# SPDX-License-Identifier: Apache-2.0
"""What programs really said, and what is read from it.

A file of ``captured/<module of bareon.tools>/`` is a call of one of its functions in the ramdisk:

``about``
    What the program was asked about.
``call`` and ``arguments``
    The function, and its arguments by name.
``commands``
    What it ran: ``argv``, a line as for a shell, and what came of it, ``code``, ``stdout``, ``stderr``.
``files``
    Files that it read, with their content, where it reads a folder; ``{files}`` in an argument is that folder.
``result``, ``raises``
    What the function makes of it: its value, or the exception that it ends with.

``python -m tests_functional.record`` makes all of them anew in a virtual machine, of what
``tests_functional/captures.yaml`` lists. ``python -m bareon.tests.captured`` writes ``result`` and ``raises`` alone,
after a change of what is read.
"""

from __future__ import annotations

import importlib
import os
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bareon.errors import CommandError
from bareon.tests import golden, yamltext
from bareon.tests.keys import known
from bareon.tools import rsync

FOLDER = Path(__file__).parent / "captured"
HEAD = "# Recorded in the ramdisk by tests_functional/record.py; bareon/tests/captured.py says what the keys mean.\n"
KEYS = ("about", "call", "arguments", "files", "commands", "result", "raises")
#: Where the functions are, by the folder of their files.
MODULES = {
    name: f"bareon.tools.{name}"
    for name in (
        "blkid",
        "btrfs",
        "cryptsetup",
        "efi",
        "lsblk",
        "lvm",
        "mdadm",
        "nvme",
        "osprober",
        "parted",
        "rsync",
        "sfdisk",
        "smartctl",
    )
}


def files() -> list[Path]:
    """The files with captured output."""
    return sorted(FOLDER.glob("*/*.yaml"))


def load(path: Path) -> dict[str, Any]:
    """The content of a file.

    :raises ValueError: for a key that is not known.
    """
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    known(found, KEYS, path.name)
    for command in found["commands"]:
        known(command, ("argv", "code", "stdout", "stderr"), path.name)
    return found


def read(module: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """``argv`` of the commands that the call runs, when they are answered as captured, and its outcome."""
    answers = [{key: value for key, value in command.items() if key != "argv"} for command in entry["commands"]]
    recorder = golden.Recorder(answers)
    function = getattr(importlib.import_module(module), entry["call"])
    with tempfile.TemporaryDirectory() as folder:
        for name, content in entry.get("files", {}).items():
            Path(folder, name).write_bytes(content)
        given = {name: folder if value == "{files}" else value for name, value in entry.get("arguments", {}).items()}
        if function is rsync.copy:
            outcome = {"result": _copied(given, recorder)}
        elif function is rsync.listing:
            outcome = _listed(given, recorder)
        else:
            outcome = golden.called(function, given, recorder, {})
    lines = [line["argv"] if isinstance(line, dict) else line for line in recorder.commands]
    return {"argv": lines, **outcome}


def _copied(given: Mapping[str, Any], recorder: golden.Recorder) -> dict[str, Any]:
    """What is read from an rsync's progress, and from its complaints."""
    progress = rsync.Progress()

    def read(line: str) -> None:
        progress.read(line)

    with recorder.in_place():
        try:
            rsync.copy(**given, output=read)
        except CommandError as error:
            found = {
                "code": error.code,
                "reason": rsync.reason(error),
                "is_local": rsync.is_local(error),
                "is_transient": rsync.is_transient(error),
                "is_in_the_way": rsync.is_in_the_way(error),
            }
        else:
            found = {}
    return {"bytes": progress.bytes, "total": progress.total, "files": progress.files, **found}


def _listed(given: Mapping[str, Any], recorder: golden.Recorder) -> dict[str, Any]:
    """The entries of a listing, less the fields that say nothing. Bytes that are no UTF-8 read ``\\xff``."""
    found: list[rsync.Entry] = []
    outcome = golden.called(rsync.listing, {**given, "take": found.append}, recorder, {})
    if "raises" in outcome:
        return outcome
    return {"result": [{key: _text(value) for key, value in x._asdict().items() if value is not None} for x in found]}


def _text(value: Any) -> Any:
    return os.fsencode(value).decode(errors="backslashreplace") if isinstance(value, str) else value


def dumped(entry: Mapping[str, Any]) -> str:
    """The text of a file."""
    commands = yamltext.Block(yamltext.Lines(command) for command in entry["commands"])
    data = {key: entry[key] for key in KEYS if key in entry} | {"commands": commands}
    if isinstance(data.get("files"), dict):
        data["files"] = yamltext.Lines(data["files"])
    return HEAD + yamltext.dumped(yamltext.Lines(data))


def written(path: Path, entry: Mapping[str, Any]) -> bool:
    """Write a file, with what is read now from what the commands said. Returns whether it changed."""
    outcome = read(MODULES[path.parent.name], entry)
    text = dumped(
        {
            **{key: value for key, value in entry.items() if key not in ("result", "raises")},
            **{key: value for key, value in outcome.items() if key != "argv"},
        }
    )
    changed = not path.exists() or text != path.read_text()
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return changed


def command(argv: list[str], code: int, stdout: str, stderr: str) -> dict[str, Any]:
    """A command in the form of the files: what is empty is left out."""
    return {"argv": shlex.join(argv), "code": code, "stdout": stdout} | ({"stderr": stderr} if stderr else {})


if __name__ == "__main__":
    for file in files():
        if written(file, load(file)):
            print(file)
