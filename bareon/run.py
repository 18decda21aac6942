# SPDX-License-Identifier: Apache-2.0
"""The one place that starts processes.

A command is a list, never a string, and no shell is involved. Its locale is C, its standard input closed or given,
its time bounded; every command is logged once, in a form that can be pasted into a shell, with its duration. When the
caller is interrupted, the command and its children are ended before the exception goes on.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import fcntl
import functools
import logging
import os
import select
import selectors
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bareon import confine, reaper
from bareon.errors import CommandError

LOG = logging.getLogger(__name__)
T = TypeVar("T")

DEFAULT_TIMEOUT = 120.0
_KEPT = 64 * 1024  # characters of output kept for an error or the log
_POLL = 1.0  # seconds
_PIPE = 64 * 1024  # bytes that a pipe of Linux holds; pipe(7)
_GATHERED = 0.1  # seconds
_GATHERED_BYTES = 1 << 20
_PR_SET_PDEATHSIG = 1
# How code fails that reads a form and is given another one.
_NOT_READ = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
_NOT_STARTED = 126  # as a shell says it of what it cannot start


class Secret(str):
    """A piece of an argument list that must not be shown. ``str()`` and ``repr()`` of it are masked."""

    def __str__(self) -> str:
        return "***"

    __repr__ = __str__

    def reveal(self) -> str:
        """The text itself, for the process that needs it."""
        return "".join(self)


@dataclass(frozen=True)
class Command:
    """A finished command. ``argv`` is masked, ``seconds`` is wall time."""

    argv: tuple[str, ...]
    code: int
    stdout: str
    stderr: str
    seconds: float

    def read(self, reader: Callable[[str], T]) -> T:
        """What ``reader`` makes of the standard output.

        :raises CommandError: when it is none that it knows: cut off, or of another version's form.
        """
        try:
            return reader(self.stdout)
        except _NOT_READ as error:
            reason = f"says what cannot be read: {type(error).__name__}: {error}"
            raise CommandError(self.argv, self.code, reason, self.stdout, self.stderr) from error


_observer: contextvars.ContextVar[Callable[[Command], None] | None] = contextvars.ContextVar("observer", default=None)


@contextlib.contextmanager
def observed(callback: Callable[[Command], None]) -> Iterator[None]:
    """Tell ``callback`` of each command that ends inside the ``with`` block, failed ones included."""
    token = _observer.set(callback)
    try:
        yield
    finally:
        _observer.reset(token)


def missing(programs: Iterable[str]) -> list[str]:
    """Those of ``programs`` that are not installed, sorted."""
    return sorted({program for program in programs if shutil.which(program) is None})


def run(
    argv: Sequence[str],
    *,
    stdin: str | None = None,
    timeout: float | None = DEFAULT_TIMEOUT,
    ok: Iterable[int] = (0,),
    env: dict[str, str] | None = None,
    inherit: bool = True,
    keep: Sequence[int] = (),
    before: Callable[[], None] | None = None,
    on_output: Callable[[str], None] | None = None,
    at_most: int | None = None,
    check: Callable[[], str | None] | None = None,
    source: int | None = None,
    sink: int | None = None,
    confined_to: str | None = None,
) -> Command:
    """Run a command to its end.

    :param stdin: text for its standard input, which is closed otherwise.
    :param timeout: seconds, ``None`` for no limit (a transfer, whose progress is watched elsewhere).
    :param ok: exit codes that are no failure.
    :param env: variables to add to the environment.
    :param inherit: whether that environment is this process's own; else ``env`` is all of it.
    :param keep: descriptors that it has besides its standard streams.
    :param before: called in the new process before the program is started: system calls, and little else. When it
        raises OSError, that is what the command says on its standard error, and it ends with code 126.
    :param on_output: called with each line of standard output, at most a tenth of a second after it came; of those
        that wrote over each other in that time, by ``\\r``, with the last. The output is then not kept.
    :param at_most: how many of the last bytes of each output are kept; all by default.
    :param source: a descriptor that becomes its standard input.
    :param sink: a descriptor that becomes its standard output, which is then neither read nor kept.
    :param confined_to: the folder below which alone it may write by a path, where the kernel can see to that.
    :param check: asked about once a second; what it returns is the reason for which the command is ended.
    :raises CommandError: when the program is missing, ends with another code, or takes too long.
    """
    assert not (before and confined_to), "one of them would be left out"
    masked = tuple(str(word) for word in argv)
    plain = [word.reveal() if isinstance(word, Secret) else str(word) for word in argv]
    started = time.monotonic()
    try:
        process = subprocess.Popen(
            plain,
            stdin=_standard_input(stdin, source),
            stdout=subprocess.PIPE if sink is None else sink,
            stderr=subprocess.PIPE,
            env={**(os.environ if inherit else {}), "LANG": "C", "LC_ALL": "C", "TZ": "UTC", **(env or {})},
            start_new_session=True,
            pass_fds=keep,
            preexec_fn=functools.partial(_before_it_starts, before or _confinement(confined_to)),
        )
    except OSError as error:
        reason = "is not installed" if isinstance(error, FileNotFoundError) else f"cannot start: {error.strerror}"
        LOG.error("cannot run %s: %s", shlex.join(masked), error)
        raise CommandError(masked, None, reason) from None
    try:
        watch = _Watch(None if timeout is None else started + timeout, check)
        stdout, stderr = _communicate(process, stdin, watch, on_output, at_most)
    except _Unwanted as error:
        _end(process)
        LOG.error("%s: ended: %s", shlex.join(masked), error)
        raise CommandError(masked, None, f"was ended: {error}") from None
    except TimeoutError:
        _end(process)
        LOG.error("%s: stopped after %s s", shlex.join(masked), timeout)
        raise CommandError(masked, None, f"was stopped after {timeout:g} s") from None
    except BaseException:
        _end(process)
        raise
    done = Command(masked, process.returncode, stdout, stderr, time.monotonic() - started)
    return _concluded(done, ok)


def _concluded(done: Command, ok: Iterable[int]) -> Command:
    failed = done.code not in tuple(ok)
    level = logging.ERROR if failed else logging.INFO
    LOG.log(level, "%s: exit %d after %.2f s", shlex.join(done.argv), done.code, done.seconds)
    for name, text in (("stdout", done.stdout), ("stderr", done.stderr)):
        if text.strip():
            LOG.log(logging.ERROR if failed else logging.DEBUG, "%s: %s", name, text[-_KEPT:].rstrip())
    if (observer := _observer.get()) is not None:
        observer(done)
    if failed:
        reason = f"failed with exit code {done.code}"
        if done.code < 0:
            reason = f"was ended by signal {signal.Signals(-done.code).name}"
        raise CommandError(done.argv, done.code, reason, done.stdout[-_KEPT:], done.stderr[-_KEPT:])
    return done


_libc = ctypes.CDLL(None, use_errno=True)


def _standard_input(text: str | None, source: int | None) -> int:
    if source is not None:
        return source
    return subprocess.DEVNULL if text is None else subprocess.PIPE


def _confinement(folder: str | None) -> Callable[[], None] | None:
    """What confines a process to a folder; ``None`` where it need not be, or the kernel cannot."""
    if folder is None:
        return None
    if confine.is_possible():
        return functools.partial(confine.to, folder)
    LOG.info("this kernel has no Landlock that would keep a command to writing in %s", folder)
    return None


def _before_it_starts(then: Callable[[], None] | None) -> None:
    # SIGKILL of bareon must not leave an rsync or mkfs that goes on writing, nor what those have started.
    reaper.enrol()
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if then is None:
        return
    try:
        then()
    except OSError as error:
        # An exception would reach the caller without its words.
        os.write(2, f"{error}\n".encode(errors="surrogateescape"))
        os._exit(_NOT_STARTED)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and its children: politely first, since rsync and mkfs tidy up after themselves."""
    _signal(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5.0)
    # Children that outlive the process belong to its group still, and would keep a tree busy.
    _signal(process.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5.0)


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


