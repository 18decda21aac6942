# SPDX-License-Identifier: Apache-2.0
"""Runs on a node, in the ramdisk: calls a function of bareon that reads, and prints as JSON what its programs said.

Usage: node_capture.py MODULE FUNCTION ARGUMENTS, the last a JSON object. The commands are the function's own.
"""

from __future__ import annotations

import base64
import importlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from bareon.errors import BareonError
from bareon.run import Command, run

_said: list[dict[str, Any]] = []


def recording(
    argv: Sequence[str],
    *,
    ok: Iterable[int] = (0,),
    on_output: Callable[[str], None] | None = None,
    **how: Any,
) -> Command:
    """Run a command as bareon does, and keep all that it says, which bareon does not for one with progress."""
    done = run(argv, ok=range(256), **how)
    _said.append({"argv": list(argv), "code": done.code, "stdout": done.stdout, "stderr": done.stderr})
    if on_output:
        for line in re.split("[\r\n]", done.stdout.removesuffix("\n")):
            on_output(line)
    if done.code not in tuple(ok):
        raise BareonError(f"exit {done.code}")
    return done


def main(module_name: str, function: str, text: str) -> None:
    """Call the function, and print what its programs said, and the variables of the firmware below ``place``."""
    module: Any = importlib.import_module(module_name)
    called = getattr(module, function)
    arguments = json.loads(text)
    if hasattr(module, "run"):
        module.run = recording
    for name in {"output", "take"} & set(inspect.signature(called).parameters):
        arguments[name] = lambda _: None
    try:
        called(**arguments)
    except BareonError as error:
        print(error, file=sys.stderr)
    files = sorted(Path(arguments["place"]).glob("Boot*")) if "place" in arguments else []
    contents = {path.name: base64.b64encode(path.read_bytes()).decode() for path in files}
    json.dump({"commands": _said, "files": contents}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
