# SPDX-License-Identifier: Apache-2.0
"""``grub.cfg``: which entry GRUB will boot by itself, and what that starts.

As much of GRUB's language is carried out as decides this: variables, ``if``, the environment block, files that are
included, ``blscfg``. What hangs on the machine is taken as it is on most: commands succeed, no key is held.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from bareon.boot.entries import bls
from bareon.boot.entries.entry import BootEntry
from bareon.boot.grub_script import WORD, expanded
from bareon.errors import ActionFailed
from bareon.system.tree import Tree

_ASSIGNED = re.compile(r"[A-Za-z_]\w*+=")
LARGEST = 4 << 20  # characters of all files together
_DEEPEST = 30
_LONGEST = 4096  # characters of a word and of a variable, which can double in each line
_TOKEN = re.compile(rf"(?P<skip>(?:[ \t]|\\\n|(?<![^\s;{{}}&|])#[^\n]*)++)|[\n;{{}}&|<>]|{WORD}|.", re.DOTALL)
#: What GRUB tells a configuration of itself.
_FEATURES = {"feature_menuentry_id": "y", "feature_timeout_style": "y", "feature_default_font_path": "y"}
#: Commands that fail where nobody is at the keyboard, and those of other loaders.
_FALSE = frozenset({"keystatus", "sleep", "false", "authenticate"})


@dataclass(frozen=True)
class Command:
    """A command and, for a menu entry or ``if``, what is in it."""

    words: tuple[str, ...]
    body: tuple[Command, ...] = ()
    branches: tuple[tuple[tuple[Command, ...], tuple[Command, ...]], ...] = ()


@dataclass
class Item:
    """An entry of a menu, or a menu below it."""

    title: str
    name: str
    entry: BootEntry | None = None
    items: list[Item] = field(default_factory=list)


def default(tree: Tree, path: str, platform: str = "pc") -> BootEntry:
    """The entry that GRUB boots by itself with a ``grub.cfg`` of a system.

    :param platform: what GRUB calls the firmware: ``pc`` or ``efi``.
    :raises ActionFailed: when there is none, or the file cannot be understood.
    """
    menu = _Menu(tree, path, platform)
    menu.run(parse(menu.text(path) or ""))
    entry = _chosen(menu.items, menu.variables.get("default", ""))
    if entry is None:
        raise ActionFailed(f"{path} of {tree.name} has no entry")
    return entry


def _chosen(items: Sequence[Item], choice: str) -> BootEntry | None:
    """As ``grub_menu_get_default`` does it: by number, title or name, the first one where there is no such entry."""
    for _ in range(_DEEPEST):
        if not items:
            return None
        first, _, choice = choice.partition(">")
        number = next((i for i, x in enumerate(items) if first in (x.title, x.name)), 0)
        if first.isdecimal() and first.isascii():
            number = int(first[:9]) if int(first[:9]) < len(items) else 0
        item = items[number]
        if item.entry:
            return item.entry
        items = item.items
    return None


def parse(text: str) -> tuple[Command, ...]:
    """The commands of a configuration.

    :raises ActionFailed: when they are in each other deeper than anybody writes them.
    """
    return _Parser(text).commands(())


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens = list(_tokens(text))
        self.place = 0
        self.depth = 0

    def commands(self, ends: tuple[str, ...]) -> tuple[Command, ...]:
        """Up to a word of ``ends``, which is left for the caller."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ActionFailed("grub.cfg: there are too many blocks in each other")
        found = []
        while self.place < len(self.tokens):
            token = self.tokens[self.place]
            if token in ends:
                break
            if len(token) == 1 and token in "\n;{}&|<>":
                self.place += 1
                continue
            kinds = {"if": self._if, "for": self._loop, "while": self._loop, "until": self._loop}
            found.append(kinds.get(token, self._command)())
        self.depth -= 1
        return tuple(found)

    def _command(self) -> Command:
        words = []
        while self.place < len(self.tokens) and self.tokens[self.place] not in "\n;{}&|<>":
            words.append(self.tokens[self.place])
            self.place += 1
        if self._next("{"):
            body = self.commands(("}",))
            self._next("}")
            return Command(tuple(words), body)
        return Command(tuple(words))

    def _if(self) -> Command:
        branches = []
        while self._next("if", "elif"):
            condition = self.commands(("then",))
            self._next("then")
            branches.append((condition, self.commands(("elif", "else", "fi"))))
        if self._next("else"):
            branches.append(((), self.commands(("fi",))))
        self._next("fi")
        return Command(("if",), branches=tuple(branches))

    def _loop(self) -> Command:
        """A loop is passed over: none of those that are written chooses an entry."""
        self.place += 1
        self.commands(("done",))
        self._next("done")
        return Command(())

    def _next(self, *tokens: str) -> bool:
        there = self.place < len(self.tokens) and self.tokens[self.place] in tokens
        self.place += there
        return there


