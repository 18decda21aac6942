# SPDX-License-Identifier: Apache-2.0
"""What will be done: :class:`~.step.Step` and :class:`~.step.Plan`, their printed forms, and the executor."""
