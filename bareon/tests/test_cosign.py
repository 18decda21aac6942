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
from bareon.transfer.cosign import Signature, public_key, tag, verify

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
