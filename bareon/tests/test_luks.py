# SPDX-License-Identifier: Apache-2.0
"""Encrypted containers: what comes of them in a deployed system, what is found again, where their keys are not."""

from __future__ import annotations

import json
import os
import stat
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bareon.actions.copyimage import BindSystem
from bareon.cmd.terminal import terminal
from bareon.drivers.data.ironic import Ironic
from bareon.errors import ActionFailed, DisksDiffer, UnsuitableNode
from bareon.layout.build import build
from bareon.layout.compare import adopt
from bareon.model.deployment import Deployment
from bareon.model.layout import Layout
from bareon.model.node import NodeFacts
from bareon.sizes import MIB, Absolute
from bareon.step import confiding
from bareon.storage import cryptkey, luks
from bareon.storage.cryptkey import KeyFile, KeyUrl
from bareon.storage.disk import Disk, DiskFacts, DiskId, Partition
from bareon.storage.filesystem import Filesystem, Mount
from bareon.storage.identifier import Identifiers
from bareon.storage.kind import UNKNOWN, Signature
from bareon.storage.luks import (
    Container,
    ContainerFacts,
    Ephemeral,
    MakeContainer,
    OpenContainer,
    PlannedContainer,
    mapper,
)
from bareon.storage.luks import search as luks_search
from bareon.storage.luks import wanted as luks_wanted
from bareon.storage.md import Array, PlannedArray, RaidMember
from bareon.system.bindings import crypt_keys
from bareon.system.bindings.binding import Result
from bareon.system.bindings.crypt_keys import CryptKeys, KeysInInitramfs
from bareon.system.bindings.crypttab import Crypttab
from bareon.system.bindings.fstab import Fstab
from bareon.system.bindings.home import Home
from bareon.system.bindings.table import BINDINGS
from bareon.system.tree import Tree
from bareon.tests.simulation import after
from bareon.tools import clevis

NODE = NodeFacts("bios", (DiskFacts("/dev/vda", 4096 * MIB),))


def _fs(point: str, kind: str = "ext4", *, keep: bool = True) -> Filesystem:
    return Filesystem(kind, (Mount(point, images=("a",)),), images=("a",), keep_data=keep)


def _container(name: str, point: str, key: Path | str = "/run/key", *, keep: bool = True, **more: bool) -> Container:
    return Container(name, KeyFile(str(key)), _fs(point, keep=keep), **more)


def _ephemeral(name: str, point: str, kind: str) -> Ephemeral:
    return Ephemeral(**vars(_fs(point, kind)), crypt_name=name)


def _layout(*contents: Container | Ephemeral | Filesystem) -> Layout:
    volumes = tuple(Partition(Absolute(200 * MIB), content) for content in contents)
    wanted = Deployment("verify", (Disk(DiskId("name", "vda"), None, volumes),))
    return build(wanted, NODE, Identifiers(uuid.UUID(int=1)))


def _containers(layout: Layout) -> list[PlannedContainer]:
    return [x for x in layout.structures() if isinstance(x, PlannedContainer)]


def _guid(layout: Layout, number: int) -> str:
    return layout.disks[0].partitions[number].guid.lower()


# In a deployed system.


def test_what_a_system_opens_and_mounts() -> None:
    layout = _layout(
        _fs("/boot"),
        _container("root", "/", in_system=True),
        _container("srv", "/srv"),
        _ephemeral("swap0", "swap", "swap"),
        _ephemeral("tmp", "/tmp", "ext4"),
    )
    root, srv = _containers(layout)
    random = "cipher=aes-xts-plain64,size=512"
    assert set(layout.crypttab("a")) == {
        f"root UUID={root.uuid} /etc/cryptsetup-keys.d/root.key luks,initramfs",
        f"srv UUID={srv.uuid} none luks",
        f"swap0 PARTUUID={_guid(layout, 4)} /dev/urandom plain,swap,{random}",
        f"tmp PARTUUID={_guid(layout, 5)} /dev/urandom plain,tmp=ext4,{random}",
    }
    assert [x.point for x in layout.tree("a")] == ["/", "/boot", "/srv"]
    home = Home(layout, "a", volumes=(*layout.tree("a"), *layout.swaps("a"), *layout.made_at_start("a")))
    lines = str(Fstab().bound("", None, home).text).splitlines()
    assert {"/dev/mapper/swap0 none swap defaults 0 0", "/dev/mapper/tmp /tmp ext4 defaults 0 0"} <= set(lines)
    assert sum(line.startswith("UUID=") for line in lines) == 3
    assert home.swap is None, "a system cannot resume from what it has forgotten the key of"
    assert layout.kernel_arguments("a", resumes=True) == (f"rd.luks.name={root.uuid}=root",)


