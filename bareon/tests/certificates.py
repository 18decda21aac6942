# SPDX-License-Identifier: Apache-2.0
"""Certificates with dates of their own, by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

_AUTHORITY = """
[ca]
default_ca = here
[here]
database = {0}/index
new_certs_dir = {0}
rand_serial = yes
default_md = sha256
policy = any
x509_extensions = name
[any]
commonName = supplied
[name]
subjectAltName = IP:{1}
"""


def dated(folder: Path, start: str, end: str, address: str = "127.0.0.1") -> Path:
    """A certificate for an address that signs itself, valid between two times, with its key."""
    folder.mkdir(exist_ok=True)
    (folder / "index").touch()
    (folder / "conf").write_text(_AUTHORITY.format(folder, address))
    key, request, out = (str(folder / name) for name in ("key", "request", "out"))
    ask = f"openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN={folder.name}"
    sign = f"openssl ca -batch -selfsign -notext -config {folder / 'conf'} -startdate {start} -enddate {end}"
    for argv in (
        [*ask.split(), "-keyout", key, "-out", request],
        [*sign.split(), "-keyfile", key, "-in", request, "-out", out],
    ):
        subprocess.run(argv, check=True, capture_output=True)
    path = folder / "pem"
    path.write_text(Path(key).read_text() + Path(out).read_text())
    return path
