"""Bootspec v1 is read strictly, and kept whole."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.errors import MkupgradeError
from orchestrator.nixos import bootspec
from orchestrator.nixos.errors import BootspecError
from tests.support.nixos import PretendNixos

BOOT = {
    "system": "x86_64-linux",
    "label": "NixOS 26.11 (Linux 6.12.1)",
    "kernel": "/srv/store/linux/bzImage",
    "kernelParams": ["console=ttyS0", "a=1 b=2"],
    "init": "/srv/store/top/init",
    "toplevel": "/srv/store/top",
}
SPECIALISATION = "org.nixos.specialisation.v1"


def text(boot: Any = BOOT, **others: Any) -> bytes:
    return json.dumps({"org.nixos.bootspec.v1": boot, **others}).encode()


def test_a_document_is_read_whole() -> None:
    extension = {"anything": [1, None, {"deep": True}]}
    inner = {"org.nixos.bootspec.v1": {**BOOT, "toplevel": "/srv/store/other"}}
    found = bootspec.parse(
        text({**BOOT, "initrd": "/i", "initrdSecrets": "/s"}, **{
            SPECIALISATION: {"gaming": inner}, "org.example.tool": extension,
        })
    )  # fmt: skip
    assert found.boot.parameters == "init=/srv/store/top/init console=ttyS0 a=1 b=2"
    assert found.boot.initrdSecrets == PurePosixPath("/s")
    assert found.extensions == {"org.example.tool": extension}
    assert found.of("gaming", "x").boot.toplevel == PurePosixPath("/srv/store/other")
    assert found.of(None, "x") is found


def test_an_unknown_specialisation_is_told_with_those_that_are_there() -> None:
    found = bootspec.parse(text(**{SPECIALISATION: {"gaming": {"org.nixos.bootspec.v1": BOOT}}}))
    with pytest.raises(BootspecError, match="there are: gaming"):
        found.of("work", "boot.json")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no JSON"),
        (b"\xff{}", "no JSON"),
        (b"[" * 200_000, "nested too deeply"),
        (b"[]", "expected an object"),
        (b"{}", "org.nixos.bootspec.v1 is missing"),
        (b'{"v1": {}}', "preview"),
        (text(**{"org.nixos.bootspec.v2": {}}), "of a version that is not known"),
        (text(**{"org.nixos.specialisation.v2": {}}), "of a version that is not known"),
        (text({**BOOT, "surprise": 1}), "surprise"),
        (text({k: v for k, v in BOOT.items() if k != "kernel"}), "kernel: Field required"),
        (text({**BOOT, "kernel": "bzImage"}), "absolute path"),
        (text({**BOOT, "kernel": "/a/../../etc"}), "absolute path"),
        (text({**BOOT, "kernel": "/a\0b"}), "absolute path"),
        (text({**BOOT, "kernelParams": ["quiet\nroot=/dev/evil"]}), "kernelParams.0"),
        (text({**BOOT, "kernelParams": ["quiet", 7]}), "kernelParams.1"),
        (text({**BOOT, "kernelParams": "quiet"}), "kernelParams"),
        (text({**BOOT, "label": "\x1b[2J"}), "label"),
        (text({**BOOT, "initrd": None, "system": "x"}), "system"),
        (text(None), "org.nixos.bootspec.v1"),
        (text(**{SPECIALISATION: []}), "expected an object"),
        (text(**{SPECIALISATION: {"a": []}}), "expected an object"),
        (text(**{SPECIALISATION: {"../a": {"org.nixos.bootspec.v1": BOOT}}}), "no name"),
        (text(**{SPECIALISATION: {"a": {}}}), "a: org.nixos.bootspec.v1 is missing"),
        (b" " * (bootspec.SIZE_LIMIT + 1), "larger than"),
    ],
)
def test_what_is_not_version_1_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(BootspecError) as caught:
        bootspec.parse(data)
    assert says in caught.value.what
    assert caught.value.state == "nothing was changed"


def test_a_specialisation_has_none_of_its_own() -> None:
    inner = json.loads(text(**{SPECIALISATION: {"b": json.loads(text())}}))
    with pytest.raises(BootspecError, match="none of its own"):
        bootspec.parse(text(**{SPECIALISATION: {"a": inner}}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(list(BOOT.values())),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text() | st.sampled_from([*BOOT, "initrd"]), inner, max_size=8)
    ),
    max_leaves=12,
)


@given(
    st.binary(max_size=64)
    | st.dictionaries(
        st.sampled_from(["org.nixos.bootspec.v1", SPECIALISATION, "v1", "x"]),
        JSON | st.fixed_dictionaries({k: st.just(v) | JSON for k, v in BOOT.items()}),
    ).map(lambda value: json.dumps(value).encode())
)
def test_whatever_is_in_the_file_only_a_typed_error_comes_out(data: bytes) -> None:
    try:
        found = bootspec.parse(data)
    except BootspecError as error:
        assert error.what
    else:
        assert "\n" not in found.boot.parameters


def test_a_file_that_is_not_there_or_no_file_is_told(nixos: PretendNixos) -> None:
    top = nixos.system("a")
    file = nixos.outside(top) / "boot.json"
    file.unlink()
    with pytest.raises(BootspecError, match="no boot"):
        bootspec.read(nixos.places.tree, top)
    file.mkdir()
    with pytest.raises(MkupgradeError, match="regular file"):
        bootspec.read(nixos.places.tree, top)
