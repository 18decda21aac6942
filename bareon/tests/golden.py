# SPDX-License-Identifier: Apache-2.0
"""Golden argument lists: what each function that calls a program would run, recorded without running it.

A file of ``golden/commands`` has the functions of one module. ``module`` names it, so that a function that moves
changes this line and nothing else; a module may be named by more than one file. ``calls`` is a list:

``call``
    The function.
``about``
    What the call shows, where its arguments do not say it.
``arguments``
    By name. A mapping becomes the dataclass that the function's annotation asks for; a callback is made up.
``files``
    Files that are there when it is called, and their content (``!!binary`` for bytes).
``answers``
    What the commands say, in order: standard output, or a mapping of ``code``, ``stdout``, ``stderr``. Those after
    the last say nothing and succeed.
``body_fails``
    Whether the block below a ``with`` ends with an exception.
``commands``
    What was run: a line as for a shell, or a mapping of that line (``argv``) and what is not as by default:
    ``stdin``, ``env``, ``ok``, ``timeout`` (seconds, ``none`` for no limit), ``confined_to``.
``result``, ``raises``
    What the function returned, if the key is there; the exception it ended with.

``{tmp}`` in any text is an empty folder. ``commands``, ``result`` and ``raises`` are written by ``python -m
bareon.tests.golden``, which makes every call again; read what ``git diff`` then says.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import re
import shlex
import sys
import tempfile
import time
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import yaml

import bareon.run
from bareon.errors import BareonError, CommandError
from bareon.tests import yamltext
from bareon.tests.keys import known
from bareon.tools import syscalls

FOLDER = Path(__file__).parent / "golden" / "commands"
HEAD = "# Argument lists; bareon/tests/golden.py says what the keys mean, and writes the commands.\n"
KEYS = ("call", "about", "arguments", "files", "answers", "body_fails", "commands", "result", "raises")
WRITTEN = ("commands", "result", "raises")
#: Seconds that a command takes on the clock of a recording: a wait with a limit comes to its end.
SECONDS = 10.0
_run = bareon.run.run
_SIGNATURE = inspect.signature(_run)
_USUAL = {name: parameter.default for name, parameter in _SIGNATURE.parameters.items()}


class BodyError(Exception):
    """Stands for whatever goes wrong while something is mounted."""


class Recorder:
    """Takes the place of :func:`bareon.run.run`, and of the system calls that a tool makes by itself."""

    def __init__(self, answers: Sequence[str | Mapping[str, Any]] = ()) -> None:
        self.commands: list[Any] = []
        self._answers = list(answers)
        self._seconds = 0.0

    def run(self, *args: Any, **kwargs: Any) -> bareon.run.Command:
        bound = _SIGNATURE.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        numbers = {f"{start}{x}": f"{start}{{descriptor}}" for x in given["keep"] for start in ("", "/proc/self/fd/")}
        argv = tuple(numbers.get(str(word), str(word)) for word in given["argv"])
        self.commands.append(_written(argv, given))
        self._seconds += SECONDS
        answer = self._answers.pop(0) if self._answers else ""
        said = {"code": 0, "stdout": "", "stderr": "", **({"stdout": answer} if isinstance(answer, str) else answer)}
        if given["on_output"]:
            for line in re.split("[\r\n]", said["stdout"].removesuffix("\n")):
                given["on_output"](line)
        if said["code"] not in given["ok"]:
            raise CommandError(argv, said["code"], f"failed with exit code {said['code']}", stderr=said["stderr"])
        kept = "" if given["on_output"] else said["stdout"]
        return bareon.run.Command(argv, said["code"], kept, said["stderr"], SECONDS)

    def unshare(self, flags: int) -> int:
        self.commands.append(f"unshare(2) {flags:#x}")
        return 0

    def mount(self, source: bytes | None, target: bytes, kind: bytes | None, flags: Any, data: bytes | None) -> int:
        words = [x.decode() if x else "-" for x in (source, target, kind, data)]
        self.commands.append(f"mount(2) {shlex.join(words)} {flags.value:#x}")
        return 0

    def monotonic(self) -> float:
        return self._seconds

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Let nothing be run but by this recorder for the length of a ``with`` block."""
        libc = SimpleNamespace(unshare=self.unshare, mount=self.mount)
        with contextlib.ExitStack() as stack:
            for name, module in list(sys.modules.items()):
                if name.startswith("bareon.") and getattr(module, "run", None) is _run:
                    stack.enter_context(mock.patch.object(module, "run", self.run))
            stack.enter_context(mock.patch.object(syscalls, "_libc", libc))
            stack.enter_context(mock.patch.object(time, "monotonic", self.monotonic))
            yield


