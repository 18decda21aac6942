# SPDX-License-Identifier: Apache-2.0
"""bareon for Ironic's conductor: hardware types and the deploy interface ``bareon``.

The extra ``bareon[ironic]``. It runs in the conductor's process; nothing else of bareon imports it. ``document``,
``outcome``, ``ramdisk`` and ``ssh`` know nothing of Ironic. ``deploy`` and ``hardware`` are what Ironic loads.
"""
