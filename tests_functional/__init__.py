# SPDX-License-Identifier: Apache-2.0
"""Functional tests: whole deployments on virtual machines, and the bench that runs them."""
