# SPDX-License-Identifier: Apache-2.0
"""Kinds of storage, each one module.

Disks hold a graph of *devices* (a path, a size) and their *content*. A content is a leaf (a file system), opens into
devices (an encrypted container), or joins an *aggregate* by its name (a member of an array, a physical volume of a
group), which offers devices again. :mod:`.kind` has the grammar, :mod:`.kinds` the list.
"""
