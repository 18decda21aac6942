# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
import shlex
import subprocess
import tempfile
from pathlib import Path

import pytest

from bareon.actions.bootloader import _bootif
from bareon.boot.arguments import arguments, of_image
from bareon.boot.esp import add_removable
from bareon.boot.grub_defaults import parse, with_kernel_params
from bareon.boot.grub_script import WORD, expanded, split, word, words
from bareon.boot.menu import Entry, configuration, terminal
from bareon.boot.platform import PC_UEFI
from bareon.drivers.data.document import check
from bareon.drivers.data.schema import schema
from bareon.errors import InvalidInput
from bareon.storage.filesystem import Filesystem, Mount, Mounted, PlannedFilesystem
from bareon.system.tree import Tree
from bareon.tools import efi


def _sourced(text: str) -> str:
    """GRUB_CMDLINE_LINUX as grub-mkconfig would see it: the file is a piece of shell."""
    done = subprocess.run(["sh", "-c", f'{text}\nprintf %s "$GRUB_CMDLINE_LINUX"'], capture_output=True, text=True)
    return done.stdout


def _words(text: str) -> list[str]:
    """The kernel parameters that bareon takes from ``/etc/default/grub``."""
    with tempfile.TemporaryDirectory() as root:
        tree = Tree(root)
        tree.write("/etc/default/grub", text)
        return list(of_image(tree).words)


def test_params_are_added_to_those_of_the_image_once() -> None:
    image = 'GRUB_TIMEOUT=1\nGRUB_CMDLINE_LINUX="console=ttyS0"\n'
    once = with_kernel_params(image, "quiet rd.x=1")
    assert _sourced(once) == "console=ttyS0 quiet rd.x=1"
    assert with_kernel_params(once, "quiet rd.x=1") == once
    assert with_kernel_params(once, "") == image
    assert with_kernel_params(image, "") == image


def test_field_38_parameters_of_an_earlier_document_are_not_the_images() -> None:
    image = 'GRUB_CMDLINE_LINUX="console=ttyS0"\n'
    assert _words(with_kernel_params(image, "resume=UUID=old")) == ["console=ttyS0"]


def test_params_run_nothing() -> None:
    """Even those that no document can have: the shell of grub-mkconfig takes them as they are."""
    evil = "a=$(touch /x) `id` ; echo"
    assert _sourced(with_kernel_params("", evil)).strip() == evil
    every = "".join(map(chr, (*range(0x20, 0x7F), 0xE9, 0x202E, 0x1F600)))
    assert _sourced(with_kernel_params("", every)) == f" {every}"
    assert shlex.split(with_kernel_params("", "a b"))


def _accepted(params: str) -> bool:
    value = {"partitions": [{"type": "disk", "id": {"type": "name", "value": "vda"}, "volumes": []}]}
    try:
        check(value | {"deploy_data": {"kernel_params": params}}, "ironic.json")
    except InvalidInput as error:
        assert [defect.path for defect in error.defects] == ["$.deploy_data.kernel_params"]
        return False
    return True


def test_a_document_has_no_parameter_that_grub_would_take_for_something_else() -> None:
    """grub-mkconfig writes them into ``grub.cfg`` without any quotes."""
    refused = "\"'$;<>\\`{|}&"
    printable = {chr(code) for code in range(0x21, 0x7F)}
    assert {char for char in printable if not _accepted(f"a={char}b")} == set(refused)
    assert {char for char in printable if not _accepted(f"quiet {char}b")} == {*refused, "#"}
    assert not any(_accepted(f"a{chr(code)}b") for code in (*range(0x20), *range(0x7F, 0xA1), 0x2028, 0x202E, 0xFEFF))
    assert _accepted("a=\xe9 b=\U0001f600")
    nailgun = schema("nailgun.json")["$defs"]["pm_data"]["properties"]["kernel_params"]
    assert nailgun == schema("ironic.json")["properties"]["deploy_data"]["properties"]["kernel_params"]


