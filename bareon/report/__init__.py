# SPDX-License-Identifier: Apache-2.0
"""Output of a run, for people and programs: progress, the report, its page, and the bundle of a failed run."""
