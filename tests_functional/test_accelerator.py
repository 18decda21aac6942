# SPDX-License-Identifier: Apache-2.0
"""What virtual machines run with is tried, not believed."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests_functional.bench import accelerator
from tests_functional.bench.products import Products
from tests_functional.bench.template import Template

#: Seconds for a kernel that is emulated, on a busy machine.
EMULATED_LIMIT = 120.0


def test_a_kernel_that_runs_is_proof() -> None:
    assert accelerator.works("tcg", Products.received().ramdisk.kernel, EMULATED_LIMIT)


def test_what_does_not_run_is_none(tmp_path: Path) -> None:
    kernel = Products.received().ramdisk.kernel
    assert not accelerator.works("tcg", kernel, 0.5)  # it hangs, as far as can be told
    assert not accelerator.works("no-such-accelerator", kernel, EMULATED_LIMIT)
    (tmp_path / "kernel").write_bytes(os.urandom(100_000))
    assert not accelerator.works("tcg", tmp_path / "kernel", 5.0)


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in accelerator.KNOWN:
        monkeypatch.setenv(accelerator.VARIABLE, name)
        assert accelerator.choose(Path("/nonexistent"), print) == name
    monkeypatch.setenv(accelerator.VARIABLE, "hvf")
    with pytest.raises(ValueError, match="kvm or tcg"):
        accelerator.choose(Path("/nonexistent"), print)


@pytest.mark.parametrize("name", ["one_disk", "uefi"])
def test_a_domain_is_described_for_it(name: str) -> None:
    emulated, accelerated = Template.load(name).machine(), Template.load(name).machine()
    accelerator.apply("tcg", emulated)
    accelerator.apply("kvm", accelerated)
    assert (emulated.get("type"), accelerated.get("type")) == ("qemu", "kvm")
    assert emulated.find("features/tcg") is not None
    assert [dict(cpu.attrib) for cpu in accelerated.findall("cpu")] == [{"mode": "maximum"}]
    # libvirt refuses settings of the emulator elsewhere.
    assert "tcg" not in ET.tostring(accelerated, encoding="unicode")
