# SPDX-License-Identifier: Apache-2.0
"""Whether Secure Boot lets a boot loader start: what firmware and shim would say, asked of values.

Firmware compares the first stage with its lists ``db`` and ``dbx``, as EDK2 does it (DxeImageVerificationLib). Shim
compares the next stage with these, with its own key and those of the machine's owner (MOK), and both stages with the
generations of the SBAT level. Dates of certificates count for neither.
"""

from __future__ import annotations

import re
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bareon.tools import authenticode, pe
from bareon.tools.secure_boot import Keys, sbat_lines
from bareon.tools.signature_list import Signatures, signatures
from bareon.tools.x509 import Certificate, certificate, common_names

Verify = Callable[[authenticode.Signature, Sequence[Certificate]], bool]
"""Whether a signature is of the owner of one of the certificates, or of somebody they have signed."""

_VENDOR = struct.Struct("<IIII")
_DATE = re.compile(r"sbat,1,([0-9]{10})\b")


@dataclass(frozen=True)
class Loader:
    """An EFI program by its path, which is what an error calls it."""

    path: str
    data: bytes = field(repr=False)


def verify(signature: authenticode.Signature, certificates: Sequence[Certificate]) -> bool:
    """Whether openssl verifies the signature with the certificates.

    :raises CommandError: when openssl is missing.
    """
    if not certificates:
        return False
    with tempfile.TemporaryDirectory(prefix="bareon-") as folder:
        blob, content, trusted = (Path(folder, name) for name in ("signature", "content", "certificates"))
        blob.write_bytes(signature.blob)
        content.write_bytes(signature.content)
        trusted.write_text("".join(x.pem for x in certificates))
        return authenticode.verified(str(blob), str(content), str(trusted))


def refusal(
    keys: Keys, first: Loader, grub: Loader | None = None, kernel: Loader | None = None, verify: Verify = verify
) -> str | None:
    """Why the node would not start with Secure Boot on; ``None`` where nothing speaks against it.

    :param first: what firmware starts.
    :param grub: what shim starts then, where the first stage is shim.
    :param kernel: what GRUB starts, after it has asked shim.
    """
    if keys.state == "unknown":
        return f"nobody can tell what the firmware knows: {keys.reason}"
    try:
        program = pe.program(first.data)
    except ValueError as error:
        return f"{first.path} is {error}"
    if reason := _refused(program, "the firmware", "db", "dbx", keys.db, keys.dbx, verify):
        return f"{first.path} {reason}"
    shim = _shim(program)
    if shim is None:
        return None
    level = _level(keys.sbat, program)
    if reason := _outdated(program, level):
        return f"{first.path} {reason}"
    own, revoked = shim
    known = _Shim(first.path, keys.db + own + keys.mok, keys.dbx + revoked + keys.mokx, level, verify)
    reasons = (known.refusal(grub, dated=True) if grub else None, known.refusal(kernel) if kernel else None)
    return next((reason for reason in reasons if reason), None)


@dataclass(frozen=True)
class _Shim:
    """A shim that runs, by the lists it goes by."""

    path: str
    allowed: Signatures
    forbidden: Signatures
    level: Sequence[str]
    verify: Verify

    def refusal(self, loader: Loader, *, dated: bool = False) -> str | None:
        """Why it does not start a program; one that is ``dated`` must tell its generation."""
        try:
            program = pe.program(loader.data)
        except ValueError as error:
            return f"{loader.path} is {error}"
        who, names = f"the shim {self.path}", ("shim, db or MOK", "dbx, shim or MOKX")
        reason = _refused(program, who, *names, self.allowed, self.forbidden, self.verify)
        if not reason and dated and not sbat_lines(program.sections.get(".sbat", b"")):
            reason = "tells no generation (it has no .sbat), and no shim starts such"
        reason = reason or _outdated(program, self.level)
        return f"{loader.path} {reason}" if reason else None