def test_what_is_not_mounted_by_itself_is_not_opened_either() -> None:
    """Nobody shall be asked for a key at a start that needs none."""
    fs = _fs("/srv")
    mounts = (Mount("/srv", images=("a",), enabled=False), Mount("/srv", "ro,noauto", images=("a",)))
    for mount in mounts:
        wanted = Container("srv", KeyFile("/run/key"), replace(fs, mounts=(mount,)), options=("discard",))
        (line,) = _layout(_container("root", "/"), wanted).crypttab("a")[1:]
        assert line.endswith(" none luks,discard,noauto")
    both = replace(fs, mounts=(mounts[0], Mount("/var", images=("a",))))
    assert _layout(Container("srv", KeyFile("/run/key"), both)).crypttab("a")[0].endswith(" none luks")


def test_a_random_key_is_for_no_array_that_has_only_the_name() -> None:
    """Of a disk that somebody puts in, with an array of that name, everything would be lost."""
    swap = Array("swap0", "raid1", _ephemeral("swap0", "swap", "swap"))
    disks = tuple(
        Disk(DiskId("name", name), None, (Partition(Absolute(200 * MIB), RaidMember("swap0")),))
        for name in ("vda", "vdb")
    )
    node = NodeFacts("bios", tuple(DiskFacts(f"/dev/{x.id.value}", 4096 * MIB) for x in disks))
    layout = build(Deployment("clean", disks, (swap,)), node, Identifiers(uuid.UUID(int=1)))
    (array,) = layout.aggregates
    assert isinstance(array, PlannedArray)
    (line,) = layout.crypttab("a")
    assert line.split()[1] == f"/dev/disk/by-id/md-uuid-{array.uuid}"


