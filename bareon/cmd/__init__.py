# SPDX-License-Identifier: Apache-2.0
"""The programs: arguments to drivers to plan to executor to exit code."""
