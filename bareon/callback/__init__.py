# SPDX-License-Identifier: Apache-2.0
"""Calls from the ramdisk to Ironic: where its API is, who may come in, and heartbeats."""
