"""What this host can do, and for everything it cannot, why."""

from __future__ import annotations

from pathlib import Path

from orchestrator.model.host import BootState, Cap, Capability, KernelState


def observe(
    state_dir: Path, kernel: KernelState, boot: BootState, watchdog: str | None
) -> dict[Cap, Capability]:
    """Every capability but SIDE_BY_SIDE, which is the driver's to say.

    Args:
        state_dir: where journal and spilled state are kept.
        kernel: from `running.kernel_state`. boot: from `boot_loaders.observe`.
        watchdog: the device that the spec names.
    """
    raise NotImplementedError


def criu_version() -> str | None:
    """e.g. "4.2.1"; None: not installed."""
    raise NotImplementedError
