# SPDX-License-Identifier: Apache-2.0
"""One module per family of programs: argument lists from values, values from output. No decisions."""
