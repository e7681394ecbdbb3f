"""The native calls against the real kernel: what is refused, how, and that nothing changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from orchestrator.rehearsal.kernels import KernelPair
from orchestrator.rehearsal.machine import Guest

Boot = Callable[..., AbstractContextManager[Guest]]

HERE = Path(__file__).parent
CONFORMANCE = HERE.parent / "handover" / "luo_conformance.py"

REFUSED = {
    "garbage": "SystemCallError ENOEXEC",
    "empty file": "SystemCallError EINVAL",
    "truncated image": "ok",
    "unload it": "ok",
    "closed descriptor": "SystemCallError EBADF",
    "endless command line": "SystemCallError EINVAL",
    "NUL in the command line": "SystemCallError EINVAL",
    "jump with nothing loaded": "SystemCallError EINVAL",
    "unload with nothing loaded": "ok",
    "no permit: load": "GuardError",
    "no permit: unload": "GuardError",
    "no permit: jump": "GuardError",
    "no permit: liveupdate": "GuardError",
    "another user: load": "GuardError",
    "another machine": "GuardError",
    "another boot": "GuardError",
    "loaded after all that": "0",
    "load": "ok",
    "loaded": "1",
    "load again": "ok",
    "unload": "ok",
    "loaded at the end": "0",
    "load when disabled": "LockdownError EPERM",
}


def test_every_wrong_native_call_is_refused_and_changes_nothing(
    boot: Boot, kernels: KernelPair
) -> None:
    image = f"/boot/vmlinuz-{kernels.target.release}"
    with boot() as guest:
        guest.put("/root/native_calls.py", (HERE / "guest" / "native_calls.py").read_bytes())
        done = guest.run(["python3", "/root/native_calls.py", image], timeout=120)
        assert json.loads(done.stdout) == REFUSED
        assert guest.release() == kernels.source.release


def test_luo_is_what_the_double_is_held_to_on_both_sides_of_a_jump(
    boot: Boot, kernels: KernelPair
) -> None:
    image = f"/boot/vmlinuz-{kernels.target.release}"
    with boot() as guest:
        guest.put("/root/native_calls.py", (HERE / "guest" / "native_calls.py").read_bytes())
        guest.put("/root/luo_conformance.py", CONFORMANCE.read_bytes())
        script = ["python3", "/root/luo_conformance.py"]
        outgoing = guest.run([*script, "outgoing"], check=False)
        assert "FAIL" not in outgoing.output
        assert outgoing.code == 0, outgoing.output
        said, hello = guest.run_through(["python3", "/root/native_calls.py", image, "--jump"])
        assert "jump with session" in said
        assert hello.release == kernels.target.release
        incoming = guest.run([*script, "incoming", "conformance"], check=False)
        assert "FAIL" not in incoming.output
        assert incoming.code == 0, incoming.output
        log = guest.run(["dmesg"]).stdout
        assert f"KHO: exec from: {kernels.source.release}" in log
