# SPDX-License-Identifier: Apache-2.0
"""Signatures by bare keys: openssl-dgst(1), with a key in PEM."""

from __future__ import annotations

from bareon.run import run

PROGRAMS = ("openssl",)

_NOT_VERIFIED = 1


def verified(key: str, signature: str, content: str) -> bool:
    """True if the SHA-256 of some bytes is signed by the owner of a public key, of ECDSA or RSA (PKCS #1).

    All three are files: the key in PEM, the signature as DER or as RSA has it, and the bytes.

    :raises CommandError: when openssl is missing.
    """
    argv = ["openssl", "dgst", "-sha256", "-verify", key, "-signature", signature, content]
    return run(argv, ok=(0, _NOT_VERIFIED)).code == 0
