# SPDX-License-Identifier: Apache-2.0
"""What makes initial ramdisks in a deployed system: a module for each such program."""
