# SPDX-License-Identifier: Apache-2.0
"""A certificate that nobody trusts who was not told to."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from building.process import run


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate and its key, in PEM; the certificate is its own CA file."""

    public: Path
    private: Path


def make_certificate(place: Path, hosts: Sequence[str]) -> Certificate:
    """Make a certificate for addresses and names.

    :raises ProgramError: when openssl fails
    """
    public, private = place / "ca.pem", place / "key.pem"
    names = ",".join(f"{'IP' if _is_address(host) else 'DNS'}:{host}" for host in hosts)
    run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "365", "-subj", "/CN=bareon bench", "-addext", f"subjectAltName={names}"),
            *("-keyout", private, "-out", public),
        ],
        timeout=60,
    )
    return Certificate(public, private)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
