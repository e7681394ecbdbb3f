"""The readers that are fuzzed. See `target.py` for how to add one."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sqlite3
import stat
from contextlib import suppress
from pathlib import Path
from unittest import mock

from orchestrator import planning
from orchestrator.cli.render.html import report_html
from orchestrator.cli.render.report import report_text
from orchestrator.cli.render.view import report_json, view_of
from orchestrator.drivers import records
from orchestrator.drivers.multikernel import proc
from orchestrator.drivers.multikernel.trees.changes import Tag
from orchestrator.drivers.multikernel.trees.overlay import read_overlay
from orchestrator.drivers.multikernel.trees.reading import read_baseline, read_instance, read_pool
from orchestrator.drivers.simulated.store import Store
from orchestrator.engine import anchor, fold
from orchestrator.engine.core import decide
from orchestrator.engine.interrupts import ABORT_FILE, read_abort
from orchestrator.engine.journal import FILE, Journal
from orchestrator.engine.lock import FILE as LOCK
from orchestrator.engine.lock import current_holder
from orchestrator.engine.queries import history, report_of, rolled_back_before, unfinished
from orchestrator.engine.verify import Verified
from orchestrator.handover import archive
from orchestrator.handover.frame import SIZE, Header
from orchestrator.handover.manifest import Manifest
from orchestrator.handover.payload import unpack_payload, verify_payload
from orchestrator.loading import load_policy, load_spec
from orchestrator.loading.source import decode
from orchestrator.model.errors import MkupgradeError, PolicyError
from orchestrator.nixos import bootspec
from orchestrator.policy import signatures
from orchestrator.system import (
    decompress,
    device_tree,
    grub,
    guard,
    kernel_config,
    kernel_image,
    systemd_boot,
)
from orchestrator.workloads import meta
from tests.fuzz import agent_targets, seeds  # noqa: F401 - it registers
from tests.fuzz.target import TARGETS, target

__all__ = ["TARGETS"]

SMALL = 4 << 20
"""Bytes that unpacking may yield here, in place of 256 MiB: what is tried is the bound itself."""
XZ = 200 << 20
"""A header of xz may ask for a dictionary of up to 160 MiB."""
_JSON = (b'"type":"ended"', b'"step":"', b'"result":{}', b'"time":1e308', b'"time":-1', b'"seq":')
_YAML = (
    *(b"name: ", b"&a ", b"*a", b"<<: ", b"!!str ", b"? ", b"- ", b"---\n", b"%YAML 1.2\n", b"\t"),
    *(b"kind: ", b"method: ", b".inf", b"0o17", b"1e400", b"\xef\xbb\xbf", b"workloads: "),
)


@target("spec", seeds.specs, tokens=_YAML, examples=12)
def _spec(data: bytes, _: Path) -> None:
    load_spec(decode(data, "plan.yaml"))


POLICY = b"""\
api_version: mkupgrade-policy/v1
signatures: {allowed_signers: /etc/mkupgrade/allowed_signers}
images: {directories: [/boot]}
commands:
  hooks: [{program: /bin/a}, {argv: [/bin/b, c]}]
  criu_arguments: []