def _refused(
    program: pe.Program,
    who: str,
    allowing: str,
    forbidding: str,
    allowed: Signatures,
    forbidden: Signatures,
    verify: Verify,
) -> str | None:
    """Why a list keeps a program from starting, in words that follow its path."""
    if _listed(program, forbidden):
        return f"is revoked: its hash is in {forbidding}"
    found = list(_signatures(program))
    for signature in found:
        if _revoked(signature, forbidden, verify):
            return f"is signed under {common_names([signature.issuer])}, which is revoked: it is in {forbidding}"
    if _listed(program, allowed) or any(verify(x, allowed.certificates) for x in found):
        return None
    known = common_names(x.subject for x in allowed.certificates) or "no certificate"
    if found:
        signed = common_names(x.issuer for x in found)
        return f"is signed under {signed}, and {who} goes by {known} ({allowing})"
    how = "has no signature that is of this program" if program.signatures else "is not signed"
    return f"{how}, and {who} goes by {known} ({allowing})"


def _signatures(program: pe.Program) -> Iterator[authenticode.Signature]:
    """The signatures that are of the program as it is."""
    for blob in program.signatures:
        try:
            found = authenticode.signature(blob)
        except ValueError:
            continue  # which firmware passes over too
        if program.digest(found.algorithm) == found.digest:
            yield found


def _listed(program: pe.Program, signatures: Signatures) -> bool:
    digests = {algorithm: program.digest(algorithm) for algorithm, _ in signatures.hashes}
    return any(digests[algorithm] == digest for algorithm, digest in signatures.hashes)


def _revoked(signature: authenticode.Signature, forbidden: Signatures, verify: Verify) -> bool:
    """Whether a certificate of the signature's is revoked, by itself or by its hash, whatever time stands there."""
    hashes = forbidden.certificate_hashes
    if any((name, x.digest(name)) in hashes for name, _ in hashes for x in signature.certificates):
        return True
    return bool(forbidden.certificates) and verify(signature, forbidden.certificates)


def _shim(program: pe.Program) -> tuple[Signatures, Signatures] | None:
    """What a shim starts, and what not, by what was built into it; ``None`` for another program."""
    section = program.sections.get(".vendor_cert", b"")
    if len(section) < _VENDOR.size:
        return None
    size, revoked, place, place_revoked = _VENDOR.unpack_from(section)
    return _built_in(section[place : place + size]), _built_in(section[place_revoked : place_revoked + revoked])


def _built_in(data: bytes) -> Signatures:
    """A certificate or a list; nothing where it is neither, as shim then knows nobody by it."""
    for read in (lambda x: Signatures((certificate(x),)), signatures):
        try:
            return read(data) if data else Signatures()
        except ValueError:
            continue
    return Signatures()


def _level(node: Sequence[str], shim: pe.Program) -> Sequence[str]:
    """The SBAT level that a shim goes by: the node's, or its own, to which it raises an older one before all else."""
    texts = shim.sections.get(".sbatlevel", b"").split(b"\0")
    own = next((sbat_lines(x[x.find(b"sbat,") :]) for x in texts if b"sbat," in x), ())
    return max(node, own, key=_date)


def _date(level: Sequence[str]) -> str:
    found = _DATE.match(level[0]) if level else None
    return found[1] if found else ""


def _outdated(program: pe.Program, level: Sequence[str]) -> str | None:
    """Why the SBAT level keeps a program from starting."""
    least = dict(_generations(level))
    for name, generation in _generations(sbat_lines(program.sections.get(".sbat", b""))):
        if generation < least.get(name, 0):
            wanted = f"the SBAT level asks for {least[name]} at least ({_date(level) or 'without a date'})"
            return f"is revoked: it is generation {generation} of {name}, and {wanted}"
    return None


def _generations(lines: Sequence[str]) -> Iterator[tuple[str, int]]:
    for line in lines:
        name, *more = line.split(",")
        if more and more[0].isascii() and more[0].isdigit() and len(more[0]) < 10:
            yield name, int(more[0])
