# SPDX-License-Identifier: Apache-2.0
"""What builds the ramdisk, and the trees of the tests: Debian trees, wheels, a cache of products."""
