# SPDX-License-Identifier: Apache-2.0
"""The deployed system seen from outside: its mounted tree, the files bareon writes into it."""
