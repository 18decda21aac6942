# SPDX-License-Identifier: Apache-2.0
"""What must be right before a ramdisk trusts anybody, or anybody it: the clock, and who may log in."""
