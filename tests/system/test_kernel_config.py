"""Kernel configurations."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from orchestrator.system import kernel_config

TEXT = """#
# Automatically generated file; DO NOT EDIT.
CONFIG_LOCALVERSION="-x"
CONFIG_KEXEC_HANDOVER=y
CONFIG_LIVEUPDATE=y
# CONFIG_LIVEUPDATE_MEMFD is not set
CONFIG_HZ=250
"""


def test_what_is_not_set_is_not_there() -> None:
    found = kernel_config.parse(TEXT)
    assert found == {
        "CONFIG_LOCALVERSION": "-x",
        "CONFIG_KEXEC_HANDOVER": "y",
        "CONFIG_LIVEUPDATE": "y",
        "CONFIG_HZ": "250",
    }
    assert not kernel_config.hands_over(found)
    assert kernel_config.hands_over({**found, "CONFIG_LIVEUPDATE_MEMFD": "y"})


def test_a_file_may_be_compressed_and_may_be_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_bytes(gzip.compress(TEXT.encode()))
    assert (kernel_config.read(path) or {})["CONFIG_HZ"] == "250"
    for content in (b"", b"\x1f\x8bdamaged", bytes(100)):
        path.write_bytes(content)
        assert kernel_config.read(path) is None
    assert kernel_config.read(tmp_path) is None


@pytest.mark.parametrize(
    "image",
    [
        b"",
        b"IKCFG_ST",
        b"IKCFG_STIKCFG_ED",
        b"IKCFG_ST" + gzip.compress(TEXT.encode(), mtime=0)[:-9] + b"IKCFG_ED",
        b"IKCFG_ED IKCFG_ST",
    ],
)
def test_an_embedded_configuration_that_is_not_whole_is_none(image: bytes) -> None:
    assert kernel_config.embedded(image) is None


def test_an_embedded_configuration_is_read() -> None:
    image = b"\0\0IKCFG_ST" + gzip.compress(TEXT.encode()) + b"IKCFG_ED\0"
    assert kernel_config.embedded(image) == kernel_config.parse(TEXT)
