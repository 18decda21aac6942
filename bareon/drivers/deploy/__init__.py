# SPDX-License-Identifier: Apache-2.0
"""Deploy drivers, plug-ins of ``bareon.drivers.deploy``: they differ only in how the bits of an image arrive."""
