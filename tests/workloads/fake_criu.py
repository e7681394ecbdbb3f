"""A stand-in for criu, for tests: same command line, same traces, no kernel magic.

    $FAKE_CRIU_LOG   file to which each call's arguments are appended, one JSON list a line
    $FAKE_CRIU_FAIL  a log of a real failure: it is written as the log, and the exit status is 1

`dump` kills the tree (unless --leave-running) and notes how its root was started; `restore` starts
that anew under the same pid, which works in a pid namespace of one's own only.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PROC = Path("/proc")


def option(name: str) -> str:
    return sys.argv[sys.argv.index(name) + 1]


def children(pid: int) -> list[int]:
    found = [int(c) for c in (PROC / f"{pid}/task/{pid}/children").read_text().split()]
    return [pid, *(p for child in found for p in children(child))]


def dump() -> int:
    images = Path(option("--images-dir"))
    log = images / option("--log-file")
    if "FAKE_CRIU_FAIL" in os.environ:
        shutil.copy(os.environ["FAKE_CRIU_FAIL"], log)
        return 1
    if "--slow" in sys.argv:
        time.sleep(0.2)
    root = int(option("--tree"))
    argv = (PROC / f"{root}/cmdline").read_bytes().decode().split("\0")[:-1]
    tree = {"pid": root, "argv": argv, "cwd": str((PROC / f"{root}/cwd").readlink())}
    (images / "pstree.img").write_text(json.dumps(tree))
    (images / "inventory.img").write_bytes(b"fake")
    if "--leave-running" not in sys.argv:
        for pid in children(root):
            os.kill(pid, signal.SIGKILL)
    (images / "stats-dump").write_bytes(b"fake")
    log.write_text("(00.100000) Dumping finished successfully\n")
    return 0


def restore() -> int:
    images = Path(option("--images-dir"))
    log = Path(option("--work-dir")) / option("--log-file")
    if "FAKE_CRIU_FAIL" in os.environ:
        shutil.copy(os.environ["FAKE_CRIU_FAIL"], log)
        return 1
    tree = json.loads((images / "pstree.img").read_text())
    (PROC / "sys/kernel/ns_last_pid").write_text(str(tree["pid"] - 1))
    process = subprocess.Popen(
        tree["argv"],
        cwd=tree["cwd"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    if process.pid != tree["pid"]:
        log.write_text(f"(00.1) Error (criu/cr-restore.c:1): Pid {process.pid} do not match\n")
        process.kill()
        return 1
    log.write_text("(00.100000) Restore finished successfully. Tasks resumed.\n")
    return 0


def main() -> int:
    if "FAKE_CRIU_LOG" in os.environ:
        with Path(os.environ["FAKE_CRIU_LOG"]).open("a") as calls:
            calls.write(json.dumps(sys.argv[1:]) + "\n")
    if "--version" in sys.argv:
        print("Version: 4.2.1")
        return 0
    if sys.argv[1] == "check":
        return 0 if sys.argv[-1] in ("check", "mem_dirty_track") else 1
    return {"dump": dump, "restore": restore}[sys.argv[1]]()


if __name__ == "__main__":
    sys.exit(main())
