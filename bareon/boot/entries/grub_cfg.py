# SPDX-License-Identifier: Apache-2.0
"""``grub.cfg``: which entry GRUB will boot by itself, and what that starts.

As much of GRUB's language is carried out as decides this: variables, functions, ``if``, the environment block, files
that are included, ``blscfg``; of the entries the one that boots alone. What hangs on the machine is taken as it is on
most: commands succeed, no key is held.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from bareon.boot.entries import bls
from bareon.boot.entries.entry import BootEntry
from bareon.boot.grub_script import WORD, expanded
from bareon.errors import ActionFailed
from bareon.system.tree import Tree

_ASSIGNED = re.compile(r"[A-Za-z_]\w*+=")
LARGEST = 1 << 20  # characters of all files together, and of all words once their variables have their values
_DEEPEST = 30
_LONGEST = 4096  # characters of a word and of a variable, which can double in each line
_TOKEN = re.compile(rf"(?P<skip>(?:[ \t]|\\\n|(?<![^\s;{{}}&|])#[^\n]*)++)|[\n;{{}}&|<>]|{WORD}|.", re.DOTALL)
#: Where a system has its environment block, as its family calls the folder of GRUB.
_BLOCKS = ("/boot/grub2/grubenv", "/boot/grub/grubenv")
#: What GRUB tells a configuration of itself.
_FEATURES = {"feature_menuentry_id": "y", "feature_timeout_style": "y", "feature_default_font_path": "y"}
#: Commands that fail where nobody is at the keyboard, and those of other loaders.
_FALSE = frozenset({"keystatus", "sleep", "false", "authenticate"})
#: What is not carried out, though it may change what boots.
_PASSED_OVER = frozenset({"for", "while", "until", "eval", "probe", "regexp"})


@dataclass(frozen=True)
class Command:
    """A command and, for a menu entry or ``if``, what is in it."""

    words: tuple[str, ...]
    body: tuple[Command, ...] | None = None
    branches: tuple[tuple[tuple[Command, ...], tuple[Command, ...]], ...] = ()


@dataclass(frozen=True)
class Item:
    """An entry of a menu, or a menu below it, with the commands that are carried out where it is chosen."""

    title: str
    name: str
    entry: BootEntry | None = None
    body: tuple[Command, ...] = ()
    is_menu: bool = False


def default(tree: Tree, path: str, platform: str = "pc") -> BootEntry:
    """The entry that GRUB boots by itself with a ``grub.cfg`` of a system.

    :param platform: what GRUB calls the firmware: ``pc`` or ``efi``.
    :raises ActionFailed: when there is none, or the file cannot be understood.
    """
    menu = _Menu(tree, path, platform)
    menu.run(parse(menu.text(path) or ""))
    entry = menu.chosen()
    if entry is None:
        raise ActionFailed(f"{path} of {tree.name} has no entry")
    return replace(entry, certain=not menu.passed_over)


def _number(items: Sequence[Item], choice: str) -> int:
    """As ``get_entry_number`` of GRUB: by number, title or name, the first one where there is no such entry."""
    if choice.isdecimal() and choice.isascii():
        return int(choice[:9]) if int(choice[:9]) < len(items) else 0
    return next((i for i, x in enumerate(items) if choice in (x.title, x.name)), 0)


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
        """A loop is passed over: none of those that ``grub-mkconfig`` writes chooses an entry."""
        kind = self.tokens[self.place]
        self.place += 1
        self.commands(("done",))
        self._next("done")
        return Command((kind,))

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
        self.functions: dict[str, tuple[Command, ...]] = {}
        self.left = self.words_left = LARGEST
        self.entry: dict[str, list[list[str]]] | None = None  # the commands of the one that is carried out
        self.booted = self.passed_over = False
        self.depth = 0

    def text(self, path: str) -> str | None:
        """A file that the configuration names, by a path of the system."""
        text = self.tree.read(re.sub(r"^\([^)]*\)", "", path))
        self.left -= len(text or "")
        if self.left < 0:
            raise ActionFailed(f"{self.path} of {self.tree.name} is larger than any menu")
        return text

    def chosen(self) -> BootEntry | None:
        """The entry that boots, by what the menu says of its default."""
        choice = self.variables.get("default", "")
        for _ in range(_DEEPEST):
            if not self.items:
                return None
            first, _, choice = choice.partition(">")
            item = self.items[_number(self.items, first)]
            if item.entry:
                return item.entry
            self.items, self.entry = [], None if item.is_menu else {}
            self.run(item.body)
            if self.entry is not None and not self.items:
                return _entry(item, self.path, self.entry)
            if not item.is_menu:  # it has gone on to another menu
                choice = self.variables.get("default", "")
        return None

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
        self._charge(words)
        if not words:
            return True
        name, given = words[0], words[1:]
        if name in _FALSE:
            return False
        self.passed_over |= name in _PASSED_OVER
        if name == "function":
            self.functions |= dict.fromkeys(given[:1], command.body or ())
            return True
        if name in self.functions:
            return self.run(self.functions[name])
        if name == "boot":
            return self._boot()
        if _ASSIGNED.match(name):
            return self._set(words, command)
        if name == "!":
            return not self._one(Command(command.words[1:]))
        if self.entry is not None and not self.booted and name.startswith(_STARTING):
            # One command is another with its first option; what follows the UUID are hints.
            by_uuid = name == "search.fs_uuid"
            words = ["--fs-uuid", *given[:1]] if by_uuid else given
            self.entry.setdefault("search" if by_uuid else name, []).append(words)
        action: Callable[[list[str], Command], bool] | None = getattr(self, f"_{_ACTIONS.get(name, '')}", None)
        return action(given, command) if action else True

    def _charge(self, words: Sequence[str]) -> None:
        self.words_left -= sum(map(len, words)) + len(words)
        if self.words_left < 0:
            raise ActionFailed(f"{self.path} of {self.tree.name} is larger than any menu")

    def _boot(self) -> bool:
        if self.entry is None:
            raise ActionFailed(f"{self.path} of {self.tree.name} boots something before it has a menu")
        self.booted = True
        return True

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
                self.variables[name] = value[:_LONGEST]
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
            case ["-s", path]:
                status = self.tree.status(_path(path))
                return status is not None and status.st_size > 0
            case ["-f", path]:
                return self.tree.is_file(_path(path))
            case ["-e", path]:
                return self.tree.is_file(_path(path)) or bool(self.tree.names(_path(path)))
            case ["-d", path]:
                return bool(self.tree.names(_path(path)))
            case [_, "-lt" | "-le" | "-gt" | "-ge" | "<" | ">" | "-pgt" | "-plt", _]:
                self.passed_over = True
            case [one, "=" | "==" | "-eq", other]:
                return one == other
            case [one, "!=" | "-ne", other]:
                return one != other
            case [one]:
                return bool(one)
        return False

    def _blscfg(self, _given: list[str], _: Command) -> bool:
        for entry in bls.read(self.tree, self.variables):
            self._charge(entry.arguments)
            self.items.append(Item(entry.title, entry.name, entry))
        return True

    def _menuentry(self, given: list[str], command: Command) -> bool:
        self.items.append(Item(*_named(given), body=command.body or ()))
        return True

    def _submenu(self, given: list[str], command: Command) -> bool:
        self.items.append(Item(*_named(given), body=command.body or (), is_menu=True))
        return True


#: Beginnings of the commands that say what an entry starts, and from where.
_STARTING = ("linux", "initrd", "search", "multiboot", "module")
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


def _entry(item: Item, source: str, done: dict[str, list[list[str]]]) -> BootEntry:
    """What an entry starts, of the commands that were carried out in it."""
    kernels = [given for x in ("linux", "linuxefi", "linux16") for given in done.get(x, []) if given]
    initrds = [x for y in ("initrd", "initrdefi", "initrd16") for given in done.get(y, []) for x in given]
    started = [_path(x[0]) for y in ("multiboot", "multiboot2") for x in map(_plain, done.get(y, [])) if x]
    hypervisor = started[-1] if started else ""
    if hypervisor:  # its first module is the kernel, then comes a title
        modules = [_plain(given) for x in ("module", "module2") for given in done.get(x, []) if _plain(given)]
        kernels, initrds = modules[:1], [x[0] for x in modules[1:]]
    if not kernels:
        return BootEntry(item.title, source, name=item.name)
    kernel, *arguments = kernels[-1]
    initrds = [_path(x) for x in initrds if not x.startswith("--")]
    filesystem = _searched(done.get("search", []))
    files = (_path(kernel), tuple(initrds))
    return BootEntry(
        *(item.title, source, *files, tuple(arguments), filesystem), name=item.name, hypervisor=hypervisor
    )


def _plain(given: Sequence[str]) -> list[str]:
    return [x for x in given if not x.startswith("--")]


def _path(path: str) -> str:
    return re.sub(r"^\([^)]*\)", "", path)


def _searched(commands: Sequence[Sequence[str]]) -> str:
    """The UUID of the file system that the last search by UUID makes the root."""
    for words in reversed(commands):
        if any(x.startswith("--set=") and x != "--set=root" for x in words):
            continue
        plain = [x for x in words if not x.startswith("-")]
        if any(x in ("--fs-uuid", "-u") for x in words) and plain:
            return plain[-1]
    return ""


def saved(tree: Tree) -> dict[str, str]:
    """The variables that a system's GRUB finds in its environment block."""
    return environment(next(filter(None, map(tree.read, _BLOCKS)), ""))


def environment(text: str) -> dict[str, str]:
    """The variables of an environment block."""
    lines = (line.partition("=") for line in text.split("\n") if not line.startswith("#"))
    return {name: value.replace("\\\\", "\\") for name, equals, value in lines if equals}
