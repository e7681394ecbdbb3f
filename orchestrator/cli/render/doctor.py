"""Host state for people: what it can do, and why not what it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from orchestrator.cli.render.spans import count
from orchestrator.cli.render.text import text
from orchestrator.cli.terminal import speaks_unicode
from orchestrator.model.host import Abi, Cap, HostState
from orchestrator.model.quantities import format_size

if TYPE_CHECKING:
    from rich.console import Console


def show_host(out: Console, host: HostState, objections: list[str], policy: list[str]) -> None:
    """Facts, capabilities, and what the spec names, as far as it was observed.

    Args:
        objections: why calls that change this host would be refused.
        policy: what it demands of plans, a line each; empty: there is none.
    """
    out.print(text((host.hostname or "this host", "bold"), f" (driver {host.driver})"))
    _facts(out, host)
    _capabilities(out, host)
    _artifacts(out, host)
    _workloads(out, host)
    for line in policy:
        out.print(text(("Policy", "bold"), f": {line}"))
    for objection in objections:
        out.print(text(("Changes are refused", "bold yellow"), f": {objection}"))
    total = len(host.capabilities)
    there = sum(c.available for c in host.capabilities.values())
    out.print(
        text(
            (f"{there} of {total} capabilities", "bold"),
            " available; a plan needs only those that its steps name.",
        )
    )


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2), pad_edge=True)
    grid.add_column(no_wrap=True)
    return grid


def _facts(out: Console, host: HostState) -> None:
    grid = _grid()
    boot = host.boot
    rows = {
        "kernel": f"Linux {host.kernel.release}",
        "command line": host.kernel.cmdline,
        "its image": host.kernel.image or "not known",
        "ABI strings": _abi(host.kernel.abi),
        "memory": f"{format_size(host.memory_available_bytes)} of "
        f"{format_size(host.memory_bytes)} available",
        "CPUs": str(host.cpus),
        "boot loader": boot.loader + (f", default {boot.default}" if boot.default else ""),
        "systemd": _systemd(host),
        "CRIU": host.criu_version or "not installed",
        "kexec image": "loaded" if host.kexec_loaded else "none of somebody else's",
        "image signatures": "enforced" if host.signature_enforced else "not enforced",
    }
    for name, value in rows.items():
        grid.add_row(text((name, "dim")), text(value))
    out.print(grid)
    out.print()


def _capabilities(out: Console, host: HostState) -> None:
    yes, no = ("✓", "✗") if speaks_unicode(out.file) else ("+", "-")  # type: ignore[arg-type]
    grid = _grid()
    for cap, found in sorted(host.capabilities.items(), key=lambda c: not c[1].available):
        sign = (yes, "green") if found.available else (no, "red")
        grid.add_row(text(sign, f" {cap.value}"), text(found.reason))
    out.print(grid)
    out.print()


def _artifacts(out: Console, host: HostState) -> None:
    if not host.artifacts:
        return
    grid = _grid()
    for path, found in host.artifacts.items():
        if found.error:
            grid.add_row(text(path), text((found.error, "red")))
            continue
        about = [found.kind, format_size(found.size)]
        if found.kind == "image":
            about += [f"Linux {found.release or '?'}", _abi(found.abi)]
            about += ["PE signature" if found.pe_signed else "no PE signature"]
        grid.add_row(text(path), text(", ".join(about)))
    out.print(text(("Files of the plan", "bold")))
    out.print(grid)
    out.print()


def _workloads(out: Console, host: HostState) -> None:
    if not host.workloads:
        return
    grid = _grid()
    for name, found in host.workloads.items():
        if found.error or not found.pids:
            grid.add_row(text(name), text((found.error or "not running", "yellow")))
            continue
        about = (
            f"process {found.pids[0]}, {len(found.pids)} in all, {format_size(found.memory_bytes)}"
        )
        if found.volatile_files:
            about += f", {count(len(found.volatile_files), 'open file')} on tmpfs"
        grid.add_row(text(name), text(about))
    out.print(text(("Workloads of the plan", "bold")))
    out.print(grid)
    out.print()


def _systemd(host: HostState) -> str:
    if host.systemd_version is None:
        return "not installed"
    running = host.can(Cap.SYSTEMD).available
    return f"{host.systemd_version}{'' if running else ', not running'}"


def _abi(abi: Abi) -> str:
    return ", ".join(v for v in (abi.kho, abi.luo, abi.memfd) if v) or "none"