def test_words_of_grubs_language() -> None:
    assert (
        words(["linux", "/vmlinuz", "a=b,c", "x=*", "y=~", "z=[0-9]"]) == "linux /vmlinuz a=b,c 'x=*' 'y=~' 'z=[0-9]'"
    )
    for evil in ("a b", "$x", "#", "a;b", "{", '"', "\\", "a\nb", "`x`", "<", "&", "\x1b[2J"):
        assert word(evil) == "'" + evil.replace("\n", "").replace("\x1b", "") + "'"
    assert word("it's") == '"it\'s"' and word("") == "''"
    assert word("""'"$\\""") == '"\'\\"\\$\\\\"'


@pytest.mark.parametrize("evil", ["x' { reboot } menuentry 'y", "a\n}\nreboot\n", "$(id)`id`", "\\", "\x1b[2J\u202e"])
def test_names_in_a_menu_stay_names(evil: str) -> None:
    """``PRETTY_NAME`` of an image, what os-prober says, and the name of the image itself."""
    text = configuration([Entry(evil, "/vmlinuz", None, evil, (evil,))])
    lines = text.split("\n")
    assert (
        sum(line.startswith("menuentry '") and line.endswith("' {") and line.count("'") == 2 for line in lines) == 1
    )
    assert not any(line.strip().startswith("reboot") for line in lines)
    assert "\x1b" not in text and "\u202e" not in text


