# SPDX-License-Identifier: Apache-2.0
"""What a boot loader will start, read from what configures it: one module for each mechanism."""
