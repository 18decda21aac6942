# SPDX-License-Identifier: Apache-2.0
"""Settings of the ramdisk's operator: programs of images, and for transfers time limits, certificates, accounts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

BOOT_INFO = "/tmp/boot-info.json"
"""Default path of the file that lists the images of a node with more than one."""

SANDBOX = "sandbox"
IMAGE_PROGRAMS = (SANDBOX, "none")
"""Whether programs of an image may run, and only there; the default first."""


def runs_programs(options: Mapping[str, Any]) -> bool:
    """True if the option ``image_programs`` among these lets programs of images run."""
    return bool(options.get("image_programs", SANDBOX) == SANDBOX)


@dataclass(frozen=True)
class SwiftAccount:
    """The account for ``swift://`` images, in the terms of python-swiftclient."""

    auth_url: str
    user: str
    key: str = field(repr=False)
    auth_version: str = "1"
    project: str | None = None
    user_domain: str | None = None
    project_domain: str | None = None
    region: str | None = None


@dataclass(frozen=True)
class TransferSettings:
    """Limits of one image's transfer; times in seconds.

    ``attempts`` counts connections that brought nothing new in a row; ``total_timeout`` is for all of them together.
    A ``patient`` transfer does not count those that a server has no time for.
    ``back_off`` is waited at most before the second attempt, twice as long before each further one, never more than
    ``longest_wait`` unless the server asks for it.
    ``idle_timeout`` is how long a connection may stay silent. ``ca_file`` replaces the trusted authorities.
    ``auth_file`` is the path of a file with accounts for registries, in the form of docker's ``config.json``.
    With a ``keyring``, the path of a file with public keys of OpenPGP, every image must be signed by one of them.
    With a ``cosign_key``, the path of a file with a public key in PEM, every image of a registry must be by that one.
    """

    attempts: int = 5
    patient: bool = True
    total_timeout: float = 7200.0
    connect_timeout: float = 20.0
    idle_timeout: float = 60.0
    back_off: float = 1.0
    longest_wait: float = 30.0
    ca_file: str | None = None
    auth_file: str | None = None
    keyring: str | None = None
    cosign_key: str | None = None
    swift: SwiftAccount | None = None

    def hasty(self) -> TransferSettings:
        """The same for a place that has a mirror still to be asked: two attempts in a row at most."""
        return replace(self, attempts=min(self.attempts, 2), patient=False)
