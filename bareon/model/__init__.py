# SPDX-License-Identifier: Apache-2.0
"""Values: the deployment that is wanted (:mod:`.deployment`), the node, and the layout that was decided.

Frozen values without I/O. Sizes are bytes. ``path`` is the JSON path of the input a value came from, for error
messages; it takes no part in comparisons.
"""