def test_fstab_of_what_is_made_at_start_is_written_once() -> None:
    layout = _layout(_fs("/"), _ephemeral("swap0", "swap", "swap"))
    home = Home(layout, "a", volumes=(*layout.tree("a"), *layout.swaps("a")))
    first = Fstab().bound("", None, home).text
    kept = replace(home, layout=replace(layout, policy="verify"))
    assert Fstab().bound("", first, kept).text == first


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    for path in ("usr/sbin/update-initramfs", "boot/initrd.img-6.1", "lib/modules/6.1/modules.dep"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    return Tree(str(tmp_path))


@pytest.fixture
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ramdisk") / "key"
    path.write_bytes(b"planted\xff\0key\n")
    return path


def _bind(tree: Tree, layout: Layout) -> Result:
    result = Result()
    for binding in (CryptKeys(), KeysInInitramfs()):
        binding.apply(tree, Home(layout, "a"), result)
    return result


def _with_hook(tree: Tree) -> Path:
    hook = Path(tree.root, "usr/share/initramfs-tools/hooks/cryptroot")
    hook.parent.mkdir(parents=True)
    hook.write_text("")
    return hook


def test_the_key_of_the_root_comes_into_the_system_and_its_initramfs(tree: Tree, key: Path) -> None:
    _with_hook(tree)
    tree.write(crypt_keys.HOOK, "#KEYFILE_PATTERN=\n")
    layout = _layout(_fs("/boot"), _container("root", "/", key, in_system=True))
    result = _bind(tree, layout)
    there = Path(tree.root, "etc/cryptsetup-keys.d/root.key")
    assert there.read_bytes() == key.read_bytes()
    assert stat.S_IMODE(there.stat().st_mode) == 0o600
    assert tree.read(crypt_keys.HOOK) == (
        '#KEYFILE_PATTERN=\nKEYFILE_PATTERN="/etc/cryptsetup-keys.d/*.key"  # bareon\n'
    )
    assert "UMASK=0077" in str(tree.read(crypt_keys.UMASK))
    assert set(result.stale) >= {"/etc/cryptsetup-keys.d/root.key", crypt_keys.HOOK, crypt_keys.UMASK}
    assert "planted" not in repr((result, layout))
    assert _bind(tree, layout).stale == [], "again is nothing"
    _bind(tree, _layout(_fs("/")))
    assert (tree.read(crypt_keys.HOOK), tree.read(crypt_keys.UMASK)) == ("#KEYFILE_PATTERN=\n", None)


def _deployed(tree: Tree, layout: Layout) -> Result:
    result = Result()
    for binding in BINDINGS:
        if isinstance(binding, CryptKeys | Crypttab | KeysInInitramfs):
            binding.apply(tree, Home(replace(layout, policy="verify"), "a"), result)
    return result


def test_a_key_that_the_system_is_given_no_more_leaves_it(tree: Tree, key: Path) -> None:
    _with_hook(tree)
    tree.write("/etc/crypttab", "own UUID=1 /etc/cryptsetup-keys.d/own.key luks\n")
    tree.write("/etc/cryptsetup-keys.d/own.key", "somebody's")
    both = (_container("srv", "/srv", key, in_system=True), _container("opt", "/opt", key, in_system=True))
    _deployed(tree, _layout(_fs("/boot"), _container("root", "/", key, in_system=True), *both))
    keys = Path(tree.root, "etc/cryptsetup-keys.d")
    assert sorted(x.name for x in keys.iterdir()) == ["opt.key", "own.key", "root.key", "srv.key"]
    # The root is to be typed now, srv is in the document no more, and somebody else uses the key of opt.
    tree.write("/etc/crypttab", f"{tree.read('/etc/crypttab')}x UUID=2 /etc/cryptsetup-keys.d/opt.key luks\n")
    result = _deployed(tree, _layout(_fs("/boot"), _container("root", "/", key)))
    assert sorted(x.name for x in keys.iterdir()) == ["opt.key", "own.key"]
    assert "/etc/cryptsetup-keys.d/root.key" in result.stale, "the initramfs has it"
    assert any("srv.key: removed" in line for line in result.done)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_nobody_keeps_an_eye_on_a_key(tree: Tree, key: Path) -> None:
    """A file of that name, which the image has, may be anybody's."""
    there = Path(tree.root, "etc/cryptsetup-keys.d/srv.key")
    there.parent.mkdir(parents=True)
    there.write_text("old")
    os.chown(there, 1234, 1234)
    there.chmod(0o644)
    _bind(tree, _layout(_fs("/"), _container("srv", "/srv", key, in_system=True)))
    found = there.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (os.geteuid(), os.getegid(), 0o600)
    assert there.read_bytes() == key.read_bytes()


def test_the_plan_says_that_a_key_comes_into_the_system(key: Path) -> None:
    layout = _layout(_fs("/boot"), _container("root", "/", key, in_system=True), _container("srv", "/srv", key))
    said = BindSystem("x", Home(layout, "a")).description
    assert said.endswith("; give it the key of root")


def test_a_key_for_later_is_in_no_initramfs(tree: Tree, key: Path) -> None:
    result = _bind(tree, _layout(_fs("/"), _container("srv", "/srv", key, in_system=True)))
    assert (tree.read(crypt_keys.HOOK), tree.read(crypt_keys.UMASK)) == (None, None)
    assert "it lacks cryptsetup" in result.warnings[0]


def test_a_system_whose_initramfs_opens_nothing_is_refused(tree: Tree, key: Path) -> None:
    layout = _layout(_fs("/boot"), _container("root", "/", key))
    with pytest.raises(ActionFailed, match="opens root; it lacks cryptsetup-initramfs"):
        _bind(tree, layout)
    _with_hook(tree)
    assert _bind(tree, layout).warnings == []


# Keys that are sealed.


def _sealed(name: str, point: str, *, recovery: bool = False) -> Container:
    return Container(name, cryptkey.of_tpm([7]), _fs(point), recovery=recovery)


def _brings(tree: Tree, *paths: str) -> None:
    for path in paths:
        tree.write(path, "")


@pytest.mark.parametrize(
    ("maker", "there", "lacking"),
    [
        ("update-initramfs", (), "clevis-initramfs, clevis-decrypt-tpm2"),
        ("update-initramfs", ("/usr/bin/clevis-decrypt-tpm2",), "clevis-initramfs"),
        ("update-initramfs", ("/usr/share/initramfs-tools/hooks/clevis",), "clevis-decrypt-tpm2"),
        ("update-initramfs", ("/usr/share/initramfs-tools/hooks/clevis", "/usr/bin/clevis-decrypt-tpm2"), None),
        ("dracut", ("/usr/bin/clevis-decrypt-tpm2",), "the clevis module of dracut"),
        (
            "dracut",
            ("/usr/lib/dracut/modules.d/60clevis-pin-tpm2/x", "/usr/bin/clevis-decrypt-tpm2"),
            "the clevis module of dracut",
        ),
        ("dracut", ("/usr/lib/dracut/modules.d/60clevis/x", "/usr/bin/clevis-decrypt-tpm2"), None),
    ],
    ids=range(7),
)
def test_a_system_that_would_ask_for_what_nobody_knows_is_refused(
    maker: str, there: tuple[str, ...], lacking: str | None, tree: Tree
) -> None:
    if maker == "dracut":
        Path(tree.root, "usr/sbin/update-initramfs").rename(Path(tree.root, "usr/sbin/dracut"))
        _brings(tree, "/usr/lib/dracut/modules.d/90crypt/module-setup.sh")
    else:
        _with_hook(tree)
    _brings(tree, *there)
    layout = _layout(_fs("/boot"), _sealed("root", "/"))
    if lacking is None:
        assert _bind(tree, layout).warnings == []
        assert layout.crypttab("a")[0].endswith(" none luks,initramfs")
        assert (tree.read(crypt_keys.HOOK), tree.read(crypt_keys.UMASK)) == (None, None), "there is no key in it"
    else:
        with pytest.raises(ActionFailed, match=f"nobody knows the key of root, .* tpm2 for it: {lacking}$"):
            _bind(tree, layout)


def test_what_is_opened_later_takes_another_program(tree: Tree) -> None:
    layout = _layout(_fs("/"), _sealed("srv", "/srv"))
    with pytest.raises(ActionFailed, match=r"key of srv, .*: clevis-systemd, clevis-decrypt-tpm2$"):
        _bind(tree, layout)
    _brings(tree, "/usr/lib/systemd/system/clevis-luks-askpass.path", "/usr/bin/clevis-decrypt-tpm2")
    _bind(tree, layout)


def test_only_who_may_lose_all_with_a_tpm_is_warned() -> None:
    def volume(name: str, **more: bool) -> dict[str, Any]:
        sealed = {"type": "luks2", "name": name, "key": {"tpm2": {"pcrs": [7]}}, **more}
        return {"type": "partition", "mount": f"/{name}", "size": "1 GiB", "encryption": sealed}

    volumes = [volume("home"), volume("srv", recovery_key=True)]
    disk = {"type": "disk", "id": {"type": "name", "value": "vda"}, "volumes": volumes}
    driver = Ironic()
    driver.parse(json.dumps({"partitions": [disk]}).encode())
    assert driver.warnings == (
        "$.partitions[0].volumes[0].encryption: nothing else opens home where a key that the TPM seals to PCR 7 is"
        " lost: see recovery_key",
    )


def test_a_token_is_read_as_it_was_written() -> None:
    written = json.loads(clevis.token("head..vector.text.tag", slot=0))
    assert (written["type"], written["keyslots"]) == ("clevis", ["0"])
    assert clevis.sealed(written) == "head..vector.text.tag"
    for other in ({"type": "systemd-tpm2"}, {"jwe": {"protected": "x"}}, {"jwe": "x"}):
        assert clevis.sealed(other) is None


def test_a_kept_container_without_a_sealed_key_is_refused(monkeypatch: pytest.MonkeyPatch, key: Path) -> None:
    (made,) = _containers(_layout(_fs("/boot"), _sealed("root", "/")))
    monkeypatch.setattr("bareon.tools.cryptsetup.tokens", lambda _: [{"type": "systemd-tpm2"}])
    with pytest.raises(UnsuitableNode, match="a key that the TPM seals to PCR 7 cannot be had: its header has none"):
        list(OpenContainer("x", replace(made, device=str(key))).preflight())


def test_where_tang_is_asked_the_initramfs_has_a_network() -> None:
    server = ("http://tang.example.com", "hKx2FKUHyHmQb2vBVQ3bI2X1sJo")
    (made,) = _containers(_layout(Container("root", cryptkey.of_tang([server], 1), _fs("/"))))
    assert made.system.kernel_arguments == (f"rd.luks.name={made.uuid}=root", "rd.neednet=1")
    assert made.programs == ("cryptsetup", "clevis", "clevis-encrypt-tang", "clevis-decrypt-tang")


# What is found again.


def _found(*contents: Container | Ephemeral) -> NodeFacts:
    return after(_layout(*contents), NODE)


def test_a_closed_container_is_kept_with_the_uuid_that_it_has() -> None:
    wanted = _container("root", "/")
    node = _found(wanted)
    (there,) = node.structures
    assert isinstance(there, ContainerFacts)
    (part,) = [x for x in node.disks[0].partitions if x.content]
    node = _with(node, replace(there, uuid="c0ffee"), Signature("crypto_LUKS", "c0ffee", "root"))
    layout, _ = adopt(_layout(wanted), node, make=True)
    (container,) = _containers(layout)
    assert (part.content, container.uuid, container.decision) == (
        Signature("crypto_LUKS", there.uuid, "root"),
        "c0ffee",
        "keep",
    )
    assert [x.unseen for x in layout.filesystems()] == [True]


def test_what_is_made_anew_in_a_closed_container_leaves_it() -> None:
    wanted = _container("root", "/", keep=False)
    layout, _ = adopt(_layout(wanted), _found(wanted), make=True)
    assert [x.decision for x in _containers(layout)] == ["format"]
    assert [x.uuid for x in _containers(layout)] == [x.uuid for x in _containers(_layout(wanted))]


def _with(node: NodeFacts, facts: ContainerFacts, content: Signature | None = None) -> NodeFacts:
    (disk,) = node.disks
    parts = tuple(replace(x, content=content or x.content) if x.content else x for x in disk.partitions)
    return replace(node, disks=(replace(disk, partitions=parts),), structures=(facts,))


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"format": "luks1"}, "/dev/vda2: expected luks2, found luks1"),
        ({"format": "damaged"}, "/dev/vda2: expected luks2, found damaged"),
        ({"label": None}, "/dev/vda2: expected the label 'root', found 'none'"),
        ({"name": "x", "device": "/dev/dm-0"}, "expected to be open as root, if at all, and is as x"),
        ({"device": "/dev/dm-0", "content": Signature("xfs")}, "/dev/mapper/root: expected ext4, found xfs"),
        ({"device": "/dev/dm-0", "content": None}, "/dev/mapper/root: expected ext4, found nothing"),
        ({"members": ("/dev/vdz",)}, "/dev/vda2: expected luks2, found crypto_LUKS 'root'"),
    ],
    ids=lambda x: str(sorted(x)) if isinstance(x, dict) else "",
)
def test_differences(change: dict[str, object], difference: str) -> None:
    wanted = _container("root", "/")
    node = _found(wanted)
    (there,) = node.structures
    with pytest.raises(DisksDiffer) as caught:
        adopt(_layout(wanted), _with(node, replace(there, **change)), make=False)  # type: ignore[arg-type]
    assert any(difference in line for line in caught.value.lines()), caught.value.lines()


