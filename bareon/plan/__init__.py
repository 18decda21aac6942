# SPDX-License-Identifier: Apache-2.0
"""What will be done: :class:`~.step.Step` and :class:`~.step.Plan`, and their printed forms."""
