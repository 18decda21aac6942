# SPDX-License-Identifier: Apache-2.0
"""``bareon-boot status`` and ``confirm``: what runs, is the default and comes next, for people and for programs."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from bareon.boot import bareon_boot, info, menu
from bareon.boot.info import Listed
from bareon.boot.menu import Entry
from bareon.model.image import Image
from bareon.model.location import Location
from bareon.system.tree import Tree

NO_SYSTEM = "(cannot boot: holds no system)"
ODD = 'a "b" \\c'
IMAGES = [
    Listed(Image("one", Location("rsync://a/1"), uuid="i-1"), 0, None, "One", "r-1"),
    Listed(Image(ODD, Location("rsync://a/2")), 1, None, ODD, "r-2"),
    Listed(Image("data", Location("rsync://a/3"))),
]


@pytest.fixture
def partition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "boot/grub2"
    folder.mkdir(parents=True)
    entries = [Entry(x, "/vmlinuz", None, "u", ()) for x in ("One", "Two")]
    (folder / "grub.cfg").write_text(menu.configuration(entries, menu.once()))
    (folder / "grubenv").write_text(menu.environment())
    (folder / "bareon-images").write_text(info.table(IMAGES))
    monkeypatch.setenv("BAREON_MULTIBOOT", str(tmp_path))
    return folder


def _run(
    *words: str,
    running: str = "",
    meanwhile: str = ":",
    health: str = "",
    instead: str = "",
    systemd: str = "/absent",
) -> subprocess.CompletedProcess[str]:
    """Run the script where the image with that UUID is the one that runs.

    ``meanwhile`` is run in place of waiting, ``health`` is the program that tells of it. ``instead`` are lines that
    put something in the place of what the script calls.
    """
    there = [f"is_on() {{ [ \"$2\" = '{running}' ]; }}"] if running else []
    there += [
        "reboot() { echo it restarts; }",
        "uptime() { echo 0; }",
        f"sleep() {{ echo waits $1; {meanwhile}; }}",
        instead,
        "command=${1:-}\n",
    ]
    script = bareon_boot.script(["u"]).replace("command=${1:-}\n", "\n".join(there))
    script = script.replace("/etc/bareon/health", health or "/absent").replace("/run/systemd/system", systemd)
    return subprocess.run(["sh", "-s", "--", *words], input=script, capture_output=True, text=True)


def test_it_says_what_runs_and_what_comes_next(partition: Path) -> None:
    done = _run("status")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:3] == ["running: none", "default: one", "next time only: none"]
    assert _run("switch", "--once", "1").returncode == 0
    done = _run("status", running="r-1")
    assert done.stdout.splitlines() == [
        *("running: one", "default: one", f"next time only: {ODD}", "started once, not confirmed: none"),
        "tried, and failed: none",
    ]


def test_programs_get_it_as_json(partition: Path) -> None:
    assert json.loads(_run("status", "--json", running="r-2").stdout) == {
        "running": 1,
        "default": 0,
        "next": None,
        "tried": None,
        "failed": None,
        "images": [
            {"number": 0, "name": "one", "uuid": "i-1", "root_uuid": "r-1", "title": "One"},
            {"number": 1, "name": ODD, "uuid": None, "root_uuid": "r-2", "title": ODD},
            {"number": None, "name": "data", "uuid": None, "root_uuid": None, "title": NO_SYSTEM},
        ],
    }


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"a\t\"\\$(id)`id`'\r\x1b", "a"),
        ("gr\u00fcn \u65e5 \U0001f600".encode(), "gr\u00fcn \u65e5 \U0001f600"),
        (b"a\xff", "a?"),
        (b"\xc3", "?"),
        (b"\xed\xa0\x80\xc0\x80", "?????"),  # a half of a pair, and a longer form than need be
    ],
)
def test_the_json_is_json_whatever_the_list_holds(partition: Path, raw: bytes, name: str) -> None:
    images = partition / "bareon-images"
    images.write_bytes(b"007\t" + raw + b'\ti\t-\t-\t"\\\x0b\n')
    config = partition / "grub.cfg"
    config.write_text(config.read_text().replace("default=0", "default=08"))
    found = json.loads(_run("status", "--json").stdout)
    (image,) = found["images"]
    assert (found["default"], image["number"], image["name"]) == (None, None, name)


def test_a_block_that_is_cut_off_takes_no_place(partition: Path) -> None:
    before = (partition / "grubenv").read_bytes()
    # So that no file can be larger than 512 bytes, as on a partition that is full.
    done = _run("switch", "1", "--once", instead="trap '' XFSZ; ulimit -f 1")
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.endswith("bareon-boot: the environment block was cut off\n")
    assert (partition / "grubenv").read_bytes() == before


def test_a_menu_that_cannot_be_replaced_is_told_of(partition: Path) -> None:
    broken = 'mv() { case $2 in *grub.cfg) return 1 ;; esac; command mv "$@"; }'
    done = _run("switch", "1", instead=broken)
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr == "bareon-boot: the boot loader's partition cannot be written\n"


def test_one_waits_for_another_that_writes(partition: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another has mounted to write to it cannot be mounted to be read alone."""
    busy = f"""\
mount() {{
    case $* in *ro,nosuid*) return 32 ;; esac
    for place; do :; done
    cp -r '{partition.parents[1]}/boot' "$place"
}}
umount() {{ rm -r "$1/boot"; }}
id() {{ echo 0; }}
"""
    monkeypatch.setenv("BAREON_MULTIBOOT", "UUID=u")
    done = _run("list", instead=busy)
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 3)


