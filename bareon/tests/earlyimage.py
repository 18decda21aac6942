# SPDX-License-Identifier: Apache-2.0
"""An image on a server that is asked for single files before the first write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence


class EarlyImage:
    """What an image brings, by its ``files`` with their absolute paths; it has no links."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files

    def __call__(self, paths: Sequence[str], /) -> Mapping[str, bytes]:
        return {x: self.files[x] for x in paths if x in self.files}

    def folders(self, *paths: str) -> list[str]:
        return sorted({x for path in paths for x in self._folders(path)})

    def _folders(self, path: str) -> Iterator[str]:
        below = (x.removeprefix(f"{path}/") for x in self.files if x.startswith(f"{path}/"))
        return (f"{path}/{x.split('/')[0]}" for x in below if "/" in x)

    def sizes(self, path: str) -> Mapping[str, int]:
        return {x: len(content) for x, content in self.files.items() if x.rpartition("/")[0] == path}
