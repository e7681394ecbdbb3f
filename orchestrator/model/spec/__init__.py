"""The desired state that a person writes (`plan.yaml`), one module per part of it."""

from orchestrator.model.spec.checks import Check
from orchestrator.model.spec.document import Host, Metadata, Pool, UpgradeSpec
from orchestrator.model.spec.instances import CommandLine, Instance, Kernel, Resources
from orchestrator.model.spec.policy import Hook, Hooks, Retry, RetryPolicy, Rollback, Soak, Strategy
from orchestrator.model.spec.workloads import Find, Migrate, Workload

__all__ = [
    "Check",
    "CommandLine",
    "Find",
    "Hook",
    "Hooks",
    "Host",
    "Instance",
    "Kernel",
    "Metadata",
    "Migrate",
    "Pool",
    "Resources",
    "Retry",
    "RetryPolicy",
    "Rollback",
    "Soak",
    "Strategy",
    "UpgradeSpec",
    "Workload",
]