def _written(argv: Sequence[str], given: Mapping[str, Any]) -> Any:
    line = shlex.join(argv)
    # What is done with the output is no part of the command.
    rest = {key: given[key] for key in ("stdin", "env", "ok", "timeout", "confined_to") if given[key] != _USUAL[key]}
    if "ok" in rest:
        codes = list(rest["ok"])
        rest["ok"] = codes if len(codes) < 10 else f"{codes[0]} to {codes[-1]}"
    if "timeout" in rest and rest["timeout"] is None:
        rest["timeout"] = "none"
    return {"argv": line, **rest} if rest else line


def files() -> list[Path]:
    """The files with golden argument lists."""
    return sorted(FOLDER.glob("*.yaml"))


def load(path: Path) -> tuple[str, list[dict[str, Any]]]:
    """The module that a file is about, and the calls in it.

    :raises ValueError: for a key that is not known.
    """
    data = yaml.safe_load(path.read_text())
    known(data, ("module", "calls"), path.name)
    for entry in data["calls"]:
        known(entry, KEYS, f"{path.name}: {entry.get('call')}")
    return data["module"], data["calls"]


def recorded(module: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The entry with what its call does now in place of what was written down."""
    function = getattr(importlib.import_module(module), entry["call"])
    recorder = Recorder(entry.get("answers", ()))
    with tempfile.TemporaryDirectory() as folder:
        for name, content in entry.get("files", {}).items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        outcome = called(function, _replaced(entry.get("arguments", {}), "{tmp}", folder), recorder, entry)
        if "result" not in entry:
            outcome.pop("result", None)
        found = _replaced({"commands": recorder.commands, **outcome}, folder, "{tmp}")
    return {key: entry[key] for key in KEYS if key in entry and key not in WRITTEN} | dict(found)


def called(
    function: Callable[..., Any], given: Mapping[str, Any], recorder: Recorder, entry: Mapping[str, Any]
) -> dict[str, Any]:
    """``result`` or ``raises`` of a call whose commands the recorder answers."""
    arguments = _arguments(function, given)
    with recorder.in_place():
        try:
            return {"result": plain(_finished(function(**arguments), entry.get("body_fails", False)))}
        except (BareonError, BodyError) as error:
            return {"raises": f"{type(error).__name__}: {error}"}


def _finished(value: Any, body_fails: bool) -> Any:
    """What a call comes to: a generator is read to its end, a context entered and left."""
    if isinstance(value, contextlib.AbstractContextManager):
        with value as inside:
            if body_fails:
                raise BodyError("the block failed")
        return inside
    return list(value) if isinstance(value, Iterator) else value


def _arguments(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(function)
    arguments = {name: _valued(value, hints[name]) for name, value in given.items()}
    for name, hint in hints.items():
        if typing.get_origin(hint) is Callable and name not in given:
            arguments[name] = lambda *_: None
    return arguments


def _valued(value: Any, hint: Any) -> Any:
    if isinstance(value, list):
        inner = (*typing.get_args(hint), None)[0]
        return [_valued(item, inner) for item in value]
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return hint(**value)
    return value


def plain(value: Any) -> Any:
    """A value as YAML has it."""
    if dataclasses.is_dataclass(value):
        return plain(dataclasses.asdict(value))  # type: ignore[arg-type]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {key.replace(old, new): _replaced(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, old, new) for item in value]
    return value.replace(old, new) if isinstance(value, str) else value


def dumped(module: str, calls: Sequence[Mapping[str, Any]]) -> str:
    """The text of a file."""
    blocks = []
    for entry in calls:
        commands = yamltext.Block(
            yamltext.Lines(line) if isinstance(line, dict) else line for line in entry["commands"]
        )
        blocks.append(yamltext.Lines({**entry, "commands": commands}))
    data = yamltext.Lines(module=module, calls=yamltext.Block(blocks))
    text = yamltext.dumped(data)
    return HEAD + text.replace("\n  - call:", "\n\n  - call:")


def renew() -> list[Path]:
    """Write down anew what every call does. Returns the files that changed."""
    changed = []
    for path in files():
        module, calls = load(path)
        text = dumped(module, [recorded(module, entry) for entry in calls])
        if text != path.read_text():
            path.write_text(text)
            changed.append(path)
    return changed


if __name__ == "__main__":
    for changed_file in renew():
        print(changed_file)
