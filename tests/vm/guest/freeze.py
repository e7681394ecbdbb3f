"""Runs in the guest: nothing of userspace runs any more, and the kernel does not mind.

Every processor is given to a real-time process that never yields, with the limit that real-time
processes have (sched_rt_runtime_us) taken away. No panic comes of it: only a watchdog ends it.
"""

from __future__ import annotations

import os
from pathlib import Path


def main() -> None:
    Path("/proc/sys/kernel/sched_rt_runtime_us").write_text("-1")
    for processor in sorted(os.sched_getaffinity(0)):
        if os.fork() == 0:
            os.sched_setaffinity(0, {processor})
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
            while True:
                pass
    os.wait()


if __name__ == "__main__":
    main()