def _tokens(text: str) -> Iterator[str]:
    for found in _TOKEN.finditer(text):
        if not found["skip"]:
            yield found[0][:_LONGEST]


class _Menu:
    """Carries out a configuration, as far as it makes a menu."""

    def __init__(self, tree: Tree, path: str, platform: str) -> None:
        self.tree, self.path = tree, path
        folder = str(PurePosixPath(path).parent)
        self.variables = {**_FEATURES, "prefix": folder, "config_directory": folder, "grub_platform": platform}
        self.items: list[Item] = []
        self.left = LARGEST
        self.entry: dict[str, list[list[str]]] | None = None
        self.depth = 0

    def text(self, path: str) -> str | None:
        """A file that the configuration names, by a path of the system."""
        text = self.tree.read(re.sub(r"^\([^)]*\)", "", path))
        self.left -= len(text or "")
        if self.left < 0:
            raise ActionFailed(f"{self.path} of {self.tree.name} is larger than any menu")
        return text

    def run(self, commands: Sequence[Command]) -> bool:
        """Carry out commands; true if the last one succeeds."""
        self.depth += 1
        if self.depth > 2 * _DEEPEST:
            raise ActionFailed(f"{self.path} of {self.tree.name} includes itself")
        good = True
        for command in commands:
            good = self._one(command)
        self.depth -= 1
        return good

    def _one(self, command: Command) -> bool:
        if command.branches:
            return next((self.run(body) for condition, body in command.branches if self.run(condition)), True)
        words = [x for word in command.words for x in expanded(word, self.variables)]
        if not words:
            return True
        name, given = words[0], words[1:]
        if name in _FALSE:
            return False
        if name == "function":
            return True
        if _ASSIGNED.match(name):
            return self._set(words, command)
        if name == "!":
            return not self._one(Command(command.words[1:]))
        if self.entry is not None and name.startswith(("linux", "initrd", "search", "chainloader", "multiboot")):
            self.entry.setdefault(name, []).append(given)
        action: Callable[[list[str], Command], bool] | None = getattr(self, f"_{_ACTIONS.get(name, '')}", None)
        return action(given, command) if action else True

    def _set(self, given: list[str], _: Command) -> bool:
        for word in given:
            name, equals, value = word.partition("=")
            if equals:
                self.variables[name] = value[:_LONGEST]
        return True

    def _unset(self, given: list[str], _: Command) -> bool:
        for name in given:
            self.variables.pop(name, None)
        return True

    def _load_env(self, given: list[str], _: Command) -> bool:
        file, names = f"{self.variables['prefix']}/grubenv", []
        words = iter(given)
        for word in words:
            if word in ("-f", "--file"):
                file = next(words, file)
            elif word.startswith("--file="):
                file = word.removeprefix("--file=")
            elif not word.startswith("-"):
                names.append(word)
        for name, value in environment(self.text(file) or "").items():
            if not names or name in names:
                self.variables[name] = value
        return True

    def _source(self, given: list[str], _: Command) -> bool:
        text = self.text(given[0]) if given else None
        return text is not None and self.run(parse(text))

    def _test(self, given: list[str], _: Command) -> bool:
        return self._true([x for x in given if x != "]"])

    def _true(self, given: list[str]) -> bool:
        for word, combine in (("-o", any), ("-a", all)):
            if word in given:
                i = given.index(word)
                return combine([self._true(given[:i]), self._true(given[i + 1 :])])
        match given:
            case ["!", *rest]:
                return not self._true(rest)
            case ["-z", *rest]:
                return not "".join(rest)
            case ["-n", *rest]:
                return bool("".join(rest))
            case ["-s" | "-e" | "-f", path]:
                return bool(self.text(path))
            case ["-d", path]:
                return bool(self.tree.names(path))
            case [one, "=" | "==" | "-eq", other]:
                return one == other
            case [one, "!=" | "-ne", other]:
                return one != other
            case [one]:
                return bool(one)
        return False

    def _blscfg(self, _given: list[str], _: Command) -> bool:
        for entry in bls.read(self.tree, self.variables):
            self.items.append(Item(entry.title, entry.name, entry))
        return True

    def _menuentry(self, given: list[str], command: Command) -> bool:
        outer, self.entry = (self.items, dict(self.variables)), {}
        self.run(command.body)
        title, name = _named(given)
        self.items, self.variables = outer
        self.items.append(Item(title, name, _entry(title, name, self.path, self.entry)))
        self.entry = None
        return True

    def _submenu(self, given: list[str], command: Command) -> bool:
        outer, self.items, variables = self.items, [], dict(self.variables)
        self.run(command.body)
        outer.append(Item(*_named(given), None, self.items))
        self.items, self.variables = outer, variables
        return True