class _Unwanted(Exception):
    """The reason for which a command is ended."""


class _Watch:
    """Ends a command at its deadline (monotonic seconds), or when ``check`` has a reason to."""

    def __init__(self, deadline: float | None, check: Callable[[], str | None] | None) -> None:
        self._deadline = deadline
        self._check = check
        self._next = time.monotonic() + _POLL

    def look(self) -> None:
        """:raises TimeoutError: at the deadline. :raises _Unwanted: for a reason."""
        now = time.monotonic()
        if self._deadline is not None and now >= self._deadline:
            raise TimeoutError
        if self._check and now >= self._next:
            self._next = now + _POLL
            if reason := self._check():
                raise _Unwanted(reason)

    def pause(self) -> float | None:
        """Seconds until it must be looked again; ``None`` for never."""
        moments = [self._deadline, self._next if self._check else None]
        return min((max(0.0, x - time.monotonic()) for x in moments if x is not None), default=None)


class _Kept(bytearray):
    """The end of an output."""

    def __init__(self, at_most: int | None) -> None:
        super().__init__()
        self._at_most = at_most

    def feed(self, data: bytes) -> None:
        self += data
        # In steps, since each takes a copy.
        if self._at_most is not None and len(self) > 2 * self._at_most:
            del self[: -self._at_most]

    def text(self) -> str:
        return self[-self._at_most if self._at_most else 0 :].decode(errors="replace")


