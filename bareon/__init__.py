# SPDX-License-Identifier: Apache-2.0
"""bareon puts operating systems onto bare metal."""