_ACTIONS = {
    **{"set": "set", "unset": "unset", "load_env": "load_env", "source": "source", ".": "source", "[": "test"},
    **{"configfile": "source", "test": "test", "blscfg": "blscfg", "menuentry": "menuentry", "submenu": "submenu"},
}


def _named(given: Sequence[str]) -> tuple[str, str]:
    """The title and the name of an entry, which has no name but its title where none is given."""
    title, name, words = None, None, iter(given)
    for word in words:
        if word in ("--id", "--class", "--users", "--hotkey", "--source"):
            value = next(words, "")
            name = value if word == "--id" else name
        elif word.startswith("--id="):
            name = word.removeprefix("--id=")
        elif not word.startswith("--") and title is None:
            title = word
    return title or "", name or title or ""


def _entry(title: str, name: str, source: str, done: dict[str, list[list[str]]]) -> BootEntry:
    """What an entry starts, of the commands that were carried out in it."""
    kernels = [given for x in ("linux", "linuxefi", "linux16") for given in done.get(x, []) if given]
    initrds = [x for y in ("initrd", "initrdefi", "initrd16") for given in done.get(y, []) for x in given]
    if not kernels:
        return BootEntry(title, source, name=name)
    kernel, *arguments = kernels[-1]
    return BootEntry(
        title,
        source,
        _path(kernel),
        tuple(map(_path, (x for x in initrds if not x.startswith("--")))),
        tuple(arguments),
        _searched(done.get("search", []) + [["--fs-uuid", "--set=root", *x] for x in done.get("search.fs_uuid", [])]),
        name,
    )


def _path(path: str) -> str:
    return re.sub(r"^\([^)]*\)", "", path)


def _searched(commands: Sequence[Sequence[str]]) -> str:
    """The UUID of the file system that the last search by UUID makes the root."""
    for words in reversed(commands):
        plain = [x for x in words if not x.startswith("-")]
        if any(x in ("--fs-uuid", "-u") for x in words) and plain:
            return plain[-1]
    return ""


def environment(text: str) -> dict[str, str]:
    """The variables of an environment block."""
    lines = (line.partition("=") for line in text.split("\n") if not line.startswith("#"))
    return {name: value.replace("\\\\", "\\") for name, equals, value in lines if equals}
