# SPDX-License-Identifier: Apache-2.0
"""LLDP (IEEE 802.1AB): what switches say of themselves at the ports of this node, and who has said it so far."""