class _Lines:
    """Cuts a byte stream into lines; of what was written over by ``\\r`` meanwhile the last alone is told."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        over, _, self._rest = rest.rpartition(b"\r")
        for line in (*lines, over) if over else lines:
            self._tell(line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="surrogateescape"))

    def finish(self) -> None:
        if self._rest:
            self.feed(b"\n")


def _communicate(
    process: subprocess.Popen[bytes],
    stdin: str | None,
    watch: _Watch,
    on_output: Callable[[str], None] | None,
    at_most: int | None,
) -> tuple[str, str]:
    """Feed and read all pipes until they end."""
    assert process.stderr
    if stdin is not None:
        _feed(process, stdin)
    out, err = _Kept(at_most), _Kept(at_most)
    lines = _Lines(on_output) if on_output else None
    gather = _gathering(process.stdout.fileno()) if lines and process.stdout else None
    with selectors.DefaultSelector() as selector:
        if process.stdout:
            selector.register(process.stdout, selectors.EVENT_READ, lines.feed if lines else out.feed)
        selector.register(process.stderr, selectors.EVENT_READ, err.feed)
        while selector.get_map():
            ready = selector.select(_POLL)
            for key, _ in ready:
                data = os.read(key.fd, _GATHERED_BYTES if gather else 1 << 16)
                key.data(data) if data else selector.unregister(key.fileobj)
            if gather and ready:
                gather()
            # A daemon that it started may keep the pipes open for ever.
            if not ready and process.poll() is not None:
                break
            watch.look()
    if lines:
        lines.finish()
    _wait(process, watch)
    return out.text(), err.text()


def _gathering(pipe: int) -> Callable[[], object] | None:
    """What waits until more output has come together in a pipe, or until it ends; ``None`` where it holds too little.

    Who is woken for each line takes more from the processor than the program takes to write it.
    """
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _GATHERED_BYTES)
    except OSError:
        return None
    ended = select.poll()
    ended.register(pipe, 0)  # no bytes: its end is told all the same
    return lambda: ended.poll(_GATHERED * 1000)


def _feed(process: subprocess.Popen[bytes], text: str) -> None:
    data = text.encode()
    assert process.stdin and len(data) <= _PIPE, "more than a pipe holds would wait for a reader"
    with contextlib.suppress(BrokenPipeError), process.stdin:
        process.stdin.write(data)


def _wait(process: subprocess.Popen[bytes], watch: _Watch) -> None:
    while True:
        try:
            process.wait(watch.pause())
        except subprocess.TimeoutExpired:
            watch.look()
        else:
            return
