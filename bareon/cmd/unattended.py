# SPDX-License-Identifier: Apache-2.0
"""bareon-unattended: deploys the node that it runs on, as the kernel's command line says."""

from __future__ import annotations

import hashlib
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bareon.cmd.exit import catch_signals, code_of, guarded
from bareon.errors import CommandError, Defect, InvalidInput, UnsuitableNode

if TYPE_CHECKING:
    from bareon.model.settings import TransferSettings
    from bareon.unattended.deploy import Outcome
    from bareon.unattended.events import Events
    from bareon.unattended.parameter import Argument, Parameters

PROGRAM = "bareon-unattended"
USAGE = "Fetches the document that the kernel's command line names, and deploys this node as it says."
LOG = logging.getLogger("bareon.unattended")
_LONGEST_WAIT = 60.0  # seconds between two questions for the document
_ADDRESS = 60.0  # seconds that a network may take to give an address
_FLUSH = 60.0  # seconds that the last events may take
#: Seconds before a node that has nothing to do restarts: it may well come back to this very ramdisk.
_CALM = 60.0
_UNMARKED = 6


def main(argv: Sequence[str] | None = None) -> int:
    """Deploy this node; the exit code is bareon-provision's."""
    run = _Run(list(sys.argv[1:] if argv is None else argv))
    return guarded(PROGRAM, run.body) or run.code


class _Run:
    """One run, from the command line to what comes after it. ``code`` is that of a deployment that failed."""

    def __init__(self, argv: list[str]) -> None:
        self._argv = argv
        self._events: Events | None = None
        self.code = 0

    def body(self) -> None:
        import argparse

        parser = argparse.ArgumentParser(PROGRAM, description=USAGE)
        parser.add_argument("--log_file", "--log-file", help="the log (/var/log/bareon-unattended.log)")
        parser.add_argument(
            "--root", type=Path, default=Path("/"), help="the folder with proc, sys, etc, dev, run and var; for tests"
        )
        parser.add_argument("--version", action="store_true", help="print the version, and stop")
        found = parser.parse_args(self._argv)
        if found.version:
            from bareon.version import version

            sys.stdout.write(f"{PROGRAM} {version()}\n")
            return
        catch_signals()
        self._root = found.root
        _start_log(Path(found.log_file) if found.log_file else found.root / "var/log/bareon-unattended.log")
        try:
            self._guarded()
        except BaseException as error:
            self._failed(code_of(error), str(error).partition("\n")[0] or type(error).__name__, {}, None)
            raise

    def _guarded(self) -> None:
        from bareon import cmdline
        from bareon.cmd.lock import node_lock
        from bareon.unattended import parameter

        text, options = cmdline.read(self._root), _options()
        if not parameter.asks(text, options):
            for defect in parameter.strange(text, options):
                self._say(f"warning: {defect}")
            return
        if reason := cmdline.cut(self._root):
            raise InvalidInput([Defect("the kernel's command line", reason)])
        given = parameter.parse(text, options)
        # From before the mark is looked for until it is written: another run would not see it.
        with node_lock(str(self._root / "run/bareon-unattended.lock")):
            self._unattended(given)

    def _unattended(self, given: Parameters) -> None:
        from bareon.unattended import events, fetch, identity, memory

        start = time.monotonic()
        node = identity.awaited(self._root, _ADDRESS)
        settings = _settings(given)
        self._events = events.Events(given.events, events.key(self._root), node.values(), settings)
        memory.check(self._root)
        wanted = fetch.Wanted(node.filled(given.source), given.digest, given.keyring)
        self._hear(min(given.lldp_timeout, given.timeout))
        self._tell_facts()
        end = start + given.timeout
        self._say(f"asks for its document at {wanted.location}")
        text = fetch.fetched(wanted, settings, end, self._wait, self._mend)
        if text is None:
            self._nothing_to_do("the server says that there is nothing to do", given)
            return
        digest = hashlib.sha256(text).hexdigest()
        if reason := _deployed(digest, given.again):
            self._nothing_to_do(reason, given)
            return
        self._deploy(text, digest, given, end)

    def _deploy(self, text: bytes, digest: str, given: Parameters, end: float) -> None:
        from bareon.unattended import after, deploy

        assert self._events
        self._events.tell("fetched", input_sha256=digest, options=list(given.options))
        self._say(f"deploys the document {digest[:12]}")
        left = max(1.0, end - time.monotonic())
        options = [*given.options, *(["--kexec"] if given.after == "kexec" else [])]
        outcome = deploy.deploy(text, options, left, self._events.relay, self._root / "run/bareon-unattended")
        code, line = outcome.code, outcome.line
        if not code:
            code, line = _marked(digest, outcome)
        if code:
            self.code = code
            self._failed(code, line, outcome.report, outcome.bundle)
            return
        self._say(f"done; next: {given.after}")
        self._end(outcome)
        after.then(given.after, self._say, outcome.refused)

    def _end(self, outcome: Outcome) -> None:
        assert self._events
        self._events.tell("ended", outcome="done", exit_code=0, report=outcome.report)
        if not self._events.flush(_FLUSH):
            LOG.warning("the last events were not taken within %g s", _FLUSH)

    def _failed(self, code: int, line: str, report: dict[str, Any], bundle: Path | None) -> None:
        """Tell of a failure everybody who may look; the node stays as it is."""
        self._say(f"failed with exit code {code}: {line}")
        if self._events:
            self._events.tell("ended", outcome="failed", exit_code=code, error=line, report=report)
            if self._events.flush(_FLUSH) and bundle:
                self._events.bundle(bundle)

    def _nothing_to_do(self, reason: str, given: Parameters) -> None:
        from bareon.unattended import after

        assert self._events
        self._say(f"{reason}; next: {given.after}")
        self._events.tell("nothing-to-do", reason=reason)
        self._events.flush(_FLUSH)
        if given.after in ("reboot", "kexec"):
            time.sleep(_CALM)
        after.then(given.after, self._say, "nothing was deployed, so that no kernel is loaded")

    def _hear(self, seconds: float) -> None:
        """Wait for the neighbours of the ports, where the command line has time for them."""
        from bareon.unattended import neighbours

        if silent := neighbours.awaited(self._root, seconds):
            self._say(f"no neighbour was heard by LLDP within {seconds:g} s at {', '.join(silent)}")

    def _tell_facts(self) -> None:
        from bareon.unattended import deploy

        assert self._events
        try:
            self._events.tell("facts", facts=deploy.facts())
        except CommandError as error:
            LOG.warning("%s", error)
            self._events.tell("facts", error=str(error))
        self._events.flush(_FLUSH)

    def _wait(self, reason: str) -> None:
        assert self._events
        self._say(reason)
        self._events.tell("waiting", reason=reason)

    def _mend(self) -> None:
        """Set the clock and learn authorities once more: nobody could when the ramdisk started and had no network."""
        from bareon.trust.prepare import prepare

        prepare(self._root, LOG.warning, lambda seconds: time.clock_settime(time.CLOCK_REALTIME, seconds))

    def _say(self, text: str) -> None:
        from bareon import console

        LOG.info("%s", text)
        console.say(f"bareon: {text}", self._root)


