# SPDX-License-Identifier: Apache-2.0
"""Documents of images in registries: index, manifest and configuration, of OCI and of Docker (schema 2)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from bareon.errors import ImageFailed
from bareon.model.image import Digest
from bareon.model.reference import as_digest
from bareon.text import visible

LARGEST = 4 << 20
"""Bytes of a document; registries take no more."""
MOST_LAYERS = 512

INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_CONFIGS = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_OCI, _DOCKER = "application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"
#: How a layer is packed is seen by its content.
_LAYERS = tuple(f"{x}{packing}" for x in (_OCI, _DOCKER) for packing in ("", "+gzip", ".gzip", "+zstd", ".zstd"))
_FOREIGN = ("nondistributable", "foreign")
#: With what registries and files answer that know no media type.
_NOTHING_SAID = ("", "application/json", "application/octet-stream", "text/plain")
_OLD = "application/vnd.docker.distribution.manifest.v1"
#: Architectures as the kernel names them, and as Go does, with variants that every machine of it can run.
_ARCHITECTURES = {
    "x86_64": ("amd64", ("v1",)),
    "aarch64": ("arm64", ("v8",)),
    "ppc64le": ("ppc64le", ()),
    "riscv64": ("riscv64", ()),
    "s390x": ("s390x", ()),
}
_SHOWN = 10  # platforms, or images
_MOST = 1 << 63  # bytes of anything; a number in a document may have thousands of digits
#: Annotations of an entry with the name of an image: of containerd and Docker the whole one, of OCI mostly the tag.
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(frozen=True)
class Descriptor:
    """What a document says of another one, or of a layer: media type, digest, and size in bytes."""

    type: str
    digest: Digest
    size: int

    def __str__(self) -> str:
        return f"{self.digest.algorithm}:{self.digest.value}"


class Document(NamedTuple):
    """An index or manifest: its bytes, the media type that who has it gives it, and the digest."""

    text: bytes
    type: str
    digest: Digest


@dataclass(frozen=True)
class Platform:
    """What an image runs on, in the words of Go."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return visible("/".join(filter(None, (self.os, self.architecture, self.variant))))


@dataclass(frozen=True)
class Layer:
    """A layer: its blob, and the digest of the plain archive in it."""

    blob: Descriptor
    plain: Digest


def content(text: bytes, said: str | None = None) -> tuple[str, Mapping[str, Any]]:
    """The media type of an index or a manifest, and what is in it.

    :param said: the media type that the registry, or who refers to it, gives it.
    :raises ImageFailed: for what is neither, or might be both.
    """
    value = parsed(text)
    inner = value.get("mediaType")
    kind = inner if isinstance(inner, str) else (said or "").partition(";")[0].strip()
    if kind.startswith(_OLD) or value.get("schemaVersion") == 1:
        raise ImageFailed("is an image in a form that is no longer used (schema 1): push it again")
    if "manifests" in value and ("layers" in value or "config" in value):
        raise ImageFailed("has a document that may be an index or a manifest")
    found = INDEXES if "manifests" in value else MANIFESTS if "layers" in value else ()
    if kind in _NOTHING_SAID:
        kind = next(iter(found), "")
    if kind not in found:
        raise ImageFailed(f"is no image: its media type is {visible(kind)[:100] or 'not known'!r}")
    return kind, value


def digest_of(text: bytes, like: Digest | None = None) -> Digest:
    """The digest of a document, by the algorithm of another one, else SHA-256."""
    algorithm = like.algorithm if like else "sha256"
    return Digest(algorithm, hashlib.new(algorithm, text).hexdigest())


