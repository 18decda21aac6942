# SPDX-License-Identifier: Apache-2.0
"""Signatures of cosign: right, by another key, of another image, tampered with, and what is none at all."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bareon.errors import ImageFailed
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.tests.registry import AMD64, CONFIG, INDEX, MANIFEST, NAME, Store, described, digest, registry, text
from bareon.transfer.cosign import ANNOTATION, PAYLOAD, Signature, public_key, tag, verify
from bareon.transfer.registries import find

DIGEST = f"sha256:{'97fc222c' * 8}"
OTHER = f"sha256:{'00' * 32}"
TYPE = "cosign container image signature"
ALGORITHMS = {"EC": "ec_paramgen_curve:prime256v1", "RSA": "rsa_keygen_bits:2048"}


@dataclass(frozen=True)
class Signer:
    """A key pair in files, made by openssl as cosign's are."""

    private: Path
    public: Path

    def sign(self, payload: bytes) -> Signature:
        argv = ["openssl", "dgst", "-sha256", "-sign", str(self.private)]
        blob = subprocess.run(argv, input=payload, check=True, capture_output=True).stdout
        return Signature(payload, base64.b64encode(blob).decode())


def signer(place: Path, name: str, algorithm: str = "EC") -> Signer:
    private, public = place / f"{name}.key", place / f"{name}.pub"
    made = ["openssl", "genpkey", "-algorithm", algorithm, "-pkeyopt", ALGORITHMS[algorithm], "-out", str(private)]
    for argv in (made, ["openssl", "pkey", "-in", str(private), "-pubout", "-out", str(public)]):
        subprocess.run(argv, check=True, capture_output=True)
    return Signer(private, public)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return signer(tmp_path_factory.mktemp("keys"), "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return signer(tmp_path_factory.mktemp("keys"), "theirs")


def payload(digest: object = DIGEST, kind: object = TYPE) -> bytes:
    """What cosign signs."""
    critical = {
        "identity": {"docker-reference": "registry.example/debian"},
        "image": {"docker-manifest-digest": digest},
        "type": kind,
    }
    return json.dumps({"critical": critical, "optional": None}).encode()


def test_where_signatures_are() -> None:
    assert tag(DIGEST) == f"sha256-{'97fc222c' * 8}.sig"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_good_one(algorithm: str, tmp_path: Path) -> None:
    made = signer(tmp_path, "key", algorithm)
    verify(DIGEST, [made.sign(payload())], public_key(str(made.public)))


def test_a_good_one_among_others(ours: Signer, theirs: Signer) -> None:
    others = [theirs.sign(payload()), Signature(b"", "!"), ours.sign(payload(OTHER)), ours.sign(payload())]
    verify(DIGEST, others, public_key(str(ours.public)))


Made = Callable[[Signer, Signer], list[Signature]]


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda ours, theirs: [], "has no signature of cosign"),
        (lambda ours, theirs: [theirs.sign(payload())], "its signature is not by the key"),
        (lambda ours, theirs: [theirs.sign(payload())] * 2, "none of its 2 signatures is by the key"),
        (lambda ours, theirs: [ours.sign(payload(OTHER))], f"is one of another image, {OTHER}"),
        (
            lambda ours, theirs: [replace(ours.sign(payload(OTHER)), payload=payload())],
            "its signature is not by the key",
        ),
        (lambda ours, theirs: [replace(ours.sign(payload()), signature="")], "its signature is not by the key"),
        (lambda ours, theirs: [replace(ours.sign(payload()), signature="ä==")], "its signature is not by the key"),
        (lambda ours, theirs: [Signature(payload(), base64.b64encode(bytes(72)).decode())], "is not by the key"),
        (lambda ours, theirs: [ours.sign(payload(kind="atomic container signature"))], "has signed is no image"),
        (lambda ours, theirs: [ours.sign(payload([DIGEST]))], "has signed is no image"),
        (lambda ours, theirs: [ours.sign(payload("sha256:1\n"))], "has signed is no image"),
        (lambda ours, theirs: [ours.sign(DIGEST.encode())], "has signed is no image"),
        (lambda ours, theirs: [ours.sign(b"[" * 100000)], "has signed is no image"),
        (lambda ours, theirs: [ours.sign(b'["critical"]')], "has signed is no image"),
    ],
)
def test_what_is_none(made: Made, says: str, ours: Signer, theirs: Signer) -> None:
    with pytest.raises(ImageFailed, match=says) as caught:
        verify(DIGEST, made(ours, theirs), public_key(str(ours.public)))
    assert "\n" not in str(caught.value)


def test_a_digest_that_cosign_does_not_sign() -> None:
    with pytest.raises(ImageFailed, match="cosign signs SHA-256 digests only"):
        tag(f"sha512:{'0' * 128}")


def test_what_is_no_key(ours: Signer, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("ssh-ed25519 AAAA")
    os.mkfifo(tmp_path / "fifo")
    for path, says in (
        (ours.private, "is no public key in PEM"),
        (tmp_path / "text", "is no public key in PEM"),
        (tmp_path / "fifo", "is no regular file"),
        (tmp_path, "is no regular file"),
        (tmp_path / "absent", "No such file"),
    ):
        with pytest.raises(ImageFailed, match=says):
            public_key(str(path))
    lies = b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"
    with pytest.raises(ImageFailed, match="is not by the key"):
        verify(DIGEST, [ours.sign(payload())], lies)


def signed(store: Store, manifest: bytes, *signatures: Signature, kind: str = PAYLOAD) -> None:
    """Put signatures where cosign has them."""
    config = store.put(b"{}")
    layers = [{**described(store.put(x.payload), kind), "annotations": {ANNOTATION: x.signature}} for x in signatures]
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described(config, CONFIG), "layers": layers}
    store.tag(tag(digest(manifest)), MANIFEST, text(document))


def test_images_of_a_registry(ours: Signer, theirs: Signer) -> None:
    store, settings = Store(), TransferSettings(attempts=1, cosign_key=str(ours.public))
    images = {name: store.image([name], tag=name) for name in ("good", "theirs", "none", "other", "stray", "lost")}
    entry = described(images["none"], MANIFEST) | {"platform": AMD64}
    index = store.tag("index", INDEX, text({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}))
    signed(store, images["good"], theirs.sign(payload()), ours.sign(payload(digest(images["good"]))))
    signed(store, index, ours.sign(payload(digest(index))))
    signed(store, images["theirs"], theirs.sign(payload(digest(images["theirs"]))))
    signed(store, images["other"], ours.sign(payload(digest(images["good"]))))
    signed(store, images["stray"], ours.sign(payload(digest(images["stray"]))), kind="text/plain")
    mine = ours.sign(payload(digest(images["lost"])))
    signed(store, images["lost"], mine)
    store.blobs[digest(mine.payload)] = mine.payload.replace(b"null", b"none")
    with registry(store) as running:
        for name in ("good", "index"):
            assert find(Location(f"{running.url}:{name}"), settings).layers
        for name, says in (
            ("theirs", "its signature is not by the key"),
            ("none", "has no signature of cosign"),
            ("other", "the signature by the key is one of another image, sha256:"),
            ("stray", "has no signature of cosign"),
            ("lost", "has a signature that is not the one that was wanted"),
        ):
            with pytest.raises(ImageFailed, match=f"/{NAME}:{name}: {says}"):
                find(Location(f"{running.url}:{name}"), settings)
        assert find(Location(f"{running.url}:none"), TransferSettings()).layers
