"""Runs in a guest: every native call that must be refused, and what it was refused with.

native_calls.py IMAGE            prints {"case": "ErrorClass ERRNO" or "ok", …}
native_calls.py IMAGE --jump     holds a conformance session and jumps into IMAGE
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from orchestrator.model.errors import MkupgradeError, SystemCallError
from orchestrator.system import calls, guard, luo

PERMIT = Path("/etc/mkupgrade/host.permit")
LOADED = Path("/sys/kernel/kexec_loaded")


def outcome(call: Callable[[], object]) -> str:
    try:
        call()
    except SystemCallError as error:
        return f"{type(error).__name__} {errno.errorcode[error.errno]}"
    except MkupgradeError as error:
        return type(error).__name__
    return "ok"


def load(host: guard.HostGuard, path: str | Path, cmdline: str = "x=y") -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        calls.kexec_file_load(host, fd, None, cmdline)
    finally:
        os.close(fd)


def truncated(image: str, room: str) -> Path:
    copy = Path(room) / "truncated"
    copy.write_bytes(Path(image).read_bytes()[:100_000])
    return copy


def as_nobody(call: Callable[[], object]) -> str:
    """The call's outcome in a child without any capability."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.setresuid(65534, 65534, 65534)
        os.write(write_end, outcome(call).encode())
        os._exit(0)
    os.close(write_end)
    os.waitpid(child, 0)
    return os.read(read_end, 1000).decode()


def without_permit(call: Callable[[], object]) -> str:
    hidden = PERMIT.with_suffix(".hidden")
    PERMIT.rename(hidden)
    try:
        return outcome(call)
    finally:
        hidden.rename(PERMIT)


def loaded() -> str:
    return LOADED.read_text().strip()


def cases(image: str, room: str) -> dict[str, str]:
    host = guard.HostGuard.open()
    another_boot = guard.HostGuard("00000000-0000-4000-8000-000000000000", None)
    found = {
        "garbage": outcome(lambda: load(host, "/etc/os-release")),
        "empty file": outcome(lambda: load(host, "/dev/null")),
        # The kernel believes the header and loads what there is: jumping there is a reset.
        # Nothing but the digest, looked at before, protects from it.
        "truncated image": outcome(lambda: load(host, truncated(image, room))),
        "unload it": outcome(lambda: calls.kexec_unload(host)),
        "closed descriptor": outcome(lambda: calls.kexec_file_load(host, 999, None, "")),
        "endless command line": outcome(lambda: load(host, image, "a" * 5000)),
        "NUL in the command line": outcome(lambda: load(host, image, "a\0b")),
        "jump with nothing loaded": outcome(lambda: calls.reboot_kexec(host)),
        "unload with nothing loaded": outcome(lambda: calls.kexec_unload(host)),
        "no permit: load": without_permit(lambda: load(host, image)),
        "no permit: unload": without_permit(lambda: calls.kexec_unload(host)),
        "no permit: jump": without_permit(lambda: calls.reboot_kexec(host)),
        "no permit: liveupdate": without_permit(lambda: luo.open_device(host)),
        "another user: load": as_nobody(lambda: load(host, image)),
        "another machine": outcome(lambda: load(guard.HostGuard.open("0" * 32), image)),
        "another boot": outcome(lambda: load(another_boot, image)),
        "loaded after all that": loaded(),
        "load": outcome(lambda: load(host, image)),
        "loaded": loaded(),
        "load again": outcome(lambda: load(host, image)),
        "unload": outcome(lambda: calls.kexec_unload(host)),
        "loaded at the end": loaded(),
    }
    Path("/proc/sys/kernel/kexec_load_disabled").write_text("1")
    found["load when disabled"] = outcome(lambda: load(host, image))
    return found


def jump(image: str) -> None:
    """The order of the driver, without the driver: session, load, reboot."""
    sys.path.insert(0, "/root")
    luo_conformance = importlib.import_module("luo_conformance")
    host = guard.HostGuard.open()
    held = luo_conformance.leave(lambda: luo.open_device(host), "conformance")
    load(host, image, Path("/proc/cmdline").read_text().strip())
    os.sync()
    print("jump with session", held.fileno(), flush=True)
    calls.reboot_kexec(host)


def main() -> int:
    if "--jump" in sys.argv:
        jump(sys.argv[1])
    with tempfile.TemporaryDirectory() as room:
        print(json.dumps(cases(sys.argv[1], room)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
