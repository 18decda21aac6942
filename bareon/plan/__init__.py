# SPDX-License-Identifier: Apache-2.0
"""Plans: :class:`.plan.Plan`, its text and JSON, and the fingerprint of a saved one."""