def _deployed(digest: str, again: str) -> str | None:
    """Why this node is not deployed again, by the marks on its disks."""
    from bareon.unattended import mark

    if again == "always":
        return None
    marks = mark.look()
    for device, digits in marks.found.items():
        same = digest.startswith(digits)
        if same:
            return f"{device} bears the mark of this very document: it is deployed"
        if again == "never":
            return f"{device} bears the mark of another document ({digits}…): bareon.again=changed deploys this one"
    if marks.unknown:
        raise UnsuitableNode(
            *(
                f"whether {device} bears the mark of a deployment cannot be known: {reason}; without that disk, or"
                " with bareon.again=always, this node is deployed"
                for device, reason in marks.unknown.items()
            )
        )
    return None


def _marked(digest: str, outcome: Outcome) -> tuple[int, str]:
    """Mark the disks of a deployment that ended well; return exit code and reason where that cannot be done."""
    from bareon.unattended import mark

    try:
        mark.put(digest, outcome.disks)
        lack = outcome.lack
    except CommandError as error:
        lack = f"no mark can be written: {error}"
    if not lack:
        return 0, ""
    return _UNMARKED, f"the node is deployed, but {lack}; without a mark each restart would deploy it again"


def _settings(given: Parameters) -> TransferSettings:
    from bareon.model.settings import TransferSettings

    authorities = [x.partition("=")[2] for x in given.options if x.startswith("--image_ca_file=")]
    return TransferSettings(ca_file=authorities[0] if authorities else None, longest_wait=_LONGEST_WAIT, back_off=2.0)


def _options() -> dict[str, Argument]:
    """The options of bareon-provision, each with what makes an argument of a value."""
    from oslo_config import cfg

    from bareon import conf

    def argument(option: cfg.Opt) -> Argument:
        def made(value: str) -> str:
            if not isinstance(option, cfg.BoolOpt):
                option.type(value)
                return f"--{option.name}={value}"
            return f"--{'' if option.type(value) else 'no'}{option.name}"

        return made

    known = [*conf.DRIVERS, *conf.INPUT, *conf.DEPLOY, *conf.TRANSFER]
    return {option.name: argument(option) for option in known}


def _start_log(file: Path) -> None:
    """A line for each event in the log; what people see is written to the consoles."""
    logging.getLogger().setLevel(logging.INFO)
    try:
        handler = logging.FileHandler(file, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        sys.stderr.write(f"{PROGRAM}: no log: {file}: {error.strerror}\n")
        return
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.getLogger().addHandler(handler)
