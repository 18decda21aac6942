# SPDX-License-Identifier: Apache-2.0
"""A ramdisk that deploys its node without anybody: what it is told, the document it fetches, the events it sends."""
