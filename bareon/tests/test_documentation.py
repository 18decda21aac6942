# SPDX-License-Identifier: Apache-2.0
"""The documentation says what is: its examples are run, its figures come from the program, and it builds.

``python doc/regenerate.py`` renews what is generated.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import textwrap
import typing
from pathlib import Path
from types import ModuleType
from typing import Any

import docutils.core
import docutils.nodes
import pytest

from bareon import facts
from bareon.model.node import NodeFacts
from bareon.storage import kinds
from bareon.tests.conftest import Record

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "doc/source"
EXAMPLES = SOURCE / "examples"
JSON_BLOCK = re.compile(r"^\.\. code-block:: json\n\n((?: {3,}.*\n|\n)+)", re.M)


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    found = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = found  # dataclasses look up their module
    spec.loader.exec_module(found)
    return found


sys.path.insert(0, str(ROOT / "doc"))  # where its own parts are
regenerate = _module(ROOT / "doc/regenerate.py")
pains = regenerate.pains


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=_name)
def test_each_example_is_accepted_by_the_validator(path: Path) -> None:
    assert regenerate.run(["bareon-data-validator", path.name]) == (0, f"{path.name}: no defects\n")


@pytest.mark.parametrize("path", sorted((EXAMPLES / "nailgun").glob("*.json")), ids=_name)
def test_each_example_of_the_other_dialect_is_accepted_too(path: Path) -> None:
    argv = ["bareon-data-validator", "--data_driver", "nailgun", f"nailgun/{path.name}"]
    assert regenerate.run(argv) == (0, f"nailgun/{path.name}: no defects\n")


@pytest.mark.parametrize("path", sorted((EXAMPLES / "nodes").glob("*.json")), ids=_name)
def test_each_saved_node_can_be_read(path: Path) -> None:
    assert facts.from_json(json.loads(path.read_bytes())).disks


@pytest.mark.parametrize("path", regenerate.texts(), ids=_name)
def test_what_is_generated_is_up_to_date(path: Path) -> None:
    assert path.read_text() == regenerate.texts()[path](), "run python doc/regenerate.py and look at the difference"


def test_every_example_is_shown_or_used() -> None:
    pages = [path.read_text() for path in [*SOURCE.rglob("*.rst"), *(EXAMPLES / "transcripts").glob("*.txt")]]
    files = [path for path in EXAMPLES.rglob("*.*") if path.is_file() and "__pycache__" not in path.parts]
    unused = [path for path in files if not any(str(path.relative_to(EXAMPLES)) in page for page in pages)]
    assert files
    assert not unused


def test_every_json_is_an_example_that_is_run(record_property: Record) -> None:
    """A block of JSON in a page is one of the files, and each file is planned or validated in a transcript."""
    pages = [*SOURCE.rglob("*.rst"), ROOT / "README.rst", ROOT / "CONTRIBUTING.rst"]
    known = {path.read_text() for path in EXAMPLES.rglob("*.json")}
    blocks = [textwrap.dedent(block) for page in pages for block in JSON_BLOCK.findall(page.read_text())]
    assert blocks and not [block for block in blocks if block.strip() + "\n" not in known]
    lines = [line for path in (EXAMPLES / "transcripts").glob("*.txt") for line in path.read_text().splitlines()]
    commands = [line for line in lines if line.startswith("$ bareon")]
    inputs = [path for path in EXAMPLES.rglob("*.json") if path.parent.name not in ("nodes", "plans")]
    missing = [path.name for path in inputs if not any(path.name in command for command in commands)]
    assert not missing
    record_property("examples of the documentation", f"{len(inputs)} inputs, run by {len(commands)} commands")


def test_readme_quotes_the_example_and_its_plan() -> None:
    blocks = [block.astext() + "\n" for block in _parsed(ROOT / "README.rst").findall(docutils.nodes.literal_block)]
    assert (EXAMPLES / "two-disks.json").read_text() in blocks
    assert (EXAMPLES / "transcripts/two-disks.txt").read_text() in blocks


@pytest.mark.parametrize("name", ["README.rst", "CHANGES.rst", "CONTRIBUTING.rst", "SECURITY.rst"])
def test_plain_pages_need_no_sphinx(name: str) -> None:
    assert _parsed(ROOT / name).findall(docutils.nodes.section)


def test_every_promise_has_a_test_and_every_test_is_there() -> None:
    """The tables of SECURITY.rst: a promise, and tests or cases that hold it."""
    promises = [
        [entry.astext() for entry in row.findall(docutils.nodes.entry)]
        for row in _parsed(ROOT / "SECURITY.rst").findall(docutils.nodes.row)
    ]
    promises = [row for row in promises if len(row) == 2 and row != ["Promise", "Tests"]]
    assert len(promises) >= 20
    for promise, tests in promises:
        named = re.split(r",\s+", tests)
        assert all(map(_is_test, named)), f"{promise}: {[name for name in named if not _is_test(name)]}"


def _is_test(name: str) -> bool:
    """True for ``FILE::FUNCTION``, or a case, from the top of the tree or from ``bareon/tests``."""
    file, _, function = name.partition("::")
    path = ROOT / file if file.startswith("tests_functional/") else ROOT / "bareon/tests" / file
    if not path.is_file():
        return False
    if path.suffix == ".yaml":
        return "cases" in path.parts and not function
    return re.search(rf"^def {re.escape(function or 'nothing')}\(", path.read_text(), re.M) is not None


def test_every_pain_has_a_test_or_a_reason() -> None:
    known, found = pains.load(), pains.marks()
    assert not pains.defects(known, found)
    tests = {name for names in found.values() for name in names}
    assert len(tests) > 100 and all(map(_is_test, tests)), [name for name in tests if not _is_test(name)]


def test_a_pain_without_a_test_and_a_test_without_a_pain_are_defects() -> None:
    proven, unproven, left = (pains.Pain(x, "k", "it hurts", "heals", None) for x in "abc")
    left = dataclasses.replace(left, does=None, left_alone="somebody else's")
    assert pains.defects([proven, left], {"a": ["test_x.py::test_y"]}) == []
    assert pains.defects([proven, unproven, left], {"a": ["x"], "c": ["y"], "d": ["z"]}) == [
        "b: no test",
        "c: tests of what is left alone",
        "d: no such pain, though z names it",
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('@pytest.mark.pain("a", "b")\ndef test_x() -> None: ...\n', [("a", "test_x"), ("b", "test_x")]),
        (
            '@pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.pain("a"))])\ndef test_x(): ...\n',
            [("a", "test_x")],
        ),
        ('@pytest.mark.pain("a")\ndef helper(): ...\n', None),
        ('PAIN = pytest.mark.pain("a")\n\n\n@PAIN\ndef test_x(): ...\n', None),
    ],
)
def test_a_mark_is_found_where_it_counts(text: str, names: list[tuple[str, str]] | None, tmp_path: Path) -> None:
    (tmp_path / "test_m.py").write_text(text)
    if names is None:
        with pytest.raises(ValueError, match="on no test"):
            list(pains._of_module(tmp_path / "test_m.py"))
    else:
        assert list(pains._of_module(tmp_path / "test_m.py")) == names


def test_contributing_shows_every_room_of_the_house() -> None:
    shown = set(re.findall(r"^``bareon/([\w.]+)/?``  ", (ROOT / "CONTRIBUTING.rst").read_text(), re.M))
    there = {path.name for path in (ROOT / "bareon").iterdir() if not path.name.startswith("__")}
    assert shown == there


def _parsed(path: Path) -> docutils.nodes.document:
    """The page as docutils alone reads it, without any inclusion: what PyPI does. Warnings are errors."""
    settings = {"halt_level": 2, "report_level": 2, "file_insertion_enabled": False, "raw_enabled": False}
    return docutils.core.publish_doctree(path.read_text(), str(path), settings_overrides=settings)


@pytest.mark.parametrize("name", ["plan", "node-facts"])
def test_every_key_is_documented(name: str) -> None:
    page = (SOURCE / f"reference/{name}.rst").read_text()
    found = {"plan": _plan_keys, "node-facts": _fact_keys}[name]()
    assert len(found) > 5
    assert not [key for key in sorted(found) if f"``{key}``" not in page]


@pytest.mark.parametrize("path", sorted((ROOT / "bareon").rglob("schemas/*.json")), ids=_name)
def test_every_field_of_a_schema_has_a_description(path: Path) -> None:
    whole = json.loads(path.read_text())
    objects = {"document": whole} | {name: x for name, x in whole.get("$defs", {}).items() if "properties" in x}
    fields = {
        f"{name}.{key}": {**whole.get("$defs", {}).get(field.get("$ref", "").rpartition("/")[2], {}), **field}
        for name, value in objects.items()
        for key, field in value["properties"].items()
    }
    assert len(fields) > 10
    # What a type may be is said by the description of the object itself.
    assert not [path for path, field in fields.items() if not field.get("description") and not path.endswith(".type")]


def _plan_keys() -> set[str]:
    return {key for path in (EXAMPLES / "plans").glob("*.json") for key in _keys(json.loads(path.read_text()))}


def _keys(value: Any) -> set[str]:
    if isinstance(value, list):
        return {key for item in value for key in _keys(item)}
    return {key for name, item in value.items() for key in {name, *_keys(item)}} if isinstance(value, dict) else set()


def _fact_keys() -> set[str]:
    """The keys of the node and of all that may be in it; each kind of storage has a section of its own."""
    sections = {kind.section: kind.found for kind in kinds.sections()}
    assert {"arrays", "volume_groups"} <= set(sections)
    own = _fields(NodeFacts) - {"structures"}
    return own.union(sections, *(_fields(found) for found in sections.values()))


def _fields(form: Any) -> set[str]:
    """The names of a dataclass' fields, and of those of the dataclasses in it."""
    if not dataclasses.is_dataclass(form):
        return {name for inner in typing.get_args(form) for name in _fields(inner)}
    return {key for name, hint in typing.get_type_hints(form).items() for key in {name, *_fields(hint)}}


@pytest.mark.parametrize("builder", ["html", "man"])
def test_the_documentation_builds_without_a_warning(builder: str, tmp_path: Path) -> None:
    options = ["-E", "-n", "-W", "--keep-going", "-q", "-b", builder, "-d", str(tmp_path / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, str(SOURCE), str(tmp_path / builder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    if builder == "html":
        assert (tmp_path / "html/reference/plan.html").stat().st_size > 10_000
    else:
        commands = importlib.metadata.entry_points(group="console_scripts")
        ours = {entry.name for entry in commands if entry.name.startswith("bareon-")}
        assert {path.stem for path in (tmp_path / "man").glob("*.[18]")} == ours
