# SPDX-License-Identifier: Apache-2.0
"""``--data_driver short``: one system on one disk, in two lines of TOML."""

import tomllib

from bareon.drivers.data.base import DataDriver
from bareon.errors import Defect, InvalidInput
from bareon.model.deployment import Deployment
from bareon.model.image import Image
from bareon.model.location import Location
from bareon.sizes import Remaining
from bareon.storage.disk import Disk, DiskId, Partition
from bareon.storage.filesystem import Filesystem, Mount


class Short(DataDriver):
    def parse(self, text: bytes) -> Deployment:
        try:
            value = tomllib.loads(text.decode())
        except ValueError as error:
            raise InvalidInput([Defect("$", f"not TOML: {error}")]) from None
        wrong = [key for key in ("disk", "image") if not isinstance(value.get(key), str)]
        if wrong:
            raise InvalidInput(Defect(f"$.{key}", "a string is needed") for key in wrong)
        mount = Mount("/", images=("system",))
        root = Filesystem("ext4", (mount,), images=("system",), path="$.disk")
        volume = Partition(Remaining(), root, path="$.disk")
        disk = Disk(DiskId("name", value["disk"]), None, (volume,), path="$.disk")
        image = Image("system", Location(value["image"]), path="$.image")
        return Deployment("clean", (disk,), images=(image,))
