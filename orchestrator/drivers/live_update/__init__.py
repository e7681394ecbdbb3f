"""Live update: one kernel replaces another by kexec, workloads carried by KHO or through disk."""

from orchestrator.drivers.live_update.driver import LiveUpdateDriver

__all__ = ["LiveUpdateDriver"]
