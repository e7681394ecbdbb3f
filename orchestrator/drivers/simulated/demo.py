"""A pretend host with its pretend images, for a spec: `python -m …simulated.demo PLAN.yaml`.

Writes below the spec's state directory only.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from orchestrator.drivers.simulated.creating import host_file_of, make_world, own_directory
from orchestrator.drivers.simulated.images import PretendImage, write_image
from orchestrator.drivers.simulated.store import Store
from orchestrator.model.errors import MkupgradeError
from orchestrator.model.spec import UpgradeSpec

OLD_RELEASE = "7.2.13"
_PLAIN = {
    "null": r"~|null|$",
    "bool": r"(true|false)$",
    "int": r"[-+]?[0-9]+$",
    "float": r"[-+]?[0-9]*\.[0-9]+$",
}


def prepare(spec: UpgradeSpec, *, release: str = OLD_RELEASE) -> Path:
    """Make what is missing: the host's file, the old kernel's image, and those of the spec.

    Files that are there stay as they are, and nothing is written outside the state directory.

    Returns:
        The host's file.
    """
    state_dir = Path(spec.host.state_dir)
    own_directory(state_dir)
    for instance in spec.instances:
        kernel = instance.kernel
        if kernel.image is None or kernel.release is None:
            continue
        _write_missing(state_dir, Path(kernel.image), PretendImage(release=kernel.release))
        if kernel.initrd is not None:
            _write_missing(state_dir, Path(kernel.initrd), None)
    host_file = host_file_of(spec)
    if not host_file.exists():
        old = state_dir / "boot" / f"vmlinuz-{release}"
        _write_missing(state_dir, old, PretendImage(release=release))
        Store(host_file).write(make_world(spec, release, old))
    return host_file


def _write_missing(state_dir: Path, path: Path, image: PretendImage | None) -> None:
    if path.exists() or not path.is_relative_to(state_dir):
        return
    if image is not None:
        write_image(path, image)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a pretend initrd\n", encoding="utf-8")


def _read(path: Path) -> object:
    """A YAML reader of its own, since drivers do not know the loader: what a plain word means is
    what YAML 1.2 says, as far as a valid spec has such words."""
    import yaml

    class Reader(yaml.SafeLoader):
        yaml_implicit_resolvers = {}

    for tag, pattern in _PLAIN.items():
        Reader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), None)
    return yaml.load(path.read_text(encoding="utf-8"), Reader)  # noqa: S506 - a SafeLoader


def _main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m orchestrator.drivers.simulated.demo PLAN.yaml\n")
        return 1
    try:
        host_file = prepare(UpgradeSpec.model_validate(_read(Path(arguments[0]))))
    except (MkupgradeError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{host_file}\n")
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
