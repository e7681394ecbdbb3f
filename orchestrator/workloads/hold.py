"""The hold: incoming TCP to carried ports is dropped until their sockets are back.

A kernel without the socket answers a segment with a reset, and the peer's connection is dead. A
segment that is dropped is sent again. So: `hold` before the network is up, restore, `release`.
The order of locks on a restore: our hold is there, CRIU makes the sockets in repair mode and
removes its own lock (of the dump, in another kernel; nothing is there), then `open_ports` at
once, since every reply that is dropped from now on costs a retransmission, then `release`.
"""

from __future__ import annotations

from orchestrator.model.errors import ErrorClass, WorkloadError
from orchestrator.system import subprocesses

TABLE = "mkupgrade_hold"
_NFT_SECONDS = 10.0
_MAX_PORTS = 16384


def hold(ports: list[int], timeout: float = _NFT_SECONDS) -> None:
    """Drop incoming TCP to these ports, in the place of an earlier hold. None: no hold.

    Args:
        timeout: seconds.

    Raises:
        NotSupportedError: nft is not installed. ToolError: it refused (no nf_tables?).
    """
    if not ports:
        release(timeout)
        return
    if len(ports) > _MAX_PORTS or any(not 1 <= port <= 65535 for port in ports):
        raise WorkloadError("not a list of ports", error_class=ErrorClass.INVALID)
    elements = ", ".join(str(port) for port in sorted(set(ports)))
    # "add" first, so that "delete" has something to delete: one transaction, never a gap.
    _nft(
        f"add table inet {TABLE}\n"
        f"delete table inet {TABLE}\n"
        f"table inet {TABLE} {{\n"
        "    set ports {\n"
        "        type inet_service\n"
        f"        elements = {{ {elements} }}\n"
        "    }\n"
        "    chain input {\n"
        "        type filter hook input priority -300; policy accept;\n"
        "        tcp dport @ports drop\n"
        "    }\n"
        "}\n",
        timeout,
    )


def open_ports(ports: list[int], timeout: float = _NFT_SECONDS) -> None:
    """Take ports out of the hold, whose sockets are back; not held is fine."""
    if not ports or not available():
        return
    for port in ports:  # one by one: a set refuses to delete what it does not hold
        script = f"delete element inet {TABLE} ports {{ {port} }}\n"
        argv = ["nft", "-f", "-"]
        subprocesses.run(argv, input=script.encode(), timeout=timeout, check=False)


def release(timeout: float = _NFT_SECONDS) -> None:
    """End the hold; none there is fine, and so is no nft: it cannot have made one.

    Raises:
        ToolError
    """
    if available() and held(timeout):
        _nft(f"delete table inet {TABLE}\n", timeout)


def held(timeout: float = _NFT_SECONDS) -> bool:
    """Is there a hold? No where nft cannot tell: then it could not make one either."""
    argv = ["nft", "list", "table", "inet", TABLE]
    return subprocesses.run(argv, timeout=timeout, check=False).returncode == 0


def available() -> bool:
    return subprocesses.available("nft") is not None


def _nft(script: str, timeout: float) -> None:
    subprocesses.run(["nft", "-f", "-"], input=script.encode(), timeout=timeout)