def test_what_runs_becomes_the_default(partition: Path) -> None:
    assert _run("switch", "--once", "one").returncode == 0
    done = _run("confirm", running="r-2")
    assert (done.returncode, done.stderr) == (0, "")
    status = json.loads(_run("status", "--json").stdout)
    assert (status["default"], status["next"]) == (1, None)
    before = (partition / "grub.cfg").stat().st_ino
    assert _run("confirm", running="r-2").returncode == 0
    assert (partition / "grub.cfg").stat().st_ino == before


def test_what_is_not_confirmed_in_its_time_goes_back(partition: Path) -> None:
    assert _run("switch", "one", "--once", "--within", "9").returncode == 0
    env = partition / "grubenv"
    assert (len(env.read_bytes()), "bareon_trial=0:9\n" in env.read_text()) == (1024, True)
    _run("switch", "--within", "3", "--once", "1")
    assert "nothing is to be confirmed" in _run("await", running="r-1").stdout
    env.write_text(env.read_text().replace("next_entry=1\n", "").ljust(1024, "#"))  # as GRUB does it
    assert json.loads(_run("status", "--json").stdout)["tried"] == 1
    done = _run("await", running="r-2")
    assert done.stdout.splitlines()[1:] == ["waits 180", "it restarts"]
    assert done.stderr == "bareon-boot: this image has not been confirmed: back to the image before\n"
    assert "nothing is to be confirmed" in _run("await", running="r-1").stdout  # and there it stays
    assert _run("status", running="r-1").stdout.splitlines()[-2:] == [
        *(f"started once, not confirmed: {ODD}", f"tried, and failed: {ODD}")
    ]
    for runs, failed in (("r-1", 1), ("r-2", None), ("r-3", None)):  # r-3: a ramdisk, which knows of no start
        assert json.loads(_run("status", "--json", running=runs).stdout)["failed"] == failed
    _run("switch", "0")
    assert json.loads(_run("status", "--json", running="r-1").stdout)["failed"] is None


def test_a_choice_that_grub_did_not_forget_is_removed(partition: Path) -> None:
    _run("switch", "one", "--once", "--within", "9")
    _run("switch", "--within", "3", "--once", "1")
    assert _run("await", running="r-2").stdout.splitlines()[1:] == ["waits 180", "it restarts"]
    block = (partition / "grubenv").read_text()
    assert "next_entry" not in block and "bareon_trial=1:3\n" in block
    assert json.loads(_run("status", "--json", running="r-1").stdout)["failed"] == 1


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"ro": "0", "partition": "3"}, None),
        ({"ro": "0", "dm/uuid": "part3-mpath-3600"}, None),
        ({"ro": "0", "dm/uuid": "LVM-abc"}, "it is on LVM"),
        ({"ro": "0", "dm/uuid": "CRYPT-LUKS2-abc"}, "it is on a device of device-mapper"),
        ({"ro": "0", "md/metadata_version": "1.0"}, "it is on RAID (md)"),
        ({"ro": "0", "partition": "1", "../md/metadata_version": "1.2"}, "it is on RAID (md)"),
        ({"ro": "0", "partition": "1", "../md/metadata_version": "external:/md127/0"}, None),
        ({"ro": "1", "partition": "3"}, "its device is read-only"),
        ({"partition": "3", "../ro": "1"}, "its device is read-only"),
        ({}, "its file system is btrfs"),
    ],
)
def test_what_grub_could_not_forget_is_not_chosen_once(
    partition: Path, tmp_path: Path, files: dict[str, str], why: str | None
) -> None:
    """The files are those of /sys/block."""
    device = tmp_path / "sys/vda/part"
    for name, text in files.items():
        path = device.parent / name[3:] if name.startswith("../") else device / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    numbers = "numbers_of_device() { echo 8:3; }"
    links = f'readlink() {{ [ "$2" = /sys/dev/block/8:3 ] && echo {device}; }}'
    kind = f"stat() {{ echo {'ext2/ext3' if files else 'btrfs'}; }}"
    before = (partition / "grubenv").read_bytes()
    done = _run("switch", "1", "--once", instead="\n".join([numbers, links, kind]))
    if why is None:
        assert (done.returncode, done.stderr) == (0, "")
        return
    assert (done.returncode, done.stdout) == (4, "")
    said = f"GRUB cannot write to the boot loader's partition: {why}. It would start the choice for one boot"
    assert done.stderr == f"bareon-boot: {said} again and again; use switch without --once\n"
    assert (partition / "grubenv").read_bytes() == before