@pytest.mark.parametrize("evil", ["a\nreboot", "$(id)", "`id`", "a;b", "{", "'", "\\", "#x", "\u2028"])
def test_settings_of_an_image_are_no_commands_of_bareons_menu(evil: str) -> None:
    text = f"GRUB_CMDLINE_LINUX={shlex.quote(f'quiet {evil}')}\nGRUB_TERMINAL={shlex.quote(f'serial {evil}')}\n"
    assert not any("id" in line or "reboot" in line for line in terminal(parse(text)))
    entry = Entry("a", "/vmlinuz", None, "u", tuple(_words(text)))
    lines = [split(line) for line in configuration([entry]).split("\n") if line.startswith("  linux")]
    assert lines == [["linux", "/vmlinuz", "quiet", *evil.split(), "${bareon_words}"]]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('"console=ttyS1,115200n8 memmap=16G!8G x"', ["console=ttyS1,115200n8", "memmap=16G!8G", "x"]),
        (r'"memmap=8G\\\$16G isolcpus=7,8"', ["memmap=8G$16G", "isolcpus=7,8"]),
        (r'"memmap=8G\$16G"', ["memmap=8G$16G"]),
        ('"acpi_osi=! nomodeset"', ["acpi_osi=!", "nomodeset"]),
        ('"ip=[fd00::10]::[fd00::1]:64:host:eno1:none"', ["ip=[fd00::10]::[fd00::1]:64:host:eno1:none"]),
        ('"console=ttyS0 \\\n  intel_iommu=on"', ["console=ttyS0", "intel_iommu=on"]),
        ('"a\nb"', ["a", "b"]),
        ('"a"\nGRUB_CMDLINE_LINUX+=" b"', ["a", "b"]),
        ("'dyndbg=\"file x +p\" q'", ["dyndbg=file x +p", "q"]),
        ("a\\ b", ["a", "b"]),
        ("a # b", ["a"]),
        ("a; # b", ["a"]),
        ('"$X b"', ["b"]),
    ],
)
@pytest.mark.pain("parameters-of-another-machine")
def test_field_03_odd_characters_in_parameters_are_kept(text: str, found: list[str], tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    tree.write("/etc/default/grub", f"GRUB_CMDLINE_LINUX={text}\nGRUB_TIMEOUT=1\n")
    brought = of_image(tree)
    assert (list(brought.words), brought.warnings) == (found, ())
    assert parse(tree.read("/etc/default/grub") or "")["GRUB_TIMEOUT"] == "1"
    # What GRUB reads in bareon's menu are the same words again.
    line = words(["linux", "/vmlinuz", *brought.words])
    assert [x for text in re.findall(WORD, line) for x in expanded(text, {})][2:] == found


@pytest.mark.parametrize(
    ("text", "found", "lost"),
    [
        ('GRUB_CMDLINE_LINUX="a b=$(id) c"', ["a", "c"], "GRUB_CMDLINE_LINUX: b=$(…)"),
        ("GRUB_CMDLINE_LINUX=`id`", [], "GRUB_CMDLINE_LINUX: $(…)"),
        ('GRUB_CMDLINE_LINUX="a', [], 'GRUB_CMDLINE_LINUX="a'),
        ("GRUB_CMDLINE_LINUX=a eval x", [], "GRUB_CMDLINE_LINUX=a eval x"),
        ('[ -e /x ] && GRUB_CMDLINE_LINUX_DEFAULT="x"', [], '[ -e /x ] && GRUB_CMDLINE_LINUX_DEFAULT="x"'),
        ('# GRUB_CMDLINE_LINUX="$(id)"', [], ""),
        (f"GRUB_CMDLINE_LINUX='{'x' * 5000}'", [], "GRUB_CMDLINE_LINUX='xxxxx"),
    ],
)
def test_field_03_a_parameter_that_is_lost_is_named(text: str, found: list[str], lost: str, tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    tree.write("/etc/default/grub", f"{text}\nGRUB_CMDLINE_LINUX_DEFAULT=q\n")
    brought = of_image(tree)
    assert list(brought.words) == [*found, "q"]
    assert (lost in str(brought.warnings)) if lost else not brought.warnings


@pytest.mark.pain("parameters-of-another-machine")
def test_field_23_no_root_of_the_image_wins() -> None:
    fs = PlannedFilesystem("/dev/vda3", 1, "ext4", "NEW", Filesystem("ext4"))
    brought = ["root=LABEL=rootfs", "console=ttyS0", "rootfstype=xfs", "rootflags=subvol=@,noatime", "BOOT_IMAGE=x"]
    assert arguments("root=UUID=NEW", brought, Mounted(fs, Mount("/")), "quiet") == (
        *("root=UUID=NEW", "ro", "console=ttyS0", "rootflags=noatime", "quiet"),
    )


@pytest.mark.parametrize(
    ("brought", "params", "flags"),
    [
        ([], "", "subvol=@a"),
        (["rootflags=subvol=@,noatime"], "quiet", "subvol=@a,noatime"),
        (["rootflags=noatime"], "rootflags=compress=zstd,subvolid=7", "subvol=@a,compress=zstd"),
    ],
)
def test_one_word_has_the_subvolume_of_the_root(brought: list[str], params: str, flags: str) -> None:
    fs = PlannedFilesystem("/dev/vda3", 1, "btrfs", "NEW", Filesystem("btrfs"))
    found = arguments("root=UUID=NEW", brought, Mounted(fs, Mount("/", subvolume="@a")), params)
    assert [x for x in found if x != "quiet"] == ["root=UUID=NEW", "ro", f"rootflags={flags}"]


@pytest.mark.parametrize(
    ("given", "handed_on"),
    [
        *((x, x) for x in ("BOOTIF=01-52-54-00-12-34-56", "BOOTIF=52:54:00:aA:34:56")),
        ("BOOTIF=20-" + "-".join(["00"] * 20), "BOOTIF=20-" + "-".join(["00"] * 20)),
        *((x, "") for x in ("BOOTIF=eth0", "BOOTIF=01-52$(id)", "BOOTIF=01-52-54-00-12-34-56;reboot", "BOOTIF=", "")),
        *((f"BOOTIF=01-52-54-00-12-34-{x}", "") for x in ("", "5", "56'", "56{", "\u0665\u0665")),
    ],
)
def test_bootif_is_an_address(given: str, handed_on: str) -> None:
    assert _bootif(f"ip=dhcp {given} quiet") == [handed_on] * bool(handed_on)


def test_configuration_of_an_image_without_grub() -> None:
    entries = [
        Entry(
            "debian, it's 6.1",
            "/boot/vmlinuz-6.1",
            "/boot/initrd.img-6.1",
            "boot-uuid",
            ("root=UUID=root-uuid", "ro"),
        ),
        Entry("debian, 5.10", "/boot/vmlinuz-5.10", None, "boot-uuid", ("root=UUID=root-uuid", "ro"), ("lvm",)),
    ]
    text = configuration(entries, ["serial --unit=0"], default=1)
    assert text.count("set default=") == text.count("\nset default=1\n") == 1
    assert "\nserial --unit=0\n" in text
    assert "menuentry 'debian, its 6.1' {\n  search --no-floppy --fs-uuid --set=root boot-uuid\n" in text
    assert (
        "  linux /boot/vmlinuz-6.1 root=UUID=root-uuid ro ${bareon_words}\n  initrd /boot/initrd.img-6.1\n}\n" in text
    )
    assert "{\n  insmod lvm\n" in text
    assert "  linux /boot/vmlinuz-5.10 root=UUID=root-uuid ro ${bareon_words}\n}\n" in text


def test_settings_of_an_image_are_read_without_a_shell() -> None:
    text = """
GRUB_TIMEOUT=1
GRUB_DISTRIBUTOR=`lsb_release -i -s 2> /dev/null || echo Debian`
GRUB_CMDLINE_LINUX_DEFAULT="quiet"  # a comment
export GRUB_CMDLINE_LINUX='console=tty0'
GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX console=ttyS0,115200"
GRUB_TERMINAL="console serial"
GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
GRUB_BROKEN="no end
rm -rf /
"""
    found = parse(text)
    assert set(found) == {
        *("GRUB_TIMEOUT", "GRUB_CMDLINE_LINUX_DEFAULT", "GRUB_CMDLINE_LINUX"),
        *("GRUB_TERMINAL", "GRUB_SERIAL_COMMAND"),
    }
    assert _words(text) == ["console=tty0", "console=ttyS0,115200", "quiet"]
    serial = "serial --unit=0 --speed=115200"
    assert terminal(found) == [serial, "terminal_input console serial", "terminal_output console serial"]
    assert terminal(parse("GRUB_TERMINAL=console")) == []
    assert terminal(parse('GRUB_TERMINAL=serial\nGRUB_SERIAL_COMMAND="halt"')) == []


@pytest.mark.parametrize(
    ("path", "found"),
    [
        *((path, efi.Entry("bareon A")) for path in ("", "0401", "0404ffff", "04012a0002")),
        ("04040600ff00", efi.Entry("bareon A", None, "\xff")),
    ],
)
def test_broken_entries_in_nvram(path: str, found: efi.Entry) -> None:
    option = bytes.fromhex("07000000010000001000") + "bareon A\0".encode("utf-16-le") + bytes.fromhex(path)
    assert efi.entry(option) == found
    assert efi.entry(option[:20]) == efi.entry(b"\0\0\0\0") == efi.Entry("")


def test_removable_path(tmp_path: Path) -> None:
    folder = tmp_path / "EFI/debian"
    folder.mkdir(parents=True)
    for name in ("grubx64.efi", "grub.cfg", "fbx64.efi", "BOOTX64.CSV"):
        (folder / name).write_text(name)
    assert add_removable(str(tmp_path), PC_UEFI) == "\\EFI\\debian\\grubx64.efi"
    boot = tmp_path / "EFI/BOOT"
    assert {path.name: path.read_text() for path in boot.iterdir()} == {
        "BOOTX64.EFI": "grubx64.efi",
        "grub.cfg": "grub.cfg",
    }
    (folder / "shimx64.efi").write_text("shim")
    assert add_removable(str(tmp_path), PC_UEFI) == "\\EFI\\debian\\shimx64.efi"
    assert (boot / "BOOTX64.EFI").read_text() == "shim"
    assert (boot / "grubx64.efi").read_text() == "grubx64.efi"


def test_an_image_cannot_take_memory_or_time() -> None:
    doubling = "GRUB_A=xxxxxxxxxx\n" + "GRUB_A=$GRUB_A$GRUB_A\n" * 40
    assert len(parse(doubling)["GRUB_A"]) <= 4096
    assert parse(f"GRUB_B='{'x' * 6_000_000}'\nGRUB_C=1") == {"GRUB_C": "1"}


def test_a_comment_stays_one_whatever_ends_a_line_elsewhere() -> None:
    assert parse("# note\x0cGRUB_X=1\n# note\u2028GRUB_Y=1") == {}
    assert with_kernel_params("# a\x0cb\n", "") == "# a\x0cb\n"
