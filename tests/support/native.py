"""Stand-ins for the native library: one that must not be touched, one that answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

DANGEROUS = {
    "sys_kexec_file_load",
    "sys_reboot_kexec",
    "sys_reboot_restart",
    "sys_reboot_multikernel",
    "sys_reboot_multikernel_halt",
    "sys_reboot_multikernel_halt_force",
    "liveupdate_ioctl_create_session",
    "liveupdate_ioctl_retrieve_session",
    "liveupdate_session_preserve_fd",
    "liveupdate_session_retrieve_fd",
    "liveupdate_session_finish",
    "liveupdate_session_get_name",
    "wdioc_settimeout",
    "wdioc_keepalive",
}


class Tripwire:
    """The native library, without what changes a host."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.reached: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name in DANGEROUS:
            self.reached.append(name)
            raise AssertionError(f"{name} was reached from a test")
        return getattr(self.real, name)


class FakeCalls:
    """Stands for the whole native library: answers what it is told, records what it is asked."""

    def __init__(self) -> None:
        self.answers: dict[str, int] = {}
        self.asked: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            self.asked.append((name, *arguments))
            return self.answers.get(name, 0)

        return call
