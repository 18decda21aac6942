# SPDX-License-Identifier: Apache-2.0
"""A run of bareon in the ramdisk, seen from the conductor: started over SSH, on its own from then on.

All of it lies in one folder below the home of the SSH user: the input, the report, progress and errors, the number of
the process while it lives, and its exit code afterwards. So nothing is lost with a connection or with the conductor.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bareon.errors import ActionFailed, CommandError
from bareon.ironic.ssh import LARGEST, Connection, last_line
from bareon.run import Command

FOLDER = "bareon-run"

LARGEST_REPORT = 16 << 20  # bytes; those of large machines have some hundred thousand
_LARGEST_BUNDLE = 64 << 20  # bytes of its base64
_LARGEST_EVENTS = 64 << 10  # bytes of the last two

FILES = {
    "input_data_file": "provision.json",
    "config_drive_path": "config-drive.img",
    "report": "report.json",
    "bundle": "bundle.tar.gz",
    "boot_info_path": "boot-info.json",
}
"""Options of bareon that name a file, and the file in the folder."""

_NEW_FOLDER = f"umask 077; rm -rf {FOLDER}; mkdir {FOLDER}"

#: The process is a child of a shell of its own, which keeps the exit code and wakes who sends heartbeats.
_RUNNER = """
echo $$ >runner
"$@" >events 2>errors </dev/null & echo $! >pid.new; mv pid.new pid
wait $!; echo $? >code.new; mv code.new code
callback=/run/bareon-ironic-callback.pid
[ ! -e $callback ] || kill -USR1 "$(cat $callback)"
"""

_START = """
set -eu; umask 077; cd {folder}
setsid sh -c {runner} run {command} >/dev/null 2>&1 </dev/null &
left=100
while [ ! -e pid ] && [ $left -gt 0 ]; do sleep 0.1; left=$((left - 1)); done
[ -e pid ]
"""

_LOOK = """
cd {folder} 2>/dev/null || {{ echo absent; exit 0; }}
[ -e pid ] || {{ echo absent; exit 0; }}
alive() {{ kill -0 "$(cat $1)" 2>/dev/null; }}
if [ ! -e code ] && {{ alive pid || alive runner; }}; then echo running
# Asked only now: the code is written when the process has gone, and before its runner goes.
elif [ -e code ]; then echo ended "$(cat code)"
else echo lost; fi
tail -n 2 events | tail -c {events}
"""

_TERMINATE = """
cd {folder} 2>/dev/null || exit 0
[ -e pid ] && [ ! -e code ] || exit 0
kill -TERM "$(cat pid)" 2>/dev/null || exit 0
left={tenths}
while [ ! -e code ] && [ $left -gt 0 ]; do sleep 0.1; left=$((left - 1)); done
"""

_CODE = re.compile("[0-9]{1,3}")

State = Literal["absent", "running", "ended", "lost"]


@dataclass(frozen=True)
class Look:
    """What a look at the run found. ``code`` is its exit code once it ``ended``, ``event`` the last of its events."""

    state: State
    code: int | None = None
    event: dict[str, Any] | None = None


@dataclass(frozen=True)
class Run:
    """The one run in a ramdisk."""

    connection: Connection

    def start(self, script: str, options: Mapping[str, str], document: object, configdrive: str | None) -> None:
        """Bring the input and start the program, which goes on by itself.

        :param options: of the program, by their names.
        :param configdrive: the content of the file, plain ASCII.
        :raises ActionFailed: when that fails.
        """
        command = f"{self._brought(script, options, document, configdrive)} --progress json"
        self._ask(_START.format(folder=FOLDER, runner=shlex.quote(_RUNNER), command=command))

    def plan(self, script: str, options: Mapping[str, str], document: object, configdrive: str | None) -> Command:
        """Bring the input and have the program plan, which changes nothing. The result has its exit code and errors.

        :raises ActionFailed: when the ramdisk cannot be asked.
        """
        command = f"{self._brought(script, options, document, configdrive)} --plan --plan_format json"
        return self.connection.run(f"cd {FOLDER} && {command}", timeout=600, ok=range(255))

    def _brought(self, script: str, options: Mapping[str, str], document: object, configdrive: str | None) -> str:
        """Bring the input, and return the command line for it."""
        self._ask(_NEW_FOLDER)
        self._put("provision.json", json.dumps(document))
        if configdrive is not None:
            self._put("config-drive.img", configdrive)
        words = [shlex.quote(word) for name, value in options.items() for word in (f"--{name}", value)]
        # The folder is named in the ramdisk: it lies in the home of whoever logs in.
        words += [f'--{name} "$PWD"/{file}' for name, file in FILES.items()]
        return " ".join([shlex.quote(script), *words])

    def look(self) -> Look:
        """How the run stands.

        :raises ActionFailed: when the ramdisk cannot be asked.
        """
        asked = _LOOK.format(folder=FOLDER, events=_LARGEST_EVENTS)
        first, *events = self._ask(asked, at_most=2 * _LARGEST_EVENTS).splitlines() or [""]
        state, _, code = first.partition(" ")
        if state not in ("absent", "running", "ended", "lost"):
            raise ActionFailed(f"the ramdisk does not answer as bareon's would: {first[:100]!r}")
        return Look(state, int(code) if _CODE.fullmatch(code) else None, _last(events))  # type: ignore[arg-type]

    def file(self, name: str, at_most: int = LARGEST) -> str | None:
        """The text of a file of the run; ``None`` where there is none.

        :param at_most: bytes; a file that has more is cut off.
        :raises ActionFailed: when the ramdisk cannot be asked.
        """
        there = "there\n"
        command = f"cd {FOLDER} && [ -e {name} ] && echo there && head -c {at_most} {name}"
        text = self._ask(command, ok=(0, 1), at_most=at_most + len(there))
        return text.removeprefix(there) if text else None

    def bundle(self) -> bytes | None:
        """The bundle of a failed run; ``None`` where there is none.

        :raises ActionFailed: when the ramdisk cannot be asked.
        """
        command = f"cd {FOLDER} && [ -e bundle.tar.gz ] && base64 bundle.tar.gz | head -c {_LARGEST_BUNDLE}"
        text = self._ask(command, ok=(0, 1), at_most=_LARGEST_BUNDLE)
        return base64.b64decode(text) if text else None

    def terminate(self, patience: float = 30) -> None:
        """Send it SIGTERM, and give it ``patience`` seconds to tidy up. Nothing happens where nothing runs.

        :raises ActionFailed: when the ramdisk cannot be reached.
        """
        self._ask(_TERMINATE.format(folder=FOLDER, tenths=round(patience * 10)), timeout=patience + 30)

    def sync(self) -> None:
        """Have everything written to the disks.

        :raises ActionFailed: when the ramdisk cannot be reached.
        """
        self._ask("sync", timeout=120)

    def _put(self, name: str, text: str) -> None:
        self._ask(f"umask 077; cat >{FOLDER}/{name}", stdin=text, timeout=300)

    def _ask(
        self,
        command: str,
        *,
        stdin: str | None = None,
        timeout: float = 60,
        ok: tuple[int, ...] = (0,),
        at_most: int = LARGEST,
    ) -> str:
        try:
            return self.connection.run(command, stdin=stdin, timeout=timeout, ok=ok, at_most=at_most).stdout
        except CommandError as error:
            said = last_line(error.stderr)
            raise ActionFailed(f"a command over SSH {error.reason}" + (f": {said}" if said else "")) from None


def _last(lines: list[str]) -> dict[str, Any] | None:
    """The last whole event; the line that is being written may be cut off."""
    for line in reversed(lines):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict):
            return event
    return None