state: {directories: [/var/lib/mkupgrade]}
"""


@target("policy", lambda: [POLICY], tokens=_YAML, examples=40)
def _policy(data: bytes, _: Path) -> None:
    load_policy(decode(data, "policy.yaml"))


BOOTSPEC = b"""\
{"org.nixos.bootspec.v1": {"system": "x86_64-linux", "label": "NixOS", "kernel": "/s/bzImage",
"kernelParams": ["quiet"], "init": "/s/init", "toplevel": "/s", "initrd": "/i"},
"org.nixos.specialisation.v1": {"rt": {"org.nixos.bootspec.v1": {"system": "x86_64-linux",
"label": "rt", "kernel": "/k", "kernelParams": [], "init": "/s/init", "toplevel": "/s"}}},
"org.example": {"any": [1]}}
"""
_BOOTSPEC = (b'"v1":', b'"org.nixos.bootspec.v2":', b'"org.nixos.specialisation.v1":', b"\\ud800")


@target("bootspec", lambda: [BOOTSPEC], tokens=_BOOTSPEC, examples=40)
def _bootspec(data: bytes, _: Path) -> None:
    bootspec.parse(data)


@target("plan", seeds.plans, tokens=_JSON, examples=25)
def _plan(data: bytes, _: Path) -> None:
    graph = planning.load(data, "plan.json")
    assert planning.save(graph).encode() in seeds.plans(), "a changed plan was taken"


@target("sealed-plan", seeds.plans, tokens=_JSON, examples=12)
def _sealed_plan(data: bytes, _: Path) -> None:
    """With a digest that fits: what is behind it must stand hostile content, too."""
    graph = planning.load(seeds.resealed(data), "plan.json")
    planning.draw(graph, "svg")


def _look(state: Path) -> None:
    """Everything that reads a journal, as far as the content lets it."""
    journal = Journal.open_readonly(state)
    assert journal is not None
    with journal:
        with suppress(MkupgradeError):
            journal.verify()
        with suppress(MkupgradeError):
            history(journal)
        unfinished(journal)
        for stored in journal.transactions():
            rolled_back_before(journal, stored.intent_digest)
            with suppress(MkupgradeError):
                view = view_of(report_of(journal, stored.id), journal.plan(stored.id)[0])
                report_text(view, None)
                report_html(view)
                report_json(view)
            graph, _ = journal.plan(stored.id)
            folded = fold.fold(fold.start(graph), journal.log(stored.id))
            decide(folded, 0.0)


def _journal_file(data: bytes, directory: Path) -> Path:
    state = directory / "state"
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(mode=0o700)
    fd = os.open(state / FILE, os.O_CREAT | os.O_WRONLY, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    return state


@target("journal", seeds.journals, tokens=(b"events", b"CREATE VIEW "), examples=12, writes=True)
def _journal(data: bytes, directory: Path) -> None:
    """The bytes of the SQLite file."""
    _look(_journal_file(data, directory))


_CELLS = (
    "UPDATE events SET body = ?1, hash = ?2 WHERE rowid = ?3",
    "UPDATE transactions SET plan = ?1, plan_digest = ?2",
    "UPDATE events SET body = ?1 WHERE rowid = ?3",
    "UPDATE events SET tx = ?1 WHERE rowid = ?3",
    "UPDATE events SET type = ?1 WHERE rowid = ?3",
    "UPDATE events SET hash = ?1 WHERE rowid = ?3",
    "UPDATE transactions SET id = ?1",
    "UPDATE transactions SET name = ?1",
    "UPDATE transactions SET intent_digest = ?1",
    "UPDATE transactions SET started = length(?1) * 1e300",
)


@target("journal-row", seeds.rows, tokens=_JSON, examples=15, writes=True)
def _journal_row(data: bytes, directory: Path) -> None:
    """One cell of a whole journal, with the hash beside it set right where there is one."""
    state = _journal_file(seeds.journals()[0], directory)
    column, row, text = data[0] if data else 0, data[1] if len(data) > 1 else 0, data[2:]
    value = text.decode("utf-8", "replace")
    values = (value, hashlib.sha256(value.encode()).hexdigest(), row + 1)
    with sqlite3.connect(state / FILE) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        statement = _CELLS[column % len(_CELLS)]
        connection.execute(statement, values[: 3 if "?3" in statement else statement.count("?")])
    connection.close()
    _look(state)


@target("manifest", seeds.manifests, tokens=_JSON)
def _manifest(data: bytes, _: Path) -> None:
    Manifest.decode(data, "manifest")


@target("sealed-manifest", seeds.manifest_bodies, tokens=_JSON)
def _sealed_manifest(data: bytes, _: Path) -> None:
    """With length and digest that fit."""
    manifest = Manifest.decode(seeds.sealed_manifest(data), "manifest")
    Manifest.decode(manifest.encode())
    models = {"criu": meta.CriuMeta, "hooks": meta.HooksMeta, "restart": meta.RestartMeta}
    for workload in manifest.workloads:
        with suppress(MkupgradeError):
            meta.parse(models[workload.method], workload.meta, workload.name)
        with suppress(MkupgradeError):
            meta.network_of(workload.meta, workload.name)


@target("frame", seeds.payloads, tokens=(b"MKUPHAND",))
def _frame(data: bytes, _: Path) -> None:
    header = Header.parse(data, "frame")
    assert header.pack() == data[:SIZE]


@target("payload", seeds.payloads, tokens=(b"MKUPHAND", b"ustar"), writes=True)
def _payload(data: bytes, directory: Path) -> None:
    """A frame and its archive, held to the header that is in it."""
    header = Header.parse(data, "payload")
    fd = os.memfd_create("fuzz", os.MFD_CLOEXEC)
    try:
        os.write(fd, data)
        with suppress(MkupgradeError):
            verify_payload(fd, header, "payload")
        shutil.rmtree(directory / "into", ignore_errors=True)
        unpack_payload(fd, header.length, directory / "into")
    finally:
        os.close(fd)


@target("archive", seeds.archives, tokens=(b"ustar", b"././@PaxHeader", b"19 path=", b"../"),
        writes=True)  # fmt: skip
def _archive(data: bytes, directory: Path) -> None:
    into = directory / "archive"
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(mode=0o700)
    try:
        archive.read(io.BytesIO(data), into)
    finally:
        for path in into.rglob("*"):
            mode = path.lstat().st_mode
            assert stat.S_ISDIR(mode) or stat.S_ISREG(mode), "neither file nor directory"
            assert not stat.S_IMODE(mode) & 0o7077, "open to others"
        assert {p.name for p in directory.iterdir()} <= {"archive"}, "written outside"


@target(
    "kernel-image",
    seeds.images,
    tokens=(b"HdrS", b"MZ", b"PE\0\0", b"zimg", b"IKCFG_ST"),
    memory=XZ,
)
def _kernel_image(data: bytes, _: Path) -> None:
    with mock.patch.object(kernel_image, "UNPACKED_LIMIT", SMALL):
        kernel_image.image_facts(data)


@target("kernel-strings", lambda: [seeds.kernel(config=seeds.CONFIG)],
        tokens=(b"kho-v", b"luo-v99999\0", b"IKCFG_ST", b"IKCFG_ED"))  # fmt: skip
def _kernel_strings(data: bytes, _: Path) -> None:
    """What lies unpacked inside an image."""
    kernel_image.abi_strings(data)
    kernel_config.embedded(data)
    kernel_config.parse(data.decode("utf-8", "replace"))


@target(
    "compressed",
    seeds.compressed,
    tokens=tuple(m for m in decompress.MAGICS if m[0] < 0x80),
    memory=XZ,
)
def _compressed(data: bytes, _: Path) -> None:
    kind = decompress.compression(data)
    if kind in {"zstd", "lz4", "lzo"}:
        return  # programs of others, in a process of their own, with limits
    assert len(decompress.decompress(data, SMALL)) <= SMALL


GRUB = b"""\
set default="${saved_entry}"
menuentry 'Debian' --class os $menuentry_id_option 'simple' {
	linux	/boot/vmlinuz-7.3.4 root=UUID=1 ro
}
submenu "Advanced" --id=adv {
	menuentry 'Linux 7.2.12' {
		linux	/boot/vmlinuz-7.2.12 root=UUID=1 single
	}
}
"""
GRUBENV = b"# GRUB Environment Block\nsaved_entry=adv>0\nnext_entry=1\n#####"
BLS = b"title Fedora (7.3.4)\nversion 7.3.4\nlinux /vmlinuz-7.3.4\noptions root=UUID=1 ro\n"


@target("grub", lambda: [GRUB, GRUB + b"blscfg\n", GRUBENV, BLS],
        tokens=(b"menuentry ", b"submenu 'a' {\n", b"}\n", b"${", b"linux /x ", b">", b"blscfg\n"),
        writes=True)  # fmt: skip
def _grub(data: bytes, directory: Path) -> None:
    """The same bytes as grub.cfg, as grubenv and as a BLS entry."""
    boot = directory / "boot"
    for name in ("grub", "loader/entries"):
        (boot / name).mkdir(parents=True, exist_ok=True)
    for name in ("grub/grub.cfg", "grub/grubenv", "loader/entries/a.conf"):
        (boot / name).write_bytes(data)
    state = grub.observe(directory, boot / "grub/grub.cfg")
    grub.resolve(data.decode("utf-8", "replace"), grub.parse_entries(GRUB.decode()))
    state.model_dump_json()


BOOTCTL = b'[{"id":"a.conf","title":"Linux","version":"7.3.4","linux":"/a/vmlinuz-7.3.4",\
"isDefault":true},{"id":"b.conf","linux":"/n/7.2.1/linux"}]'


@target("systemd-boot", lambda: [BOOTCTL], tokens=_JSON)
def _systemd_boot(data: bytes, _: Path) -> None:
    """What bootctl prints."""
    listed = systemd_boot.parse_list(data.decode("utf-8", "replace"))
    state = systemd_boot.state_of(listed, "b.conf", None)
    state.model_dump_json()


MACHINE = "0123456789abcdef0123456789abcdef"


@target("permit", lambda: [MACHINE.encode() + b"\n"], writes=True)
def _permit(data: bytes, directory: Path) -> None:
    permit = directory / "mkupgrade" / "host.permit"
    permit.parent.mkdir(exist_ok=True)
    permit.write_bytes(data)
    permit.chmod(0o600)
    machine = directory / "machine-id"
    machine.write_text(MACHINE)
    paths = guard.GuardPaths(permit, machine, directory / "proc", (), os.geteuid())
    found = [text for text in guard.objections(paths) if str(permit) in text]
    assert (not found) == (data.decode("ascii", "replace")[:256].strip() == MACHINE)


def _in_state(directory: Path, name: str, data: bytes) -> Path:
    path = directory / name
    path.write_bytes(data)
    path.chmod(0o600)
    return directory


HOLDER = b'{"pid":1,"boot_id":"b","started":1,"verb":"apply","transaction":"t"}\n'


@target("lock", lambda: [HOLDER], tokens=_JSON, writes=True)
def _lock(data: bytes, directory: Path) -> None:
    current_holder(_in_state(directory, LOCK, data))


ANCHOR = b'{"seq":7,"hash":"' + b"0123456789abcdef" * 4 + b'"}\n'


@target("anchor", lambda: [ANCHOR], tokens=_JSON, writes=True)
def _anchor(data: bytes, directory: Path) -> None:
    found = anchor.read(_in_state(directory, anchor.FILE, data))
    whole = Verified(events=9, head="0" * 64)
    anchor.hold(whole, found, {7: "0" * 64}.get)


@target("abort", lambda: [b'{"transaction":"t","reason":"r"}'], tokens=_JSON, writes=True)
def _abort(data: bytes, directory: Path) -> None:
    read_abort(_in_state(directory, ABORT_FILE, data), "t")


@target("simulated-host", seeds.pretend_hosts, tokens=_JSON, examples=40, writes=True,
        memory=160 << 20)  # fmt: skip
def _simulated_host(data: bytes, directory: Path) -> None:
    Store(_in_state(directory, "host.json", data) / "host.json").read()


if shutil.which("ssh-keygen"):

    @target("signature", seeds.signatures, tokens=(b"U1NIU0lH",), examples=4, runs=True)
    def _signature(data: bytes, _: Path) -> None:
        """As beside a plan. Never is it good for other bytes than those that were signed."""
        try:
            signatures.verify(seeds.SIGNED + b"x", data, seeds.signers(), None)
        except PolicyError:
            signatures.verify(seeds.SIGNED, data, seeds.signers(), None)
        else:
            raise AssertionError("good for other bytes")


@target("driver-record", lambda: [b'{"boot_id":"b","image":"/boot/k","sha256":"0"}'], tokens=_JSON)
def _driver_record(data: bytes, _: Path) -> None:
    """What the live-update driver notes down beside the journal."""
    records._parsed(Path("record.json"), data)


@target("device-tree", seeds.device_trees, tokens=seeds.CELLS, examples=60)
def _device_tree(data: bytes, _: Path) -> None:
    """Any tree; what is read can be written again."""
    root = device_tree.unflatten(data, "tree")
    assert device_tree.unflatten(device_tree.flatten(root), "again") == root


@target("multikernel-trees", seeds.device_trees, tokens=seeds.CELLS, examples=60)
def _multikernel_trees(data: bytes, _: Path) -> None:
    """The same bytes as each tree that the multikernel kernel is given or gives."""
    for read in (read_baseline, read_pool, read_instance, read_overlay):
        with suppress(device_tree.DeviceTreeError):
            read(data, "tree")
    Tag.parse(data[:300].decode("utf-8", "replace"))


KIMAGE = b"7      multikernel  0x0000000100000000  4         file  console=mktty0 quiet\n"
IOMEM = b"  100200000-1401fffff : mk-instance-2-web-region-0\n"


@target("multikernel-proc", lambda: [KIMAGE, IOMEM], tokens=(b"multikernel", b" : mk-instance-"))
def _multikernel_proc(data: bytes, _: Path) -> None:
    """Lines of /proc/kimage and of /proc/iomem."""
    text = data.decode("utf-8", "replace")
    proc.command_lines(text)
    for owned in proc.owned_regions(text):
        assert owned.region.size > 0