def test_what_is_confirmed_stays(partition: Path) -> None:
    _run("switch", "--within", "3", "--once", "1")
    config = partition / "grub.cfg"
    confirmed = f"sed -i 's/^set default=.*/set default=1/' {config}"
    done = _run("await", running="r-2", meanwhile=confirmed)
    assert done.stdout.splitlines()[1:] == ["waits 180", "this image has been confirmed"]
    config.write_text(config.read_text().replace("default=1", "default=0"))
    assert _run("confirm", running="r-2").returncode == 0
    assert json.loads(_run("status", "--json").stdout)["tried"] is None
    assert "nothing is to be confirmed" in _run("await", running="r-2").stdout
    _run("switch", "--within", "3", "--once", "0")
    _run("switch", "1")
    assert "bareon_trial" not in (partition / "grubenv").read_text()


def test_a_menu_that_has_gone_confirms_nothing(partition: Path) -> None:
    _run("switch", "--within", "3", "--once", "1")
    done = _run("await", running="r-2", meanwhile=f"rm {partition}/grub.cfg")
    assert done.stdout.splitlines()[1:] == ["waits 180", "it restarts"]


def test_who_waits_keeps_nobody_off(partition: Path) -> None:
    _run("switch", "--within", "3", "--once", "1")
    free = f"flock -n {partition.parents[1]} echo free"
    assert _run("await", running="r-2", meanwhile=free).stdout.splitlines()[2] == "free"


@pytest.mark.parametrize(
    ("commands", "lines"),
    [
        ("exit 1", "it restarts"),
        ("exit 0", "waits 60\nit restarts"),
        ("echo starts; exec sleep 100", "starts\nwaits 60\nit restarts"),
    ],
)
def test_an_image_that_ails_goes_back(partition: Path, tmp_path: Path, commands: str, lines: str) -> None:
    _run("switch", "--within", "1", "--once", "1")
    program = tmp_path / "health"
    program.write_text(f"#!/bin/sh\n{commands}\n")
    program.chmod(0o755)
    sooner = 'timeout() { echo "within $3"; command timeout "$1" "$2" 2 "$4"; }'
    said = _run("await", running="r-2", health=str(program), instead=sooner).stdout.split("\n", 1)[1]
    assert re.fullmatch(f"within 60\n{lines}\n", said), said


def test_a_folder_tells_nothing_of_an_image(partition: Path, tmp_path: Path) -> None:
    _run("switch", "--within", "1", "--once", "1")
    assert _run("await", running="r-2", health=str(tmp_path)).stdout.splitlines()[1:] == ["waits 60", "it restarts"]


def test_a_program_that_tells_of_services_runs_when_they_have_started(partition: Path, tmp_path: Path) -> None:
    """systemd says "starting" for a while, and "maintenance" in emergency mode."""
    _run("switch", "--within", "1", "--once", "1")
    program, clock = tmp_path / "health", tmp_path / "clock"
    program.write_text("#!/bin/sh\necho asked\n")
    program.chmod(0o755)
    clock.write_text("0\n")
    sleep = f"sleep() {{ echo $(($(cat {clock}) + $1)) > {clock}; }}; uptime() {{ cat {clock}; }}"
    systemctl = f'systemctl() {{ if [ "$(cat {clock})" -lt TIME ]; then echo starting; else echo maintenance; fi; }}'
    for time, said in ((10, ["asked", "it restarts"]), (70, ["it restarts"])):
        clock.write_text("0\n")
        instead = f"set +C\n{sleep}\n{systemctl.replace('TIME', str(time))}"
        done = _run("await", running="r-2", health=str(program), instead=instead, systemd=str(tmp_path))
        assert (done.stdout.splitlines()[1:], clock.read_text()) == (said, "60\n")


