"""`make kernels`: two small kernels with KHO and LUO, built from Debian's source packages.

tinyconfig plus `live-update.config`, everything built in: 6 to 8 minutes each on two idle
cores. A kernel is kept by the digest of its configuration and its source's version.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path
from typing import IO

from orchestrator.model.errors import RehearsalError
from orchestrator.rehearsal.cache import cache_dir, locked
from orchestrator.rehearsal.debian import AptRoot
from orchestrator.rehearsal.kernels import kernel
from orchestrator.rehearsal.tools import Progress, kill_group, run_tool
from orchestrator.rehearsal.trees import SERIES, SUITE

_BUILD_SECONDS = 3600.0
_COMPILED = re.compile(r"^\s+(CC|AS|LD|AR|HOSTCC)\s")
_FILES_ABOUT = 2500
"""Lines of that kind that one build prints, roughly; for the progress only."""

_MUST_BE_SET = (
    "CONFIG_KEXEC_FILE",
    "CONFIG_KEXEC_HANDOVER",
    "CONFIG_LIVEUPDATE",
    "CONFIG_LIVEUPDATE_MEMFD",
    "CONFIG_CHECKPOINT_RESTORE",
    "CONFIG_TIME_NS",
    "CONFIG_SECURITY_NETWORK",
    "CONFIG_EXT4_FS",
    "CONFIG_VIRTIO_BLK",
    "CONFIG_VIRTIO_CONSOLE",
    "CONFIG_I6300ESB_WDT",
)
"""What a kernel for rehearsals cannot do without; a source that renamed one must be noticed."""


def fragment() -> bytes:
    """The configuration on top of tinyconfig."""
    return (resources.files("orchestrator.rehearsal") / "live-update.config").read_bytes()


def build(series: str, progress: Progress, *, configure_only: bool = False) -> Path | None:
    """The kernel of a series ("7.3"), from the cache or built now.

    Args:
        configure_only: stop when the configuration is made and looked at.

    Raises:
        RehearsalError: the source cannot be had, or a step of the build failed.
    """
    root = AptRoot(SUITE, progress)
    package = f"linux-source-{series}"
    version = root.version(package)
    key = hashlib.sha256(fragment() + f"{package} {version}".encode()).hexdigest()[:16]
    room = cache_dir() / "kernels"
    image = room / f"bzImage-{series}-{key}"
    with locked(cache_dir() / f".kernel-{series}.lock"):
        if image.exists() and not configure_only:
            progress(f"{series}: kept, {kernel(image).release}")
            return image
        work = cache_dir() / f"build-{series}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        tree = _unpack(root, package, version, work, progress)
        configure(tree, progress)
        if configure_only:
            return None
        _compile(tree, series, progress)
        room.mkdir(exist_ok=True)
        for old in room.glob(f"bzImage-{series}-*"):
            old.unlink()
        part = room / f".{image.name}"
        shutil.copyfile(tree / "arch/x86/boot/bzImage", part)
        part.replace(image)
        shutil.rmtree(work, ignore_errors=True)
    progress(f"{series}: built {kernel(image).release}")
    return image


def _unpack(root: AptRoot, package: str, version: str, work: Path, progress: Progress) -> Path:
    progress(f"{package} {version}: download")
    archive = root.download(package, work)
    progress(f"{package} {version}: unpack")
    what = f"unpack {package}"
    run_tool(["dpkg-deb", "-x", archive, work / "deb"], timeout=600, what=what)
    archive.unlink()
    source = next((work / "deb" / "usr" / "src").glob("linux-source-*.tar.*"), None)
    if source is None:
        raise RehearsalError(f"{package} holds no archive of a source tree")
    run_tool(["tar", "-C", work, "-xf", source], timeout=900, what=what)
    shutil.rmtree(work / "deb")
    return next(p for p in work.iterdir() if p.is_dir())


def configure(tree: Path, progress: Progress) -> None:
    """tinyconfig, our fragment merged into it, olddefconfig; then what must be set is looked for.

    Raises:
        RehearsalError: make failed, or an option is missing from the result.
    """
    progress("configure: tinyconfig + live-update.config")
    ours = tree / "live-update.config"
    ours.write_bytes(fragment())
    what = "configure the kernel"
    run_tool(["make", "tinyconfig"], timeout=600, what=what, cwd=tree)
    merge = ["scripts/kconfig/merge_config.sh", "-m", ".config", ours.name]
    run_tool(["sh", *merge], timeout=600, what=what, cwd=tree)
    run_tool(["make", "olddefconfig"], timeout=600, what=what, cwd=tree)
    config = set((tree / ".config").read_text().splitlines())
    missing = [name for name in _MUST_BE_SET if f"{name}=y" not in config]
    if missing:
        raise RehearsalError(
            "the kernel's configuration lacks options: the source has renamed them",
            details=tuple(missing),
        )


def _compile(tree: Path, series: str, progress: Progress) -> None:
    """`make bzImage` at low priority, a line of progress every few seconds."""
    jobs = len(os.sched_getaffinity(0))
    command = ["nice", "make", f"-j{jobs}", "bzImage"]
    log = tree.parent / "build.log"
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "KBUILD_BUILD_USER": "mkupgrade"}
    environment["KBUILD_BUILD_HOST"] = "rehearsal"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command,
            cwd=tree,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            start_new_session=True,
        )
        try:
            if process.stdout is not None:
                _follow(process.stdout, series, progress)
            process.wait(timeout=60)
        except BaseException:
            kill_group(process)
            raise
    if process.returncode != 0:
        tail = tuple(log.read_text(errors="replace").splitlines()[-30:])
        raise RehearsalError(f"make bzImage for {series} failed", details=tail)


def _follow(lines: IO[str], series: str, progress: Progress) -> None:
    started = told = time.monotonic()
    compiled = 0
    for line in lines:
        compiled += bool(_COMPILED.match(line))
        now = time.monotonic()
        if now - started > _BUILD_SECONDS:
            raise RehearsalError(f"make bzImage for {series} took over {_BUILD_SECONDS:g} s")
        if now - told > 10:
            told = now
            part = min(99, 100 * compiled // _FILES_ABOUT)
            progress(f"{series}: {compiled} files, about {part} %, {now - started:.0f} s")


def main() -> int:
    """`python -m orchestrator.rehearsal.kernel_build [--configure-only] [SERIES …]`."""
    arguments = sys.argv[1:]
    configure_only = "--configure-only" in arguments
    series = [a for a in arguments if not a.startswith("-")] or list(SERIES)

    def tell(text: str) -> None:
        print(f"==> kernel {text}", flush=True)

    try:
        for each in series:
            build(each, tell, configure_only=configure_only)
    except RehearsalError as error:
        print("\n".join([f"error: {error}", *error.details]), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
