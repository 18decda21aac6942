# SPDX-License-Identifier: Apache-2.0
"""From what is wanted and what is there to what will be: pure functions, no I/O."""
