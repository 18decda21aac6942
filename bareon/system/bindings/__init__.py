# SPDX-License-Identifier: Apache-2.0
"""What an image knows of the machine that it was made on: one module for each thing, :mod:`.table` lists them."""