def test_what_can_be_made_out_is_not_taken_for_noise() -> None:
    wanted = _ephemeral("swap0", "swap", "swap")
    node = _found(wanted)
    adopt(_layout(wanted), node, make=False)
    (disk,) = node.disks
    parts = (disk.partitions[0], replace(disk.partitions[1], content=Signature("ext4")))
    with pytest.raises(DisksDiffer, match="expected nothing that has a form, found ext4"):
        adopt(_layout(wanted), replace(node, disks=(replace(disk, partitions=parts),)), make=False)


class _Seen:
    """A look at closed containers with these labels, by their devices."""

    nested = 0

    def __init__(self, labels: dict[str, str]) -> None:
        self._labels = labels

    def devices(self, signature: str) -> list[str]:
        return list(self._labels)

    def content(self, device: str) -> Signature:
        return Signature("crypto_LUKS", f"uuid of {device}", self._labels[device])

    def offer(self, device: str, signature: Signature | None, *, partitioned: bool = False) -> None:
        raise AssertionError("there is nothing to see")

    def name(self, device: str, name: str) -> None:
        raise AssertionError("there is nothing to name")

    def name_of(self, device: str) -> str:
        return device

    def begun(self, started: object) -> None:
        raise AssertionError("nothing is opened to look inside")


