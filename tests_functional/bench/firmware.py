# SPDX-License-Identifier: Apache-2.0
"""Keys of Secure Boot: made by openssl, put into a firmware's NVRAM by virt-fw-vars, and used by sbsign."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from building.process import run

#: The firmware's NVRAM as it leaves the factory: no keys, Setup Mode.
BLANK = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
_VARS = Path(sys.executable).with_name("virt-fw-vars")
_OWNER = "11111111-2222-3333-4444-123456789abc"
_SHIM = "605dab50-e046-4300-abb6-3dd810dd8b23"
_NON_VOLATILE, _AT_BOOT, _AT_RUNTIME = 1, 2, 4


@dataclass(frozen=True)
class Key:
    """A certificate with its key, both in PEM."""

    certificate: Path
    key: Path


def authority(place: Path, name: str) -> Key:
    """Make a certificate that signs others, by the common name ``name``."""
    made = Key(place / f"{name}.pem", place / f"{name}.key")
    words = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/O=Bareon/CN={name}"]
    run(["openssl", "req", *words, "-keyout", made.key, "-out", made.certificate], timeout=60)
    return made


def signer(place: Path, name: str, issuer: Key, *, days: int = 30) -> Key:
    """Make a certificate that signs programs."""
    made, request = Key(place / f"{name}.pem", place / f"{name}.key"), place / f"{name}.csr"
    words = ["-newkey", "rsa:2048", "-nodes", "-subj", f"/O=Bareon/CN={name}"]
    run(["openssl", "req", "-new", *words, "-keyout", made.key, "-out", request], timeout=60)
    by: list[str | Path] = ["-CA", issuer.certificate, "-CAkey", issuer.key, "-CAcreateserial", "-days", str(days)]
    run(["openssl", "x509", "-req", "-in", request, *by, "-out", made.certificate], timeout=60)
    return made


def sign(program: Path, key: Key, output: Path) -> Path:
    """Add a signature to an EFI program; ``output`` may be the program itself."""
    run(["sbsign", "--key", key.key, "--cert", key.certificate, "--output", output, program], timeout=60)
    return output


def store(
    output: Path,
    *,
    owner: Key | None,
    db: Sequence[Path],
    dbx_hashes: Sequence[str] = (),
    dbx: Sequence[Path] = (),
    sbat: str = "",
) -> Path:
    """Make an NVRAM with keys.

    :param owner: whose certificate is the platform key; without one the firmware is in Setup Mode.
    :param db: certificates in PEM, as ``dbx``.
    :param dbx_hashes: SHA-256 of programs, in hexadecimal.
    :param sbat: the SBAT level, for shim, and for a system as if shim had shown it.
    """
    words: list[str | Path] = ["--input", BLANK, "--output", output]
    for path in db:
        words += ["--add-db", _OWNER, path]
    for path in dbx:
        words += ["--add-dbx-cert", _OWNER, path]
    for digest in dbx_hashes:
        words += ["--add-dbx-hash", _OWNER, digest]
    if owner:
        words += ["--set-pk", _OWNER, owner.certificate, "--add-kek", _OWNER, owner.certificate, "--secure-boot"]
    if sbat:
        variables = output.with_suffix(".json")
        shown = {"SbatLevel": _AT_BOOT, "SbatLevelRT": _AT_BOOT | _AT_RUNTIME}
        entries = [
            {"name": name, "guid": _SHIM, "attr": _NON_VOLATILE | attributes, "data": sbat.encode().hex()}
            for name, attributes in shown.items()
        ]
        variables.write_text(json.dumps({"version": 2, "variables": entries}))
        words += ["--set-json", variables]
    run([_VARS, *words], timeout=60)
    return output


def microsofts(output: Path, choice: str) -> Path:
    """Make an NVRAM with keys of Microsoft: ``uefi11`` or ``uefi23``, under which shims are signed, or ``win23``."""
    words = ["--enroll-microsoft", "--microsoft-db", choice, "--secure-boot"]
    run([_VARS, "--input", BLANK, "--output", output, *words], timeout=60)
    return output


def variables(nvram: Path) -> dict[str, bytes]:
    """Return the variables of an NVRAM, each under its name and vendor, as efivarfs shows them."""
    listed = nvram.with_suffix(".list.json")
    run([_VARS, "--input", nvram, "--output-json", listed], timeout=60)
    return {
        f"{entry['name']}-{entry['guid']}": int(entry["attr"]).to_bytes(4, "little") + bytes.fromhex(entry["data"])
        for entry in json.loads(listed.read_text())["variables"]
    }
