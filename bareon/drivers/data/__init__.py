# SPDX-License-Identifier: Apache-2.0
"""Data drivers, plug-ins of ``bareon.drivers.data``: dialects of input, translated into one model."""
