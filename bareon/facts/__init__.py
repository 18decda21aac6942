# SPDX-License-Identifier: Apache-2.0
"""What is there: values (:mod:`.node`) and the one reader of the machine (:mod:`.probe`)."""
