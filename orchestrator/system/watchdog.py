"""A hardware or software watchdog: resets the machine unless it is fed in time.

Opening starts it. Closing leaves it running, unless it is disarmed by the magic close ("V")
and was not built or loaded with nowayout (Documentation/watchdog/watchdog-api.rst).
Whether it counts on across a kexec is its driver's choice (watchdog_stop_on_reboot) unless the
kernel was booted with watchdog.stop_on_reboot=0; if so, the next kernel must feed it in time.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from orchestrator.system import _native, call_errors, guard
from orchestrator.system.call_errors import WATCHDOG, check
from orchestrator.system.descriptor import Descriptor

WDIOF_SETTIMEOUT = 0x0080
WDIOF_MAGICCLOSE = 0x0100
WDIOF_KEEPALIVEPING = 0x8000


@dataclass(frozen=True)
class Support:
    """What the watchdog says of itself (WDIOC_GETSUPPORT)."""

    identity: str
    options: int

    @property
    def can_be_disarmed(self) -> bool:
        return bool(self.options & WDIOF_MAGICCLOSE)


class Watchdog(Descriptor):
    """An open watchdog: it runs. Fed by `keepalive`, stopped by `disarm`.

    Leaving a `with` disarms it; `close` leaves it running, on purpose.
    """

    def __init__(self, host: guard.HostGuard, fd: int, device: str) -> None:
        super().__init__(fd)
        self._host = host
        self._device = device

    def set_timeout(self, seconds: int) -> int:
        """Ask for a time limit; the limit that the hardware took, in seconds."""
        guard.require(self._host, "set the watchdog's time limit")
        value = _native.ffi.new("int *", seconds)
        check(
            _native.lib.wdioc_settimeout(self._fd, value),
            "WDIOC_SETTIMEOUT",
            WATCHDOG,
            self._device,
        )
        return int(value[0])

    def timeout(self) -> int:
        """The time limit, seconds."""
        value = _native.ffi.new("int *", 0)
        call = "WDIOC_GETTIMEOUT"
        check(_native.lib.wdioc_gettimeout(self._fd, value), call, WATCHDOG, self._device)
        return int(value[0])

    def keepalive(self) -> None:
        """Start the time limit anew."""
        guard.require(self._host, "feed the watchdog")
        call = "WDIOC_KEEPALIVE"
        check(_native.lib.wdioc_keepalive(self._fd), call, WATCHDOG, self._device)

    def support(self) -> Support:
        options = _native.ffi.new("uint32_t *")
        firmware = _native.ffi.new("uint32_t *")
        identity = _native.ffi.new("char[33]")
        result = _native.lib.wdioc_getsupport(self._fd, options, firmware, identity, 33)
        check(result, "WDIOC_GETSUPPORT", WATCHDOG, self._device)
        text = _native.ffi.string(identity, 33).decode("ascii", "replace")
        return Support(text, int(options[0]))

    def disarm(self) -> None:
        """Stop the watchdog and close it. With nowayout the kernel keeps it running: it says
        so in its log ("watchdog did not stop!").

        Raises:
            SystemCallError: it could not be told; it is closed and still runs.
        """
        if self._fd < 0:
            return
        guard.require(self._host, "disarm the watchdog")
        try:
            os.write(self._fd, b"V")
        except OSError as error:
            number = error.errno or errno.EIO
            raise call_errors.call_error(number, "write", WATCHDOG, self._device) from error
        finally:
            self.close()

    def close(self) -> None:
        """Close without stopping: unless somebody opens and feeds it, the machine is reset."""
        super().close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.disarm()


def open_watchdog(host: guard.HostGuard, device: str | Path) -> Watchdog:
    """Open and thereby start a watchdog.

    Raises:
        GuardError. BusyError: another process, mostly systemd, has it.
        SystemCallError: ENOENT: no such device.
    """
    guard.require(host, f"start the watchdog {device}")
    try:
        fd = os.open(device, os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        number = error.errno or errno.EIO
        raise call_errors.call_error(number, "open", WATCHDOG, str(device)) from error
    return Watchdog(host, fd, str(device))
