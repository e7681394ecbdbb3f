"""What makes a guest boot Debian's systemd: the agent and the network as units, and no more."""

from __future__ import annotations

import re
from importlib import resources

from orchestrator.rehearsal.image import LayerFile
from orchestrator.rehearsal.package import GUEST_PROGRAMS

_AGENT_UNIT = f"""[Unit]
Description=Control agent of the rehearsal
DefaultDependencies=no
After=systemd-remount-fs.service
[Service]
ExecStart=/usr/bin/python3 -IS {GUEST_PROGRAMS}/agent.py
Environment=LC_ALL=C.UTF-8 HOME=/root
Restart=always
[Install]
WantedBy=sysinit.target
"""

_NETWORK = """[Match]
Name=eth0
[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
LinkLocalAddressing=no
IPv6AcceptRA=no
"""

_TRIGGER = """[Service]
ExecStart=
ExecStart=-udevadm trigger --action=add --subsystem-match=net
"""
"""udev is asked for what somebody waits for; each device of a guest costs an emulated quarter of a
second."""

_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "systemd-firstboot.service",
    # For a /usr that has changed since the last boot: it was all done as the tree was made.
    "ldconfig.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-sysusers.service",
    "systemd-update-done.service",
    # For devices and logins that a guest does not have, and modules that are built in.
    "getty@.service",
    "serial-getty@.service",
    "modprobe@.service",
    "systemd-modules-load.service",
    "dev-mqueue.mount",
    "sys-fs-fuse-connections.mount",
)
"""What only slows a guest down."""

_WANTED_BY = re.compile(r"^WantedBy=(\S+)$", re.MULTILINE)


def systemd_files() -> dict[str, LayerFile | str]:
    """The agent and the network as units; what only slows a guest down is masked."""
    units, wants = "/etc/systemd/system", "/etc/systemd/system/sysinit.target.wants"
    files: dict[str, LayerFile | str] = {
        f"{units}/mkupgrade-control.service": LayerFile(_AGENT_UNIT.encode()),
        f"{wants}/mkupgrade-control.service": f"{units}/mkupgrade-control.service",
        "/etc/systemd/network/10-eth0.network": LayerFile(_NETWORK.encode()),
        f"{units}/multi-user.target.wants/systemd-networkd.service": (
            "/usr/lib/systemd/system/systemd-networkd.service"
        ),
    }
    files[f"{units}/systemd-udev-trigger.service.d/guest.conf"] = LayerFile(_TRIGGER.encode())
    files |= {f"{units}/{name}": "/dev/null" for name in _MASKED}
    unit = resources.files("orchestrator") / "drivers" / "live_update" / "mkupgrade-resume.service"
    if unit.is_file():
        name, text = "mkupgrade-resume.service", unit.read_text(encoding="utf-8")
        files[f"/usr/lib/systemd/system/{name}"] = LayerFile(text.encode())
        for target in _WANTED_BY.findall(text):  # what `systemctl enable` does
            files[f"{units}/{target}.wants/{name}"] = f"/usr/lib/systemd/system/{name}"
    return files
