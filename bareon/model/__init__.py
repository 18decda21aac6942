# SPDX-License-Identifier: Apache-2.0
"""What is wanted (:mod:`.deployment` and its parts) and what was decided (:mod:`.layout`).

Frozen values without I/O. Sizes are bytes. ``path`` is the JSON path of the input a value came from, for error
messages; it takes no part in comparisons.
"""
