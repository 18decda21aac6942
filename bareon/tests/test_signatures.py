# SPDX-License-Identifier: Apache-2.0
"""Images and lists of checksums with signatures of real keys: what is believed, and what is said of the rest."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bareon.errors import BareonError, ImageFailed
from bareon.model.image import Digest, Image, Published
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.run import Command
from bareon.tests.filesystems import with_ext2
from bareon.tools import gpgv
from bareon.transfer.checksums import digest
from bareon.transfer.image import write
from bareon.transfer.published import published

IMAGE = with_ext2(bytes(3 << 20))
SHA256, SHA512 = hashlib.sha256(IMAGE).hexdigest(), hashlib.sha512(IMAGE).hexdigest()
SUMS = f"{'0' * 64}  other.img\n{SHA256} *a.img\n".encode()
#: Whose keys there are: when they were made, and for how long.
KEYS = {"vendor": ("20250101T000000", "0"), "stranger": ("20250101T000000", "0"), "old": ("20200101T000000", "30d")}


@dataclass(frozen=True)
class Signers:
    """Keys of a vendor, of a stranger, and one of the vendor's that has expired."""

    home: Path

    def gpg(self, *words: str, stdin: bytes = b"") -> bytes:
        """Run gpg(1)."""
        argv = ["gpg", "--homedir", str(self.home), "--batch", "--quiet", "--no-tty", "--passphrase", "", *words]
        return subprocess.run(argv, input=stdin, check=True, capture_output=True).stdout

    def sign(self, text: bytes, who: str = "vendor", how: str = "--detach-sign", *more: str) -> bytes:
        """The text signed, in one of the ways of gpg."""
        then = ["--faked-system-time", "20200102T000000"] if who == "old" else []
        return self.gpg(*then, "--local-user", who, *more, how, stdin=text)

    def revoke(self, who: str) -> bytes:
        """A key of its own, revoked."""
        fingerprint = self.gpg("--with-colons", "--list-keys", who).decode().split("fpr:::::::::")[1].split(":")[0]
        revocation = (self.home / "openpgp-revocs.d" / f"{fingerprint}.rev").read_text().replace(":-----", "-----")
        with_it = self.gpg("--export", who) + self.gpg("--dearmor", stdin=revocation.encode())
        other = self.home / "revoked"
        other.mkdir(mode=0o700)
        return Signers(other).gpg("--import", stdin=with_it) or Signers(other).gpg("--export")


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signers]:
    found = Signers(tmp_path_factory.mktemp("gnupg"))
    found.home.chmod(0o700)
    for who, (made, life) in KEYS.items():
        found.gpg("--faked-system-time", made, "--quick-generate-key", who, "ed25519", "sign", life)
    yield found
    subprocess.run(["gpgconf", "--homedir", str(found.home), "--kill", "gpg-agent"], check=True)


@pytest.fixture
def keyring(signers: Signers, tmp_path: Path) -> str:
    path = tmp_path / "keys.asc"
    path.write_bytes(signers.gpg("--armor", "--export", "vendor", "old"))
    return str(path)


