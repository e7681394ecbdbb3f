"""Step kinds of an upgrade. A new kind is named here, its parameters are defined in `params`, and
the drivers that support it handle it; nothing else changes."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal


class Kind(StrEnum):
    CHECK_ARTIFACTS = "check-artifacts"
    PREFLIGHT = "preflight"
    RUN_HOOK = "run-hook"
    LOAD_KERNEL = "load-kernel"
    ARM_FALLBACK = "arm-fallback"
    CHECKPOINT = "checkpoint"
    PRESERVE = "preserve"
    JUMP = "jump"
    RETRIEVE = "retrieve"
    RESTORE = "restore"
    CHECK = "check"
    SOAK = "soak"
    COMMIT = "commit"
    RESTORE_BOOT_DEFAULT = "restore-boot-default"
    CLEAN_UP = "clean-up"
    CREATE_INSTANCE = "create-instance"
    LOAD_INSTANCE = "load-instance"
    START_INSTANCE = "start-instance"
    AWAIT_INSTANCE = "await-instance"
    MOVE_WORKLOAD = "move-workload"
    STOP_WORKLOAD = "stop-workload"
    START_WORKLOAD = "start-workload"
    TRY_WORKLOADS = "try-workloads"
    ADMIT_WORKLOADS = "admit-workloads"
    CARRY_WORKLOAD = "carry-workload"
    TAKE_WORKLOAD = "take-workload"
    BRING_WORKLOAD = "bring-workload"
    COMMIT_INSTANCES = "commit-instances"
    HALT_INSTANCE = "halt-instance"
    UNLOAD_INSTANCE = "unload-instance"
    REMOVE_INSTANCE = "remove-instance"
    ADD_CPUS = "add-cpus"
    REMOVE_CPUS = "remove-cpus"
    ADD_MEMORY = "add-memory"
    REMOVE_MEMORY = "remove-memory"
    GROW_POOL = "grow-pool"
    SHRINK_POOL = "shrink-pool"


ChannelName = Literal["kho", "disk"]
