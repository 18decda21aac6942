# SPDX-License-Identifier: Apache-2.0
"""The network of the deploy ramdisk, as the kernel's command line has it in the words of dracut.cmdline(7)."""
