"""mkupgrade itself for the guest: from a wheel built of the source tree, or as it is installed."""

from __future__ import annotations

import hashlib
import shutil
import sys
import zipfile
from importlib import metadata
from pathlib import Path

from orchestrator.model.errors import RehearsalError
from orchestrator.rehearsal.cache import SOURCE_ROOT, drop_old, in_source_tree, kept
from orchestrator.rehearsal.image import LayerFile
from orchestrator.rehearsal.tools import Progress, quiet, run_tool

GUEST_PACKAGES = "/usr/lib/python3/dist-packages"
"""Where Debian's Python looks for packages that dpkg brings, and we ours."""

GUEST_PROGRAMS = f"{GUEST_PACKAGES}/orchestrator/rehearsal/guest"
"""Where the workloads (counter.py, sleeper.py, tree.py) are in the guest."""

_COMMAND = b"""#!/usr/bin/python3
import sys
from orchestrator.cli.main import main
sys.exit(main())
"""

_SETUPTOOLS = 77
"""As pyproject.toml's build-system says."""

_SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in")
_SOURCE_TREES = ("orchestrator", "native")


def package_files(progress: Progress = quiet) -> dict[str, LayerFile]:
    """Guest path -> file: the package, its native module, and the command /usr/bin/mkupgrade."""
    files = _from_wheel(wheel(progress)) if in_source_tree() else _as_installed()
    if not any("/_native" in path for path in files):
        raise RehearsalError("the package has no native module", next_command="pip install .")
    return {**files, "/usr/bin/mkupgrade": LayerFile(_COMMAND, 0o755)}


def wheel(progress: Progress = quiet) -> Path:
    """The wheel of the source tree, built when a source has changed (some seconds)."""
    sources = _source_files()
    parts = hashlib.sha256(sys.version.encode())
    for source in sources:
        name = str(source.relative_to(SOURCE_ROOT))
        parts.update(f"{name}\0{hashlib.sha256(source.read_bytes()).hexdigest()}\n".encode())

    def make(product: Path, work: Path) -> None:
        progress("guest image: building our wheel")
        # From a copy: setuptools leaves a build directory behind, and reads stale ones.
        tree = work / "tree"
        for source in sources:
            copy = tree / source.relative_to(SOURCE_ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
        options = ["--disable-pip-version-check", *_build_isolation()]
        run_tool([*pip, *options, "-w", work, tree], timeout=300, what="build the wheel")
        built = list(work.glob("*.whl"))
        built[0].replace(product)

    built = kept("wheel", parts.hexdigest(), ".whl", make)
    drop_old("wheel", keep=4)
    return built


def _build_isolation() -> list[str]:
    """With this environment's setuptools where it is new enough: quicker, and needs no network."""
    try:
        major = int(metadata.version("setuptools").partition(".")[0])
        metadata.version("cffi")
    except (metadata.PackageNotFoundError, ValueError):
        return []
    return ["--no-build-isolation"] if major >= _SETUPTOOLS else []


def _source_files() -> list[Path]:
    found = [SOURCE_ROOT / name for name in _SOURCES if (SOURCE_ROOT / name).is_file()]
    for tree in _SOURCE_TREES:
        for path in sorted((SOURCE_ROOT / tree).rglob("*")):
            generated = path.suffix in {".pyc", ".so", ".o"} or path.name == "_native.c"
            if path.is_file() and not generated:
                found.append(path)
    return found


def _from_wheel(path: Path) -> dict[str, LayerFile]:
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if not n.endswith("/")]
        return {f"{GUEST_PACKAGES}/{n}": LayerFile(archive.read(n)) for n in names}


def _as_installed() -> dict[str, LayerFile]:
    """The files that pip recorded for the installed distribution."""
    files = {}
    for entry in metadata.distribution("mkupgrade").files or []:
        path = Path(str(entry.locate()))
        if entry.parts[0] != ".." and path.suffix != ".pyc" and path.is_file():
            files[f"{GUEST_PACKAGES}/{entry}"] = LayerFile(path)
    return files


if __name__ == "__main__":  # ahead, while something else is waited for
    wheel(lambda text: print(f"==> {text}", file=sys.stderr, flush=True))
