# SPDX-License-Identifier: Apache-2.0
"""The two kinds of drivers: dialects of input (:mod:`.data`) and ways the bits arrive (:mod:`.deploy`)."""