def test_what_is_not_there_yet_is_waited_for(partition: Path) -> None:
    """The service starts before the disks are known, while another bareon-boot may hold the lock."""
    _run("switch", "--within", "3", "--once", "1")
    config = partition / "grub.cfg"
    config.rename(partition / "later")
    done = _run("await", running="r-2", meanwhile=f"[ -f {config} ] || mv {partition}/later {config}")
    assert done.stdout.splitlines() == [
        "waits 5",
        "this image is to be confirmed within 3 minutes, by bareon-boot confirm",
        *("waits 180", "it restarts"),
    ]
    config.unlink()
    done = _run(
        "await",
        running="r-2",
        instead='uptime() { seconds=${seconds:-0}; echo "$seconds"; }',
        meanwhile="seconds=300",
    )
    assert (done.returncode, done.stdout) == (4, "waits 5\n")
    assert done.stderr == "bareon-boot: the menu cannot be read: nothing is to be confirmed\n"


def test_a_disk_that_is_not_found_yet_is_waited_for(partition: Path) -> None:
    """With a mark in the menu, what runs is known as soon as its disk is."""
    _run("switch", "--within", "3", "--once", "1")
    later = "is_on() { return 1; }"
    done = _run("await", instead=later, meanwhile="is_on() { [ $2 = r-2 ]; }")
    assert done.stdout.splitlines()[2:] == ["waits 180", "it restarts"]


def test_a_system_that_cannot_be_shut_down_is_restarted_all_the_same(partition: Path) -> None:
    _run("switch", "--within", "3", "--once", "1")
    broken = 'reboot() { [ "$*" = -f ] && echo by force; }'
    assert _run("await", running="r-2", instead=broken).stdout.splitlines()[2:] == ["by force"]


def test_systemd_waits_in_each_image(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    bareon_boot.install(tree, ["u"])
    assert tree.names("/etc/systemd") == []
    tree.write("/usr/lib/systemd/systemd", "")
    bareon_boot.install(tree, ["u"])
    wanted = tmp_path / "etc/systemd/system/sysinit.target.wants/bareon-boot-await.service"
    assert "ExecStart=/usr/local/sbin/bareon-boot await\n" in wanted.read_text()
    assert "DefaultDependencies=no\n" in wanted.read_text()  # so that it is there in emergency mode
    bareon_boot.remove(tree)
    assert [x for x in tmp_path.rglob("*") if not x.is_dir()] == [tmp_path / "usr/lib/systemd/systemd"]


def test_openrc_waits_in_each_image(tmp_path: Path) -> None:
    tree = Tree(str(tmp_path))
    tree.write("/sbin/openrc-run", "")
    bareon_boot.install(tree, ["u"])
    assert (tmp_path / "etc/runlevels/default/bareon-boot-await").readlink() == Path("/etc/init.d/bareon-boot-await")
    service = tmp_path / "etc/init.d/bareon-boot-await"
    assert service.stat().st_mode & 0o111 and "command_args=await\n" in service.read_text()
    bareon_boot.remove(tree)
    # By its path alone: the link is dangling in this tree.
    assert [x for x in tmp_path.rglob("*") if x.is_symlink() or not x.is_dir()] == [tmp_path / "sbin/openrc-run"]


def test_a_system_that_is_no_image_confirms_nothing(partition: Path) -> None:
    before = (partition / "grub.cfg").read_text()
    done = _run("confirm")
    assert (done.returncode, done.stderr) == (4, "bareon-boot: this system is none of the images in the menu\n")
    assert (partition / "grub.cfg").read_text() == before


@pytest.mark.parametrize(
    "words",
    [
        ("status", "x"),
        ("status", "--json", "x"),
        ("confirm", "one"),
        ("await", "x"),
        ("switch", "one", "--within", "1"),
        ("switch", "1", "--once", "--within", "0"),
        ("switch", "1", "--once", "--within"),
    ],
)
def test_words_that_no_command_has(partition: Path, words: tuple[str, ...]) -> None:
    assert _run(*words).returncode == 2
