# SPDX-License-Identifier: Apache-2.0
"""Block images: file systems as files, in the forms and with the damage that image servers offer."""

from tests_functional.bench.blockimage.build import Images, build

__all__ = ["Images", "build"]
