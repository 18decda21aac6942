# SPDX-License-Identifier: Apache-2.0
"""From errors to exit codes and lines on standard error: the one place that knows both."""

from __future__ import annotations

import errno
import gc
import io
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from bareon import errors
from bareon.text import visible

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

LOG = logging.getLogger(__name__)

CODES: tuple[tuple[type[BaseException], int], ...] = (
    (errors.UsageError, 2),
    (errors.InvalidInput, 3),
    (errors.UnsuitableNode, 4),
    (errors.DisksDiffer, 5),
    (errors.ImageFailed, 7),
    (errors.Locked, 8),
    (errors.ActionFailed, 6),
    (KeyboardInterrupt, 130),
)
_CYCLES_AFTER = 100_000  # objects; some MiB


class Terminated(BaseException):
    """SIGTERM arrived. Not an Exception, so that no handler of failures catches it."""

    def __str__(self) -> str:
        return "ended by SIGTERM"


def catch_signals() -> None:
    """Let SIGTERM raise :class:`Terminated`, once, and SIGHUP do nothing."""

    def stop(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not break the tidying up
        raise Terminated

    signal.signal(signal.SIGTERM, stop)
    # A broken SSH session must not end a deployment half-way.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def code_of(error: BaseException) -> int:
    """The exit code for an error; 1 for an unexpected one."""
    if isinstance(error, Terminated):
        return 143
    return next((code for kind, code in CODES if isinstance(error, kind)), 1)


class _Lasting(io.FileIO):
    """Output that must not end a deployment: what cannot be written is dropped.

    A reader that goes away (a broken SSH session, a lost console) is no error; ``failure`` is the first other one.
    """

    failure: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                self.failure = self.failure or error
            return memoryview(data).nbytes


def _lasting(stream: TextIO | None) -> tuple[TextIO, _Lasting | None]:
    if stream is None:  # it was closed before bareon started
        return open(os.devnull, "w"), None  # noqa: PTH123
    raw = _Lasting(stream.fileno(), "wb", closefd=False)
    # A console of another encoding must not end a deployment either.
    text = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream is sys.__stderr__ or stream.isatty(),
    )
    return text, raw


def guarded(
    program: str, body: Callable[[], None], hints: Callable[[BaseException], list[str]] = lambda _: []
) -> int:
    """Run ``body``; print its error, if any, and return the exit code.

    :param hints: asked after an error for lines on what may help, and where to read more.
    """
    # What a program makes lives to its end or is in no cycle: looking for cycles took a tenth of the time of a plan.
    gc.set_threshold(_CYCLES_AFTER)
    # Without a log file the log goes nowhere, not to standard error.
    logging.getLogger().addHandler(logging.NullHandler())
    raw = None
    if sys.stdout is sys.__stdout__:  # not where somebody else catches the output
        (sys.stdout, raw), (sys.stderr, _) = _lasting(sys.stdout), _lasting(sys.stderr)
    try:
        body()
        sys.stdout.flush()
    except SystemExit as error:  # argparse: --help, --version, a wrong option
        return error.code if isinstance(error.code, int) else 2
    except BaseException as error:  # noqa: BLE001  # it is told below
        failure: BaseException | None = error
    else:
        failure = None
    if failure:  # no longer being handled, or the log would say it twice
        return _told(program, failure, hints)
    if raw and raw.failure:
        sys.stderr.write(f"{program}: standard output cannot be written: {raw.failure.strerror}\n")
        return 1
    return 0


def _told(program: str, error: BaseException, hints: Callable[[BaseException], list[str]]) -> int:
    code = code_of(error)
    LOG.error("exit %d: %s", code, error, exc_info=error if code == 1 else None)
    if code == 1:
        traceback.print_exception(error)
    for line in [*_lines(error), *hints(error)]:
        sys.stderr.write(f"{program}: {visible(line)}\n")
    return code


def _lines(error: BaseException) -> list[str]:
    if isinstance(error, errors.BareonError):
        return [" ".join(line.split()) for line in error.lines()]
    if isinstance(error, KeyboardInterrupt):
        return ["interrupted"]
    return [str(error) or type(error).__name__]
