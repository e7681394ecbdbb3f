"""What a pretend host consists of. All of it is in one JSON file that people may edit.

Three kinds of memory differ in how long they last, as on a real host:

- of a process: staged state and channel sessions that an owner holds; gone when it dies;
- of a kernel: workloads, the loaded image, incoming sessions; gone with the next boot;
- of the disk: spilled state, boot entries, records; they stay.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.drivers.simulated.faults import Fault
from orchestrator.model.base import digest
from orchestrator.model.host import Abi, Cap, Capability

ABI = Abi(kho="kho-v4", luo="luo-v5", memfd="memfd-v2")
"""As in Linux 7.2 and 7.3 (include/linux/kho/abi)."""


class Part(BaseModel):
    """A part of the host: changes, and knows no unknown keys."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class Owner(Part):
    """The process that holds something; see `process`."""

    pid: int
    started: str
    token: str


class Kernel(Part):
    """A kernel as it runs or is about to run."""

    release: str
    cmdline: str = ""
    image: str | None = None
    initrd: str | None = None
    abi: Abi = ABI
    kho: bool = True
    """Built with CONFIG_KEXEC_HANDOVER and CONFIG_LIVEUPDATE_MEMFD."""

    @property
    def hands_over(self) -> bool:
        """Both parameters are needed: either alone hands nothing over."""
        words = self.cmdline.split()
        return self.kho and "kho=on" in words and "liveupdate=on" in words


class Loaded(Kernel):
    """A kernel that kexec has loaded."""

    sha256: str
    behaviour: Literal["ok", "panic-at-boot", "hang"] = "ok"


class Payload(Part):
    """A workload's state: what it has counted, and which life of it that was."""

    workload: str
    life: int
    counter: int
    sha256: str

    @classmethod
    def of(cls, workload: str, life: int, counter: int) -> Payload:
        seal = digest([workload, life, counter])
        return cls(workload=workload, life=life, counter=counter, sha256=seal)

    @property
    def is_whole(self) -> bool:
        return self.sha256 == digest([self.workload, self.life, self.counter])


class PretendWorkload(Part):
    """Counts one up with everything that happens on the host while it runs."""

    status: Literal["running", "frozen", "gone"] = "running"
    counter: int = 0
    life: int = 1
    """How often it was started from nothing."""
    boot_id: str = ""
    """The boot in which it runs."""
    pid: int = 100
    memory_bytes: int = 12 * 2**20
    volatile_files: list[str] = []


class Staged(Part):
    """State that was taken and not yet handed over."""

    ran: bool
    """It was taken from a running workload, and not passed on from an earlier kernel."""

    payload: Payload | None
    """None: there is none, because the workload is merely stopped."""
    durable: bool
    owner: Owner


class Session(Part):
    """A channel session in memory that a process holds for the next kernel."""

    payloads: dict[str, Payload]
    owner: Owner


class Fallback(Part):
    """The way back of one transaction, as `arm-fallback` recorded it."""

    boot_default: str | None
    release: str
    watchdog: str | None = None


class World(Part):
    """The host. Keys such as "<transaction>/<section>" hold what a transaction left there."""

    format: Literal["mkupgrade-simulated-host/v1"] = "mkupgrade-simulated-host/v1"
    machine_id: str
    hostname: str = "pretend"
    boots: int = 1
    kernel: Kernel
    entries: dict[str, Kernel]
    default: str
    """The entry that a reset ends in."""
    loader: Literal["systemd-boot", "none"] = "systemd-boot"
    """none: the default can be neither read nor set."""
    loaded: Loaded | None = None
    signature_enforced: bool = False
    workloads: dict[str, PretendWorkload] = {}
    watchdog: Owner | None = None

    staged: dict[str, dict[str, Staged]] = {}
    sessions: dict[str, Session] = {}
    incoming: dict[str, dict[str, Payload]] = {}
    """Sessions of the kernel before, until they are retrieved; names of their own."""
    spilled: dict[str, dict[str, Payload]] = {}
    manifests: dict[str, list[str]] = {}
    landed: dict[str, dict[str, Payload]] = {}
    fallbacks: dict[str, Fallback] = {}
    hooks: list[str] = []
    """"<transaction>:<step>" of every hook that was run and not undone."""
    commits: dict[str, str] = {}
    """Transaction -> entry id, or "" where there is no loader."""

    failing_checks: dict[str, str] = {}
    """Check -> release in which it fails, "*" for every one."""
    capabilities: dict[Cap, Capability] = {}
    """What is to be different from the usual."""
    faults: dict[str, Fault] = {}
    """By step id."""
    faults_played: dict[str, int] = {}
    half_done: list[str] = []
    """"<transaction>:<step>" of effects that a fault left half done."""
    in_doubt: list[str] = []
    """The same, of effects that nobody can tell anything of; cleared by hand or by doing them."""
    log: list[str] = Field(default_factory=list)
    """What happened, newest last; the last 200 lines."""

    @property
    def boot_id(self) -> str:
        """Derived, so that a test can foresee it."""
        return digest([self.machine_id, self.boots])[:32]

    def say(self, text: str) -> None:
        self.log = [*self.log[-199:], f"[boot {self.boots}, Linux {self.kernel.release}] {text}"]

    def tick(self) -> None:
        """Time goes on: every running workload counts."""
        for workload in self.workloads.values():
            if workload.status == "running":
                workload.counter += 1
