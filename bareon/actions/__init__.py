# SPDX-License-Identifier: Apache-2.0
"""The stages of a deployment, each a plug-in of ``bareon.actions``."""
