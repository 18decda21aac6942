# SPDX-License-Identifier: Apache-2.0
"""The bench: virtual nodes, their network and image servers, the ramdisk and tenant builders.

Nothing here imports bareon: the code under test is what the ramdisk's wheel holds.
"""