def test_a_label_that_is_no_name_leads_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mapper, "SYS", tmp_path)
    monkeypatch.setattr(luks_search, "_header", lambda _: None)
    search = luks.KIND.search(
        _Seen({"/dev/x1": "/dev/vda", "/dev/x2": "../vda", "/dev/x3": "twice", "/dev/x4": "twice"})
    )
    while search.go_on(sure=True):
        pass
    found = [x for x in search.found() if isinstance(x, ContainerFacts)]
    assert [x.alias for x in found] == [f"/dev/mapper/luks-uuid of /dev/x{number}" for number in range(1, 5)]
    assert [(x.format, x.running, x.content) for x in found] == [("damaged", False, UNKNOWN)] * 4


class _SeenOpen(_Seen):
    def __init__(self, labels: dict[str, str]) -> None:
        super().__init__(labels)
        self.offered: list[str] = []

    def offer(self, device: str, signature: Signature | None, *, partitioned: bool = False) -> None:
        self.offered.append(device)

    def content(self, device: str) -> Signature:
        return Signature("ext4") if "dm-" in device else super().content(device)

    def name(self, device: str, name: str) -> None:
        pass


@pytest.mark.pain("open-containers")
def test_each_mapping_of_one_device_is_seen_and_closed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for number, name in enumerate(("one", "two")):
        place = tmp_path / f"dm-{number}"
        (place / "dm").mkdir(parents=True)
        (place / "slaves/vda2").mkdir(parents=True)
        (place / "dm/uuid").write_text("CRYPT-LUKS2-0123-x\n")
        (place / "dm/name").write_text(f"{name}\n")
    monkeypatch.setattr(mapper, "SYS", tmp_path)
    monkeypatch.setattr(luks_search, "_header", lambda _: None)
    monkeypatch.setattr("bareon.tools.lsblk.size", lambda _: 4096)
    monkeypatch.setattr("bareon.tools.device.kernel_name", lambda x: x)
    seen = _SeenOpen({"/dev/vda2": "root"})
    search = luks.KIND.search(seen)
    while search.go_on(sure=True):
        pass
    found = [x for x in search.found() if isinstance(x, ContainerFacts)]
    assert [(x.name, x.device, x.members) for x in found] == [
        ("one", "/dev/dm-0", ("/dev/vda2",)),
        ("two", "/dev/dm-1", ("/dev/vda2",)),
    ]
    assert seen.offered == ["/dev/mapper/one", "/dev/mapper/two"]
    steps = [step for x in found for step in x.stop("a")]
    assert [x.description for x in steps] == [f"Close container {x} on /dev/vda2" for x in ("one", "two")]


