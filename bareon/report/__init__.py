# SPDX-License-Identifier: Apache-2.0
"""What people and programs are told of a run: progress, the report, its page, and the bundle of a failed run."""
