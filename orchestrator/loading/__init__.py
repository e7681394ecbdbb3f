"""`plan.yaml` -> `UpgradeSpec`, with every problem at once and at its place. No host needed.

load_spec(text, filename) / load_spec_file(path) -> UpgradeSpec, or InvalidSpecError
load_policy(text, filename) -> Policy, or InvalidSpecError
as_written(text) -> the document of a text that loads, to be changed in part
loading.schema.schema() -> the JSON Schema of a plan; schema(Policy) that of a policy
"""

from orchestrator.loading.load import as_written, load_policy, load_spec, load_spec_file
from orchestrator.loading.problems import InvalidSpecError, Problem

__all__ = [
    "InvalidSpecError",
    "Problem",
    "as_written",
    "load_policy",
    "load_spec",
    "load_spec_file",
]