def parsed(text: bytes) -> Mapping[str, Any]:
    """A document's members; raises ImageFailed for one that has none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ImageFailed("has a document that cannot be read")
    return cast("Mapping[str, Any]", value)


def chosen(index: Mapping[str, Any], machine: str | None = None) -> Descriptor:
    """The entry of an index that is for this machine.

    :param machine: the architecture as the kernel names it, in place of this machine's.
    :raises ImageFailed: naming the platforms when there is none.
    """
    return _fitting(index, machine)[0][0]


def only(index: Mapping[str, Any], machine: str | None = None) -> Descriptor:
    """As :func:`chosen`, of an index that may have images beside each other: there must be one alone.

    :raises ImageFailed: naming the images when there are several.
    """
    found = _fitting(index, machine)
    several = {entry.digest: _named(entry, given) for entry, given in found}
    if len(several) > 1:
        shown = ", ".join([*several.values()][:_SHOWN]) + (", …" if len(several) > _SHOWN else "")
        raise ImageFailed(f"holds several images, of which nobody says which one is wanted ({shown}): save one alone")
    return found[0][0]


def _named(entry: Descriptor, given: Mapping[str, Any]) -> str:
    """The name that an index has for an entry, else its digest."""
    notes = given.get("annotations")
    names = [notes.get(x) for x in _NAMES] if isinstance(notes, dict) else []
    return visible(next((x for x in names if isinstance(x, str) and x), str(entry)))[:100]


def _fitting(index: Mapping[str, Any], machine: str | None) -> list[tuple[Descriptor, Mapping[str, Any]]]:
    """The entries of an index that may be for the machine, each as it is read and as it stands there."""
    given = _list(index, "manifests")
    entries = [(_descriptor(x), _platform(x.get("platform"))) for x in given]
    fitting = [
        (entry, x)
        for x, (entry, platform) in zip(given, entries, strict=True)
        if entry.type in (*INDEXES, *MANIFESTS) and (platform is None or _runs(platform, machine))
    ]
    if fitting:
        return fitting
    names = [str(x) for _, x in entries if x and x.os != "unknown"]
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    raise ImageFailed(f"has nothing for {_own(machine)}: it is for {shown or 'nothing'}")


def manifest(value: Mapping[str, Any]) -> tuple[Descriptor, tuple[Descriptor, ...]]:
    """The configuration and the layers of a manifest, the lowest first.

    :raises ImageFailed: for what is no image of a system, or has layers that cannot be had or understood.
    """
    if not isinstance(value.get("config"), dict):
        raise ImageFailed("has a manifest without a configuration")
    config = _descriptor(value["config"])
    if config.type not in _CONFIGS or value.get("artifactType"):
        kind = value.get("artifactType") or config.type
        raise ImageFailed(f"is no image of a system: it holds {visible(str(kind))[:100]!r}")
    layers = tuple(_descriptor(x) for x in _list(value, "layers"))
    if not 1 <= len(layers) <= MOST_LAYERS:
        raise ImageFailed(f"has {len(layers)} layers: 1 to {MOST_LAYERS} can be brought")
    for layer in layers:
        if any(word in layer.type for word in _FOREIGN):
            raise ImageFailed(f"has a layer that registries must not have ({visible(layer.type)[:100]})")
        if layer.type not in _LAYERS:
            raise ImageFailed(f"has a layer of a kind that is not known ({visible(layer.type)[:100]!r})")
    return config, layers


def payloads(value: Mapping[str, Any], kind: str, annotation: str) -> tuple[tuple[Descriptor, str], ...]:
    """The layers of a manifest that are of such a media type and have such an annotation, each with its text."""
    found = [(x, x.get("annotations")) for x in _list(value, "layers") if isinstance(x, dict)]
    noted = [(_descriptor(x), notes.get(annotation)) for x, notes in found if isinstance(notes, dict)]
    return tuple((blob, note) for blob, note in noted if blob.type == kind and isinstance(note, str))


def layers(config: bytes, blobs: Sequence[Descriptor], machine: str | None = None) -> tuple[Layer, ...]:
    """The layers of a manifest with what the configuration says of them.

    :raises ImageFailed: when it does not fit the manifest, or the machine.
    """
    value = parsed(config)
    platform = _platform(value)
    if platform is None or not _runs(platform, machine):
        raise ImageFailed(f"is for {platform or 'nothing that is known'}, and this machine is {_own(machine)}")
    root = value.get("rootfs")
    plain = [as_digest(x) for x in _list(root, "diff_ids")] if isinstance(root, dict) else []
    found = [x for x in plain if x]
    if len(found) != len(plain) or len(found) != len(blobs):
        raise ImageFailed(f"has {len(blobs)} layers, and a configuration with digests of {len(found)}")
    return tuple(Layer(blob, digest) for blob, digest in zip(blobs, found, strict=True))


def _own(machine: str | None) -> Platform:
    name = machine or os.uname().machine
    return Platform("linux", _ARCHITECTURES.get(name, (name, ()))[0])


def _runs(platform: Platform, machine: str | None) -> bool:
    name = machine or os.uname().machine
    architecture, variants = _ARCHITECTURES.get(name, (name, ()))
    return (platform.os, platform.architecture) == ("linux", architecture) and platform.variant in ("", *variants)


def _platform(value: object) -> Platform | None:
    if not isinstance(value, dict):
        return None
    os_, architecture, variant = (value.get(x, "") for x in ("os", "architecture", "variant"))
    return Platform(str(os_), str(architecture), str(variant or ""))


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    if not isinstance(found, list):
        raise ImageFailed(f"has a document whose {key} are no list")
    return found


def _descriptor(value: object) -> Descriptor:
    if not isinstance(value, dict):
        raise ImageFailed("has a document that refers to what has no form")
    kind, digest, size = value.get("mediaType"), as_digest(value.get("digest")), value.get("size")
    if not isinstance(kind, str) or digest is None or type(size) is not int or not 0 <= size < _MOST:
        raise ImageFailed("has a document that refers to what has no media type, SHA-2 digest and size")
    return Descriptor(kind, digest, size)