def test_what_is_open_twice_differs() -> None:
    wanted = _container("root", "/")
    node = _found(wanted)
    (there,) = node.structures
    assert isinstance(there, ContainerFacts)
    twice = (replace(there, device="/dev/dm-0", name="root"), replace(there, device="/dev/dm-1", name="other"))
    with pytest.raises(DisksDiffer, match="expected to be open once, if at all, and is as other, root"):
        adopt(_layout(wanted), replace(node, structures=twice), make=False)


def test_a_key_that_can_be_tried_late_alone_is_told_of(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (made,) = _containers(_layout(_fs("/boot"), _container("root", "/", key)))
    step = OpenContainer("x", replace(made, device="/dev/md/absent"))
    assert list(step.preflight()) == [
        f"/dev/md/absent does not run yet: whether the key in {key} opens what is kept there is seen after that alone"
    ]
    monkeypatch.setattr("bareon.tools.cryptsetup.fits", lambda *_: False)
    with pytest.raises(UnsuitableNode, match="does not open it"):
        list(OpenContainer("x", replace(made, device=str(key))).preflight())


# Keys.


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"correct horse", None),
        ("pässword".encode(), None),
        (b"word\n", "it ends with a newline"),
        (b"\xff\xfe", "it is no text in one line"),
        (b"two\nlines", "it is no text in one line"),
        (b"a" * 513, "it is longer than 512 characters"),
    ],
    ids=range(6),
)
def test_keys_that_can_be_typed(content: bytes, reason: str | None, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(content)
    found = cryptkey.untypable(content)
    assert (found or "").startswith(reason or "") and (found is None) == (reason is None)
    made = MakeContainer("x", _containers(_layout(_container("root", "/", tmp_path / "key")))[0])
    if reason is None:
        made.preflight()
    else:
        with pytest.raises(UnsuitableNode, match="cannot be typed") as caught:
            made.preflight()
        assert content.decode(errors="replace") not in str(caught.value)
    inside = _container("root", "/", tmp_path / "key", in_system=True)
    MakeContainer("x", _containers(_layout(inside))[0]).preflight()


def test_keys_that_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", cryptkey.LARGEST + 1)
    os.mkfifo(tmp_path / "fifo")  # nobody writes to it: whoever reads waits for ever
    cases = (("empty", "is empty"), ("large", "more than"), ("absent", "No such file"), ("", "directory"))
    for name, words in (*cases, ("fifo", "no regular file"), ("/dev/zero", "no regular file")):
        with pytest.raises(UnsuitableNode, match=words):
            cryptkey.content(KeyFile(str(tmp_path / name)))


def test_nothing_but_its_host_is_told_of_the_url_of_a_key() -> None:
    source = KeyUrl("https://127.0.0.1:1/planted?planted=1")
    with pytest.raises(UnsuitableNode, match=r"127\.0\.0\.1 gives no key") as caught:
        cryptkey.content(source)
    assert "planted" not in f"{caught.value} {source} {source!r}"


def test_a_recovery_key_has_the_form_of_systemd() -> None:
    first, second = cryptkey.recovery_key(), cryptkey.recovery_key()
    assert first != second
    assert [len(x) for x in first.split("-")] == [8] * 8
    assert set(first) <= set("cbdefghijklnrtuv-")


def test_a_key_for_the_system_is_asked_for_before_anything_is_written(key: Path) -> None:
    layout = _layout(_fs("/boot"), _container("root", "/", key, in_system=True))
    bound = BindSystem("x", Home(layout, "a"), programs=False)
    bound.preflight()
    absent = _layout(_fs("/boot"), _container("root", "/", key.with_name("absent"), in_system=True))
    with pytest.raises(UnsuitableNode, match="cannot be read"):
        replace(bound, home=Home(absent, "a")).preflight()


def test_the_key_of_what_is_kept_must_open_it_though_it_is_open(key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes into the system would not open its root."""
    monkeypatch.setattr("bareon.tools.cryptsetup.fits", lambda device, found: False)
    made = _containers(_layout(_fs("/boot"), _container("root", "/", key, in_system=True)))[0]
    made = replace(made, device=str(key))  # which is there
    kept = replace(made, opened=replace(made.opened, decision="keep"), decision="keep")
    for container, fits in ((made, True), (kept, False)):
        (crypt,) = container.system.crypttab
        assert crypt.key
        if fits:
            assert crypt.key() == key.read_bytes()
        else:
            with pytest.raises(UnsuitableNode, match="does not open it"):
                crypt.key()


@pytest.mark.parametrize("url", ["https://[::1/x", "https://[x]/", "https://a:b/", "https://a:99999/", "https://:1/"])
def test_a_url_without_a_host_or_port_is_none(url: str) -> None:
    assert not luks_wanted._is_url(url)
    assert luks_wanted._is_url("https://[::1]:8443/x") and luks_wanted._is_url("https://keys.example.com/x")


def test_a_recovery_key_is_made_where_somebody_sees_it(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"key")
    made = MakeContainer("x", _containers(_layout(_container("root", "/", tmp_path / "key", recovery=True)))[0])
    with pytest.raises(UnsuitableNode, match="no terminal to show it on"):
        made.preflight()
    with confiding(lambda _: None):
        made.preflight()


def test_no_container_is_made_whose_recovery_key_nobody_saw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_bytes(b"key")
    made = MakeContainer("x", _containers(_layout(_container("root", "/", tmp_path / "key", recovery=True)))[0])
    monkeypatch.setattr("bareon.tools.cryptsetup.make", lambda *_: pytest.fail("it was made"))
    master, slave = os.openpty()
    with confiding(terminal(os.ttyname(slave))):
        made.preflight()
        os.close(slave)
        os.close(master)
        with pytest.raises(
            ActionFailed, match=r"root is not made, since nobody would see .* the terminal .* is gone"
        ):
            made.run(lambda *_: None)
