# SPDX-License-Identifier: Apache-2.0
"""References of images in registries, as ``oci://REGISTRY/REPOSITORY[:TAG][@ALGORITHM:DIGEST]``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

from bareon.model.image import DIGEST_LENGTHS, Digest, HashAlgorithm
from bareon.model.location import Location

SCHEMES = ("oci", "oci+http")
FORM = "oci://REGISTRY[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]"

_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
#: The distribution specification has the forms of names and tags, that of images the one of digests.
_WHOLE = re.compile(
    rf"(?P<scheme>(?i:oci|oci\+http))://(?P<server>[^/@?#\s]+)/(?P<repository>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?P<digest>[a-z0-9]+:[0-9a-f]+))?"
)
_LONGEST = 255  # letters of a name; more is more than registries take
_DIGEST = re.compile(r"(sha256|sha512):([0-9a-f]+)")
#: The server that has what goes by this name, and the folder of what has none there.
_HUB, _OF_HUB, _OFFICIAL = "docker.io", "registry-1.docker.io", "library"


@dataclass(frozen=True)
class Reference:
    """An image in a registry. ``server`` is ``HOST[:PORT]`` as written; ``digest`` wins over ``tag``."""

    scheme: Literal["http", "https"]
    server: str
    repository: str
    tag: str
    digest: Digest | None = None

    @property
    def place(self) -> Location:
        """Where the registry has what belongs to the repository."""
        server = _OF_HUB if self.server == _HUB else self.server
        return Location(f"{self.scheme}://{server}/v2/{self.repository}")


def as_digest(text: object) -> Digest | None:
    """A digest as ``ALGORITHM:HEXADECIMAL``, ``None`` for what is none that can be checked."""
    match = _DIGEST.fullmatch(text) if isinstance(text, str) else None
    if match is None or len(match[2]) != DIGEST_LENGTHS[cast(HashAlgorithm, match[1])]:
        return None
    return Digest(cast(HashAlgorithm, match[1]), match[2])


def reference(location: Location) -> Reference | None:
    """The reference that a location is, ``None`` for one that is none."""
    match = _WHOLE.fullmatch(location.reveal())
    if match is None or not location.sound or not location.host or location.port == 0:
        return None
    server, repository, digest = match["server"].lower(), match["repository"], as_digest(match["digest"])
    if len(repository) > _LONGEST or (match["digest"] and digest is None):
        return None
    if server == _HUB and "/" not in repository:
        repository = f"{_OFFICIAL}/{repository}"
    scheme: Literal["http", "https"] = "https" if match["scheme"].lower() == "oci" else "http"
    return Reference(scheme, server, repository, match["tag"] or "latest", digest)
