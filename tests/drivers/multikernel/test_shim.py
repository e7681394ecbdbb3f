"""The shim passes no call for the real kernel on: not routed is refused.

libc is out of reach here: what the shim would pass on goes to a recorder, which stands before libc
for the shim and for the program alike and calls no kernel.
"""

from __future__ import annotations

import os
import subprocess
from errno import EPERM
from pathlib import Path

import pytest

from tests.support.multikernel.served import session

SHIM = Path(session.__file__).with_name("shim.c")

RECORDER = """
#include <stdio.h>
long syscall(long number, ...) { printf("passed on %ld\\n", number); return 0; }
int reboot(int command) { printf("passed on reboot %#x\\n", command); return 0; }
"""

TRIES = """
#include <errno.h>
#include <stdio.h>
#include <stddef.h>
#include <sys/syscall.h>
long syscall(long number, ...);
int reboot(int command);
#define TRY(call) do { errno = 0; long r = (call); printf("%ld %d\\n", r, errno); } while (0)
int main(void)
{
    int id = 2;
    TRY(syscall(SYS_kexec_file_load, -1, -1, 0L, NULL, 0x51L));
    TRY(syscall(SYS_kexec_file_load, -1, -1, 0L, NULL, 0x1L));
    TRY(syscall(SYS_kexec_file_load, -1, -1, 3L, "ab", 0x54L));
    TRY(syscall(SYS_kexec_load, 0L, 0L, NULL, 0L));
    TRY(syscall(SYS_reboot, 0xfee1deadL, 672274793L, 0x4d4b4c49L, &id));
    TRY(syscall(SYS_reboot, 0xfee1deadL, 672274793L, 0x4d4b4c48L, &id));
    TRY(syscall(SYS_reboot, 0xfee1deadL, 672274793L, 0x4d4b4c46L, &id));
    TRY(syscall(SYS_reboot, 0xfee1deadL, 672274793L, 0x01234567L, NULL));
    TRY(reboot(0x01234567));
    TRY(syscall(SYS_getpid));
    return 0;
}
"""


@pytest.mark.parametrize("socket", [None, "nobody-listens"])
def test_what_cannot_be_routed_is_refused_and_goes_no_further(
    tmp_path: Path, socket: str | None
) -> None:
    (tmp_path / "recorder.c").write_text(RECORDER)
    (tmp_path / "tries.c").write_text(TRIES)
    for arguments in (
        ["-shared", "-fPIC", "-o", "shim.so", SHIM, "-ldl"],
        ["-shared", "-fPIC", "-o", "librecorder.so", "recorder.c"],
        ["-o", "tries", "tries.c", "-L.", "-Wl,--no-as-needed", "-lrecorder", "-Wl,-rpath,."],
    ):
        subprocess.run(["cc", *arguments], cwd=tmp_path, check=True)
    environment = os.environ | {"LD_PRELOAD": str(tmp_path / "shim.so")}
    environment.pop("MKDOUBLE_SOCKET", None)
    if socket is not None:
        environment["MKDOUBLE_SOCKET"] = str(tmp_path / socket)
    done = subprocess.run(
        ["./tries"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    getpid = {"x86_64": 39, "aarch64": 172}[os.uname().machine]
    assert done.stdout.splitlines() == [f"-1 {EPERM}"] * 9 + [f"passed on {getpid}", "0 0"]
