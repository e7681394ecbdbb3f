"""A guest with a Nix store of its own: this host's nix in it, and pretend NixOS systems whose
kernels are real."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath

from orchestrator.rehearsal.image import Layer, LayerFile
from orchestrator.rehearsal.kernels import RehearsalKernel

_ROOM = PurePosixPath("/opt/nix")
_LIBRARY = re.compile(r"(?:\S+ => )?(/\S+) \(0x")
RECORD = "/var/log/switch-to-configuration"
"""What the systems were asked to do, one line each: who, and what."""

_INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t tmpfs -o mode=0755 run /run
ln -s {top} /run/booted-system
ln -s {top} /run/current-system
exec /usr/sbin/mkupgrade-init
"""
"""As stage 2 of NixOS does before it starts systemd."""
_SWITCH = """#!/bin/sh
echo "{top} $*" >>{record}
case $1 in switch | test) ln -sfn {top} /run/current-system ;; esac
"""
_CALL = """#!/bin/sh
exec {room}/ld.so --argv0 {name} --library-path {room} {room}/nix "$@"
"""


def nix() -> Layer:
    """This host's nix, with the libraries that it is linked with: nix, nix-env and nix-store."""
    program = shutil.which("nix-env")
    assert program is not None, "no nix here: scripts/bootstrap checks"
    real = Path(program).resolve()
    listed = subprocess.run(["ldd", real], capture_output=True, text=True, check=True).stdout
    libraries = [Path(found) for found in _LIBRARY.findall(listed)]
    files: dict[str, LayerFile | str] = {f"{_ROOM}/{it.name}": LayerFile(it) for it in libraries}
    (linker,) = [it for it in libraries if it.name.startswith("ld-")]
    files[f"{_ROOM}/ld.so"] = LayerFile(linker, 0o755)
    files[f"{_ROOM}/nix"] = LayerFile(real, 0o755)
    for name in ("nix", "nix-env", "nix-store"):
        call = _CALL.format(room=_ROOM, name=name)
        files[f"/usr/local/bin/{name}"] = LayerFile(call.encode(), 0o755)
    files["/etc/nix/nix.conf"] = LayerFile(b"build-users-group =\nsandbox = false\n")
    return files


def system(
    name: str, kernel: RehearsalKernel, parameters: str, like: PurePosixPath | None = None
) -> tuple[PurePosixPath, Layer]:
    """A NixOS system that boots a kernel into the guest's own init; its toplevel, and its files.
    Nobody has told the store of it yet: see `registration`.

    Args:
        like: a system of the same kernel, whose files it shares, as equal derivations do.
    """
    store = PurePosixPath("/nix/store")
    mark = "".join(c for c in name if c in "0123456789abcdfghijklmnpqrsvwxyz").rjust(32, "0")
    top = store / f"{mark}-nixos-system-{name}"
    image = (like or top) / "kernel"
    boot = {
        "system": "x86_64-linux",
        "label": f"NixOS {name} (Linux {kernel.release})",
        "kernel": str(image),
        "kernelParams": [p for p in parameters.split() if not p.startswith("init=")],
        "init": str(top / "init"),
        "toplevel": str(top),
    }
    texts = {
        "boot.json": json.dumps({"org.nixos.bootspec.v1": boot}),
        "nixos-version": "26.11.pretend",
        "init-interface-version": "systemd-2",
        "etc/systemd/system/basic.target.wants/mkupgrade-resume.service": "[Unit]\n",
    }
    files: dict[str, LayerFile | str] = {}
    if like is None:
        texts[f"kernel-modules/lib/modules/{kernel.release}/modules.dep"] = ""
        files[str(image)] = LayerFile(kernel.image)
    else:
        files[str(top / "kernel-modules")] = str(like / "kernel-modules")
    files |= {str(top / path): LayerFile(text.encode()) for path, text in texts.items()}
    programs = {"init": _INIT, "bin/switch-to-configuration": _SWITCH}
    for path, text in programs.items():
        files[str(top / path)] = LayerFile(text.format(top=top, record=RECORD).encode(), 0o755)
    return top, files


def registration(*toplevels: PurePosixPath) -> str:
    """For `nix-store --register-validity`: paths without deriver and references."""
    return "".join(f"{top}\n\n0\n" for top in toplevels)
