# SPDX-License-Identifier: Apache-2.0
"""bareon-ironic-callback: tells Ironic that this ramdisk is there, and lets its conductor in."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bareon.cmd.exit import catch_signals, guarded
from bareon.errors import Defect, InvalidInput, UnsuitableNode

if TYPE_CHECKING:
    import argparse
    import ssl

    from bareon.callback.parameter import Parameters

PROGRAM = "bareon-ironic-callback"
USAGE = "Looks this node up in Ironic, lets its conductor in by SSH, and sends heartbeats until SIGTERM."
LOG = logging.getLogger("bareon.callback")
_LOOKUP_TIMEOUT = 600.0
_MEDIUM_PATIENCE = 10.0
_REQUEST_TIMEOUT = 30.0
_LONGEST = 1e6


def main(argv: Sequence[str] | None = None) -> int:
    """Call Ironic until SIGTERM."""
    return guarded(PROGRAM, lambda: _body(list(sys.argv[1:] if argv is None else argv)))


def _body(argv: list[str]) -> None:
    found = _options(argv)
    # Kept waiting until it is asked for: it must not end the program meanwhile.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    catch_signals()
    _start_log(Path(found.log_file) if found.log_file else found.root / "var/log/bareon-ironic-callback.log")
    with _pid_file(found.root / "run/bareon-ironic-callback.pid"):
        _call(found)


@contextlib.contextmanager
def _pid_file(path: Path) -> Iterator[None]:
    """Tell others whom to send SIGUSR1."""
    from bareon.atomic import replacing

    try:
        with replacing(path, 0o644) as file:
            file.write(f"{os.getpid()}\n".encode())
    except OSError as error:
        raise UnsuitableNode(f"{path} cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _call(found: argparse.Namespace) -> None:
    from bareon.callback.api import Api
    from bareon.callback.caller import Caller, Ramdisk
    from bareon.callback.connection import Connector
    from bareon.callback.key import admit, admit_nobody, of_this_host
    from bareon.callback.network import addresses
    from bareon.callback.source import booted_by_ironic, gathered
    from bareon.version import version

    home = found.root / "root"
    if booted_by_ironic(found.root):
        # Whatever is wrong with the parameters: no key that somebody has built in opens this node.
        admit_nobody(home)
    parameters, authority = gathered(found.root, _MEDIUM_PATIENCE)
    context = _context(parameters, authority)
    admit(parameters.conductor_key, home)
    LOG.info("the conductor's key, and no other, may log in as root")
    ramdisk = Ramdisk(
        addresses=lambda: addresses(found.root / "sys/class/net"),
        host_keys=of_this_host(found.root / "etc/ssh"),
        port=found.ssh_port,
        version=version(),
        advertised=parameters.advertised,
    )
    api = Api(parameters.api_urls, Connector(context, _REQUEST_TIMEOUT), parameters.request_id)
    caller = Caller(api, ramdisk, found.root / "run/bareon/ironic-token.json", parameters.token)
    given, told = found.lookup_timeout, parameters.lookup_timeout
    node = caller.look_up(given if given is not None else told if told is not None else _LOOKUP_TIMEOUT)
    if found.once:
        caller.once(node)
    else:
        caller.heartbeats(node)


def _options(argv: list[str]) -> argparse.Namespace:
    import argparse

    parser = argparse.ArgumentParser(PROGRAM, description=USAGE)
    parser.add_argument(
        "--ssh_port", "--ssh-port", type=_port, default=22, help="where the SSH server of this ramdisk listens (22)"
    )
    parser.add_argument(
        "--lookup_timeout",
        "--lookup-timeout",
        type=_seconds,
        help="seconds until a lookup is given up (what ipa-lookup-timeout= says, else 600)",
    )
    parser.add_argument("--once", action="store_true", help="send one heartbeat, and stop")
    parser.add_argument("--log_file", "--log-file", help="the log (/var/log/bareon-ironic-callback.log)")
    parser.add_argument(
        "--root", type=Path, default=Path("/"), help="the folder with proc, sys, etc, run and root; for tests"
    )
    parser.add_argument("--version", action="store_true", help="print the version, and stop")
    found = parser.parse_args(argv)
    if found.version:
        from bareon.version import version

        sys.stdout.write(f"{PROGRAM} {version()}\n")
        raise SystemExit(0)
    return found


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 65536:
        raise ValueError
    return port


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= _LONGEST:
        raise ValueError
    return seconds


def _context(parameters: Parameters, authority: str | None) -> ssl.SSLContext:
    from bareon.callback.connection import trust

    if parameters.insecure:
        LOG.warning("ipa-insecure: the API's certificate is not checked, so whoever answers may be anybody")
    try:
        return trust(authority, parameters.insecure)
    except ValueError as error:
        where = f"{parameters.ca_file} " if parameters.ca_file else "the file of the virtual medium "
        raise InvalidInput([Defect("ipa-ca-file", where + str(error))]) from None


def _start_log(file: Path) -> None:
    """A line for each event on standard error, which is the console, and in the log."""
    console = logging.StreamHandler(sys.stderr)
    console.setLevel(logging.INFO)
    console.setFormatter(logging.Formatter(f"{PROGRAM}: %(message)s"))
    LOG.addHandler(console)  # not what ends the program, which is written anyway
    logging.getLogger().setLevel(logging.INFO)
    LOG.setLevel(logging.DEBUG)
    try:
        handler = logging.FileHandler(file, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        LOG.warning("%s cannot be written (%s): no log is kept", file, error.strerror)
        return
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.getLogger().addHandler(handler)
