"""The modules that a guest needs of a kernel of this host: root, network, CRIU, nftables.

A distribution's kernel has them as modules; the guest gets those, what they depend on, and
depmod's tables. Everything else stays where it is: a guest has no such hardware.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from orchestrator.rehearsal.image import LayerFile

NEEDED = (
    "virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng", "ext4", "i6300esb",
    "nf_tables", "nft_ct", "nft_chain_nat", "nft_masq", "nf_conntrack", "veth", "tun",
    "inet_diag", "tcp_diag", "udp_diag", "raw_diag", "unix_diag", "netlink_diag",
    "af_packet_diag", "overlay", "softdog",
)  # fmt: skip

_TABLES = "modules.*"


def modules_layer(release: str, root: Path = Path("/")) -> dict[str, LayerFile | str]:
    """Guest path -> file, for the modules of a release; empty when the host has none of it."""
    for base in ("usr/lib/modules", "lib/modules"):
        room = root / base / release
        if (room / "modules.dep").is_file():
            return dict(_files(room, f"/usr/lib/modules/{release}"))
    return {}


def _files(room: Path, target: str) -> Iterable[tuple[str, LayerFile]]:
    for table in sorted(room.glob(_TABLES)):
        if table.is_file():
            yield f"{target}/{table.name}", LayerFile(table)
    dependencies = read_dependencies((room / "modules.dep").read_text(encoding="utf-8"))
    for path in sorted(closure(dependencies, NEEDED)):
        if (room / path).is_file():
            yield f"{target}/{path}", LayerFile(room / path)


def read_dependencies(text: str) -> dict[str, list[str]]:
    """modules.dep: path of a module -> paths of those that it needs (modules.dep(5))."""
    found = {}
    for line in text.splitlines():
        path, colon, needs = line.partition(":")
        if colon:
            found[path.strip()] = needs.split()
    return found


def module_name(path: str) -> str:
    """kernel/drivers/net/virtio_net.ko.xz -> virtio_net; "-" and "_" are the same."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def closure(dependencies: dict[str, list[str]], names: Iterable[str]) -> set[str]:
    """Paths of the named modules and of everything that they need."""
    wanted = set(names)
    left = [path for path in dependencies if module_name(path) in wanted]
    found: set[str] = set()
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            left += dependencies.get(path, [])
    return found
