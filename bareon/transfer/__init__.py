# SPDX-License-Identifier: Apache-2.0
"""Block images: from where they are served, through decoding and digest, onto a device, with a few MiB of memory."""
