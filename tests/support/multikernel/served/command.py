"""Our command line, unchanged, in the namespace of a served double.

    python -m tests.support.multikernel.served.command apply plan.yaml --yes

As in `driver.py`, the host guard is left out, here alone, and only where the kernel itself refuses
kexec and reboot to this process. So it lacks CAP_SYS_BOOT, too, and is not asked for it.
"""

from __future__ import annotations

import sys

from orchestrator.cli.main import main as mkupgrade
from orchestrator.system import capabilities, guard
from tests.support.multikernel.confined import confinement_missing


def main() -> None:
    missing = confinement_missing()
    if missing:
        sys.exit(f"not confined: {missing}")
    guard.require = lambda host, what: None
    guard.objections = lambda paths, **_: []
    capabilities._CAP_SYS_BOOT = capabilities._CAP_SYS_ADMIN
    sys.argv[0] = "mkupgrade"
    mkupgrade()


if __name__ == "__main__":
    main()
