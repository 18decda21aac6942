# SPDX-License-Identifier: Apache-2.0
"""Before a ramdisk trusts anybody, or anybody it: the clock, the authorities, and who may log in."""