Place = Callable[..., Image]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Puts an image where it can be fetched, and what is published beside it."""

    def placed(sums: bytes | None, signature: bytes | None = None, wanted: Digest | None = None) -> Image:
        where = {}
        for name, content in (("a.img", IMAGE), ("SUMS", sums), ("SUMS.sig", signature)):
            if content is not None:
                (tmp_path / name).write_bytes(content)
                where[name] = Location(f"file://{tmp_path}/{name}")
        return Image(
            "a",
            where["a.img"],
            digest=wanted,
            checksums_url=where.get("SUMS"),
            signature_url=where.get("SUMS.sig"),
        )

    return placed


def bring(image: Image, settings: TransferSettings, device: Path) -> None:
    """Bring an image onto a file in the place of a device."""
    device.write_bytes(b"\xee" * (4 << 20))
    write(
        image.url,
        str(device),
        limit=4 << 20,
        digest=image.digest,
        settings=settings,
        published=published(image, settings),
        progress=lambda served, of: None,
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"{SHA256}  a.img\n", Digest("sha256", SHA256)),
        (f"{SHA256} *a.img\n", Digest("sha256", SHA256)),
        (f"{SHA256.upper()}  ./a.img\r\n", Digest("sha256", SHA256)),
        (f"# a.img: 3145728 bytes\nSHA256 (a.img) = {SHA256}\n", Digest("sha256", SHA256)),
        (f"MD5 (a.img) = {'0' * 32}\nSHA512 (a.img) = {SHA512}\nSHA256 (a.img) = {SHA256}", Digest("sha512", SHA512)),
        (f"{SHA256}  a.img\n{SHA256}  a.img\n", Digest("sha256", SHA256)),
        (f"{SHA256}  a.img\n{'0' * 64}  a.img\n", "more than one sha256"),
        (f"{SHA256}  xa.img\n{SHA256}  a.img.gz\n{SHA256}  b/a.img\n", "no checksum for 'a.img'"),
        (f"{'0' * 40}  a.img\n", "no checksum for 'a.img' that can be used"),
        (f"{'0' * 64}  x\x0b{SHA256}  a.img\n{'0' * 64}  x\u2028{SHA256}  a.img\n", "no checksum for 'a.img'"),
        ("<html>Please log in</html>", "no checksum for 'a.img'"),
        ("", "no checksum"),
    ],
)
def test_lists_of_checksums(text: str, found: Digest | str) -> None:
    if isinstance(found, Digest):
        assert digest(text, "a.img") == found
    else:
        with pytest.raises(ImageFailed, match=found):
            digest(text, "a.img")


def test_a_list_without_a_signature_where_none_is_wanted(place: Place) -> None:
    assert published(place(SUMS), TransferSettings()) == Published(listed=Digest("sha256", SHA256))


@pytest.mark.parametrize("armored", [True, False])
def test_a_signed_list(place: Place, signers: Signers, keyring: str, armored: bool, tmp_path: Path) -> None:
    signature = signers.sign(SUMS, "vendor", "--detach-sign", *(["--armor"] if armored else []))
    if not armored:
        Path(keyring).write_bytes(signers.gpg("--export", "vendor"))
    image, settings = place(SUMS, signature), TransferSettings(keyring=keyring)
    assert published(image, settings).listed == Digest("sha256", SHA256)
    bring(image, settings, tmp_path / "device")
    assert (tmp_path / "device").read_bytes()[: len(IMAGE)] == IMAGE


def test_of_a_list_with_its_signature_around_it_only_what_is_signed_counts(
    place: Place, signers: Signers, keyring: str
) -> None:
    clear, settings = signers.sign(SUMS, "vendor", "--clear-sign"), TransferSettings(keyring=keyring)
    assert published(place(clear), settings).listed == Digest("sha256", SHA256)
    forged = f"SHA512 (a.img) = {'0' * 128}\n".encode()
    assert published(place(clear + forged), settings).listed == Digest("sha256", SHA256)
    with pytest.raises(ImageFailed, match="no signature"):
        published(place(forged + clear), settings)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda by: (SUMS.replace(b"other", b"othre"), by.sign(SUMS)), "what was signed has been changed"),
        (lambda by: (SUMS, by.sign(SUMS, "stranger")), "was made with key [0-9A-F]{16}, which is not in the keyring"),
        (lambda by: (SUMS, by.sign(SUMS, "old")), "was made with key [0-9A-F]{16}, which has expired"),
        (
            lambda by: (SUMS, by.sign(SUMS, "vendor", "--detach-sign", "--digest-algo", "SHA1")),
            "no longer trusted",
        ),
        # A message that carries its own text proves nothing of another.
        (lambda by: (SUMS, by.sign(SUMS, "vendor", "--sign")), "no signature of OpenPGP that can be read"),
        (lambda by: (SUMS, by.sign(SUMS, "vendor", "--clear-sign")), "no signature of OpenPGP that can be read"),
        (lambda by: (SUMS, b"<html>Please log in</html>"), "no signature of OpenPGP that can be read"),
        (lambda by: (SUMS, b""), "is empty|no signature of OpenPGP"),
        (lambda by: (SUMS, None), "has no signature, and none is named with image_signature_url"),
        (lambda by: (by.sign(SUMS, "old", "--clear-sign"), None), "which has expired"),
        (lambda by: (by.sign(SUMS, "stranger", "--clear-sign"), None), "which is not in the keyring"),
        (lambda by: (by.sign(SUMS, "vendor", "--clear-sign").replace(b"other", b"othre"), None), "has been changed"),
        # One that fits does not make up for one that does not.
        (lambda by: (SUMS, by.sign(SUMS) + by.sign(SUMS + b"\n")), "what was signed has been changed"),
    ],
)
def test_what_is_not_believed(
    place: Place,
    signers: Signers,
    keyring: str,
    make: Callable[[Signers], tuple[bytes, bytes | None]],
    words: str,
) -> None:
    with pytest.raises(ImageFailed, match=words):
        published(place(*make(signers)), TransferSettings(keyring=keyring))


def test_a_revoked_key(place: Place, signers: Signers, keyring: str) -> None:
    signature = signers.sign(SUMS)
    Path(keyring).write_bytes(signers.revoke("vendor"))
    with pytest.raises(ImageFailed, match="which has been revoked"):
        published(place(SUMS, signature), TransferSettings(keyring=keyring))


def test_one_signature_of_several_is_enough(place: Place, signers: Signers, keyring: str) -> None:
    both = signers.sign(SUMS, "stranger") + signers.sign(SUMS)
    assert published(place(SUMS, both), TransferSettings(keyring=keyring)).listed


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no public key"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n-----END PGP PUBLIC KEY BLOCK-----\n", "has no public key"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "has no public key"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n" + b"a: b: c: d\n" * 99, "has no public key"),
        (b"no keys", "is not in the keyring"),
    ],
)
def test_keyrings_without_the_key(place: Place, signers: Signers, keyring: str, content: bytes, words: str) -> None:
    Path(keyring).write_bytes(content)
    with pytest.raises(ImageFailed, match=words):
        published(place(SUMS, signers.sign(SUMS)), TransferSettings(keyring=keyring))


def test_a_keyring_that_is_not_there(place: Place, signers: Signers) -> None:
    with pytest.raises(ImageFailed, match=r"the keyring /no-such cannot be read: .*No such file"):
        published(place(SUMS, signers.sign(SUMS)), TransferSettings(keyring="/no-such"))


def test_the_digest_of_the_document_and_that_of_the_list(place: Place, tmp_path: Path) -> None:
    with pytest.raises(ImageFailed, match=f"it lists {SHA256} as the sha256 of 'a.img', 0000.* was wanted"):
        published(place(SUMS, wanted=Digest("sha256", "0" * 64)), TransferSettings())
    image = place(SUMS, wanted=Digest("sha512", "0" * 128))
    with pytest.raises(ImageFailed, match="its sha512 is"):
        bring(image, TransferSettings(), tmp_path / "device")
    image = place(SUMS.replace(SHA256.encode(), b"1" * 64), wanted=Digest("sha512", SHA512))
    with pytest.raises(ImageFailed, match="its sha256 is"):
        bring(image, TransferSettings(), tmp_path / "device")
    bring(place(SUMS, wanted=Digest("sha512", SHA512)), TransferSettings(), tmp_path / "device")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda by: by.sign(IMAGE), None),
        (lambda by: by.sign(IMAGE[:-1]), "what was signed has been changed"),
        (lambda by: by.sign(IMAGE, "stranger"), "which is not in the keyring"),
        (lambda by: by.sign(IMAGE, "old"), "which has expired"),
        (lambda by: b"no signature", "no signature of OpenPGP"),
    ],
)
def test_a_signature_of_the_image_itself(
    place: Place,
    signers: Signers,
    keyring: str,
    tmp_path: Path,
    make: Callable[[Signers], bytes],
    words: str | None,
) -> None:
    image, device = place(None, make(signers)), tmp_path / "device"
    if words is None:
        bring(image, TransferSettings(keyring=keyring), device)
        assert device.read_bytes()[: len(IMAGE)] == IMAGE
        return
    with pytest.raises(BareonError, match=words):
        bring(image, TransferSettings(keyring=keyring), device)
    # Nothing that looks like a file system is left.
    assert not any(device.read_bytes()[: 1 << 20])


def test_a_keyring_is_read_with_or_without_armor(signers: Signers, tmp_path: Path) -> None:
    plain = signers.gpg("--export", "vendor", "old")
    for name, content in (
        ("binary", plain),
        ("armored", signers.gpg("--armor", "--export", "vendor", "old")),
        (
            "two",
            signers.gpg("--armor", "--export", "vendor") + b"\n" + signers.gpg("--armor", "--export", "old"),
        ),
    ):
        (tmp_path / name).write_bytes(content)
        assert gpgv.keys(str(tmp_path / name)) == plain


def test_a_keyring_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", "/dev/zero", tmp_path):
        with pytest.raises(ImageFailed, match="it is no regular file"):
            gpgv.keys(str(path))


def test_words_of_a_signature_are_none_of_gpgv(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "[GNUPG:] NOTATION_DATA a\u2028[GNUPG:] GOODSIG 1 a\u2028[GNUPG:] VALIDSIG 2\n[GNUPG:] ERRSIG 3\n"
    monkeypatch.setattr("bareon.tools.gpgv.run", lambda *argv, **how: Command((), 2, said, "", 0.0))
    with pytest.raises(ImageFailed, match="key 3"):
        gpgv.verify("/home", ["/signature", "/text"])


def test_a_signature_that_cannot_be_checked(
    place: Place, signers: Signers, keyring: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, settings = place(None, signers.sign(IMAGE)), TransferSettings(keyring=keyring)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(ImageFailed, match=r"its signature cannot be checked, which takes some room in .*missing"):
        bring(image, settings, tmp_path / "device")
    monkeypatch.setattr("bareon.transfer.check.verify_stream", None)  # whatever goes wrong
    with pytest.raises(TypeError):
        bring(image, settings, tmp_path / "device")
