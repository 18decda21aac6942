# SPDX-License-Identifier: Apache-2.0
"""Serves the files of a directory on loopback until it is interrupted."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import threading
from pathlib import Path

from tests_functional.bench.httpd import Httpd


def main() -> None:
    """Serve the files of a directory."""
    parser = argparse.ArgumentParser(description="Serves files over HTTP and HTTPS, with faults.")
    parser.add_argument("directory", type=Path)
    directory: Path = parser.parse_args().directory

    def files(name: str) -> Path:
        path = directory / name
        if not path.is_file():
            raise ValueError(f"no file {path}")
        return path

    with tempfile.TemporaryDirectory(prefix="bareon-httpd-") as scratch:
        server = Httpd(files, Path(scratch))
        server.start()
        scope = server.new_scope()
        print(server.url(scope), server.url(scope, tls=True), f"(CA: {server.certificate.public})", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
        server.stop()


main()
