# SPDX-License-Identifier: Apache-2.0
"""From errors to exit codes and lines on standard error: the one place that knows both."""

from __future__ import annotations

import io
import logging
import signal
import sys
import traceback
from collections.abc import Callable

from bareon import errors

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


class Terminated(BaseException):
    """SIGTERM arrived. Not an Exception, so that nothing takes it for a failure it could handle."""

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
    """The exit code for an error; 1 for everything nobody thought of."""
    if isinstance(error, Terminated):
        return 143
    return next((code for kind, code in CODES if isinstance(error, kind)), 1)


def guarded(program: str, body: Callable[[], None], log_path: Callable[[], str | None]) -> int:
    """Run ``body``; print its error, if any, and return the exit code."""
    # Without a log file the log goes nowhere, not to standard error.
    logging.getLogger().addHandler(logging.NullHandler())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console of another encoding must not end a deployment
            stream.reconfigure(errors="backslashreplace")
    try:
        body()
    except SystemExit as error:  # argparse: --help, --version, a wrong option
        return error.code if isinstance(error.code, int) else 2
    except BaseException as error:
        code = code_of(error)
        if log_path():
            LOG.error("exit %d: %s", code, error, exc_info=error if code == 1 else None)
        if code == 1:
            traceback.print_exception(error)
        for line in _lines(error):
            sys.stderr.write(f"{program}: {line}\n")
        if path := log_path():
            sys.stderr.write(f"{program}: the log is {path}\n")
        return code
    return 0


def _lines(error: BaseException) -> list[str]:
    if isinstance(error, errors.BareonError):
        return [" ".join(line.split()) for line in error.lines()]
    if isinstance(error, KeyboardInterrupt):
        return ["interrupted"]
    return [str(error) or type(error).__name__]
