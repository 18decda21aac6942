# SPDX-License-Identifier: Apache-2.0
"""The rules of the house, as far as a program can hold them."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bareon.storage.kinds import KINDS

ROOT = Path(__file__).parents[2]

CHECKS = {
    "ruff": [sys.executable, "-m", "ruff", "check", "."],
    "format": [sys.executable, "-m", "ruff", "format", "--check", "."],
    "mypy": [sys.executable, "-m", "mypy", "--strict", "bareon"],
    "mypy of the bench": [sys.executable, "-m", "mypy", "--strict", "building", "ramdisk", "tests_functional"],
    "mypy of the benchmarks": [sys.executable, "-m", "mypy", "--strict", "benchmarks"],
    "layers": [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
}


@pytest.mark.parametrize("name", CHECKS)
def test_checks(name: str) -> None:
    done = subprocess.run(CHECKS[name], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "bareon").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_license_header(path: Path) -> None:
    text = path.read_text()
    assert not text or text.startswith("# SPDX-License-Identifier: Apache-2.0\n")


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty = {"util", "utils", "helper", "helpers", "common", "manager", "misc"}
    assert not [path for path in (ROOT / "bareon").rglob("*.py") if path.stem in empty]


def test_a_dialect_is_known_to_its_driver_alone() -> None:
    package = ROOT / "bareon"
    apart = (package / "drivers/data", package / "tests")
    files = (path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc")
    others = [path for path in files if not any(path.is_relative_to(folder) for folder in apart)]
    assert len(others) > 50
    assert not [path for path in others if b"nailgun" in path.read_bytes().lower()]


#: What all kinds of storage may know: the grammar, disks, and file systems, which lie on any of them.
GROUND = {"kind", "disk", "allocate", "identifier", "schema", "filesystem", "mountpoint", "mkfsoptions", "reader"}
GROUND |= {"cryptkey", "erase", "multipath"}
#: Kinds that others know by name: every disk has a table, and in the end there is a file system on everything.
KNOWN = {"gpt", "filesystem"}


def _imported(path: Path) -> set[str]:
    """The modules of ``bareon.storage`` that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "bareon.storage":
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bareon.storage."):
            found.add(str(node.module).split(".")[2])
    return found


def _kinds() -> set[str]:
    """The modules of the kinds of storage; one that is large is a package."""
    return {type(kind).__module__.split(".")[2] for kind in KINDS}


def test_a_kind_of_storage_knows_no_other() -> None:
    kinds = _kinds()
    assert len(kinds) == len(KINDS) > 3
    for name in kinds:
        files = list((ROOT / "bareon/storage").glob(f"{name}.py")) + list(
            (ROOT / "bareon/storage" / name).glob("*.py")
        )
        assert files
        for path in files:
            assert _imported(path) - {name} <= GROUND, path


def test_nobody_else_names_a_kind_of_storage() -> None:
    kinds = _kinds() - KNOWN
    apart = (ROOT / "bareon/storage", ROOT / "bareon/tests", ROOT / "bareon/drivers/data/spaces.py")
    files = [x for x in (ROOT / "bareon").rglob("*.py") if not any(x.is_relative_to(folder) for folder in apart)]
    assert len(files) > 50
    assert not [path for path in files if _imported(path) & kinds]


def _is_place_in_a_tree(node: ast.AST) -> bool:
    """True for what gives the path of a file in the tree of an image, as the ramdisk sees it."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr in ("outside", "folder")
    return isinstance(node, ast.Attribute) and node.attr == "root" and ast.unparse(node.value).endswith("tree")


def _opened_by_path(source: str) -> list[str]:
    """The calls that open such a path, or ask the kernel for it in another way."""
    calls = (x for x in ast.walk(ast.parse(source)) if isinstance(x, ast.Call))
    openers = (x for x in calls if re.fullmatch(r"open|(?:pathlib\.)?Path|(?:os|io|shutil)\..*", ast.unparse(x.func)))
    return [ast.unparse(x) for x in openers if any(map(_is_place_in_a_tree, ast.walk(x)))]


def test_nothing_in_the_tree_of_an_image_is_opened_by_its_path() -> None:
    wrong = "Path(tree.outside(x)).read_text(); open(f'{self.tree.root}/x'); shutil.copy(place, tree.folder('/x'))"
    assert len(_opened_by_path(wrong)) == 3
    package = ROOT / "bareon"
    apart = package / "tests"
    files = [x for x in (*package.rglob("*.py"), *(ROOT / "examples").rglob("*.py")) if not x.is_relative_to(apart)]
    assert len(files) > 50
    assert not {str(x): found for x in files if (found := _opened_by_path(x.read_text()))}


def test_a_program_of_an_image_is_started_in_the_sandbox_alone() -> None:
    """Whatever is started below a tree is started by what enters it."""
    enters = re.compile(r"""["'](?:chroot|bwrap|nsenter|unshare|systemd-nspawn)["']|os\.chroot""")
    files = [x for x in (ROOT / "bareon").rglob("*.py") if not x.is_relative_to(ROOT / "bareon/tests")]
    assert {x.name for x in files if enters.search(x.read_text())} == {"entrance.py", "sandbox.py", "seccomp.py"}


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.stem)
def test_benchmarks_can_be_started(path: Path) -> None:
    importlib.import_module(f"benchmarks.{path.stem}")
