# SPDX-License-Identifier: Apache-2.0
"""Plug-ins for bareon."""
