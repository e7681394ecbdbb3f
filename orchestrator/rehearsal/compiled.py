"""Our modules compiled ahead by the guest's own Python, run on the host.

Under emulation a guest spends seconds on compiling what it was just given, at each of its
first boots. Only a saving of time: where it does not work, the guest compiles for itself.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

from orchestrator.model.errors import RehearsalError
from orchestrator.rehearsal.cache import drop_old, kept
from orchestrator.rehearsal.image import LayerFile, copy_out, names_in
from orchestrator.rehearsal.tools import Progress, quiet, run_tool

_LIBRARIES = "/usr/lib/x86_64-linux-gnu"
_LINKED = ("ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6", "libz.so.1", "libexpat.so.1")
"""What Debian's interpreter is linked with."""

_PYTHON = re.compile(r"python3\.\d+")
_FORMAT = "2"


def compiled_files(
    files: Mapping[str, LayerFile], base: Path, progress: Progress = quiet
) -> dict[str, LayerFile]:
    """Guest path -> compiled module, for the Python modules among `files`."""
    modules = {p: f for p, f in files.items() if p.endswith(".py")}
    parts = [_FORMAT, base.name, *(f"{p}\0{f.digest()}" for p, f in sorted(modules.items()))]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    try:
        interpreter = _interpreter(base)
        archive = kept("compiled", digest, ".zip", _Compiler(interpreter, modules))
    except RehearsalError as error:
        progress(f"guest image: our modules are not compiled ahead ({error.what})")
        return {}
    drop_old("compiled", keep=4)
    drop_old("python", keep=4)
    with zipfile.ZipFile(archive) as opened:
        return {f"/{n}": LayerFile(opened.read(n)) for n in opened.namelist()}


class _Compiler:
    """Makes the archive of compiled modules; see `cache.kept`."""

    def __init__(self, interpreter: Path, modules: Mapping[str, LayerFile]) -> None:
        self._interpreter = interpreter
        self._modules = modules

    def __call__(self, product: Path, work: Path) -> None:
        tree = work / "tree"
        for path, file in self._modules.items():
            copy = tree / path.lstrip("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            content = file.content
            copy.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        # Times are not kept on the way into the image, and nobody changes the source there.
        options: list[str | Path] = [
            "-q",
            "--invalidation-mode",
            "unchecked-hash",
            "-s",
            tree,
            "-p",
            "/",
        ]
        room = self._interpreter
        linker: list[str | Path] = [
            room / "ld-linux-x86-64.so.2",
            "--library-path",
            room,
            room / "python",
        ]
        run_tool(
            [*linker, "-I", "-S", "-B", "-m", "compileall", *options, tree],
            timeout=120,
            what="compile our modules for the guest",
        )
        with zipfile.ZipFile(product, "w") as archive:
            for made in sorted(tree.rglob("*.pyc")):
                archive.write(made, str(made.relative_to(tree)))


def _interpreter(base: Path) -> Path:
    """A directory with the guest's Python, its standard library and the libraries it needs."""

    def make(product: Path, _work: Path) -> None:
        product.mkdir()
        version = next((n for n in names_in(base, "/usr/bin") if _PYTHON.fullmatch(n)), None)
        if version is None:
            raise RehearsalError("the guest's tree has no Python")
        copy_out(base, f"/usr/bin/{version}", product / "python")
        there = names_in(base, _LIBRARIES)
        for name in _LINKED:
            # The soname is a link to a file whose name goes on, unless it is the file itself.
            real = max((n for n in there if n == name or n.startswith(f"{name}.")), default=name)
            copy_out(base, f"{_LIBRARIES}/{real}", product / name)
        for program in ("python", "ld-linux-x86-64.so.2"):
            (product / program).chmod(0o755)
        (product / "lib").mkdir()
        request = f"rdump /usr/lib/{version} {product / 'lib'}"
        run_tool(["debugfs", "-R", request, base], timeout=120, what="read the guest's Python")

    return kept("python", hashlib.sha256(base.name.encode()).hexdigest(), "", make)
