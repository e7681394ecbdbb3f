"""The policy of a host: which plans may be carried out here, and who must have signed them.

in_force() -> InForce or None; raises if the file is there and cannot be relied on
InForce.require_signature, .hold_spec, .hold_graph -> PolicyError with rule and place
"""

from orchestrator.policy.enforce import in_force

__all__ = ["in_force"]
