# SPDX-License-Identifier: Apache-2.0
"""Booting a deployed node: GRUB and its menu, the EFI system partition, NVRAM, the choice among several images."""
