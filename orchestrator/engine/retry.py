"""When is a failed attempt made again? Tenacity's strategies, used as pure policy.

Tenacity's own loop sleeps in the process; ours must survive it. So only its `stop` and `wait`
answers are asked for, with the attempt's number, and the waiting is the runner's.
"""

from __future__ import annotations

from hashlib import sha256

from orchestrator.model.errors import ErrorClass
from orchestrator.model.spec.policy import RetryPolicy

JITTER = 0.25
"""Up to this share is added to each pause, so that hosts do not retry in step."""
REVERT_ATTEMPTS = 3
"""The way back is tried at least this often, whatever the policy for the way there."""


def pause_before_next(
    policy: RetryPolicy, attempts: int, error_class: str, *, seed: str
) -> float | None:
    """Seconds to wait after attempt number `attempts` failed; None: give up.

    Pure: the jitter is drawn from `seed` (step and attempt), so that a fold over the same
    events gives the same answer.
    """
    if error_class not in {c.value for c in policy.on}:
        return None
    import tenacity  # imports asyncio; most runs never retry

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(policy.attempts),
        wait=tenacity.wait_exponential(multiplier=policy.initial, max=policy.maximum),
    )
    state = tenacity.RetryCallState(retrying, fn=None, args=(), kwargs={})
    state.attempt_number = attempts
    if retrying.stop(state):
        return None
    return float(retrying.wait(state)) * (1 + JITTER * _fraction(seed))


def for_revert(policy: RetryPolicy) -> RetryPolicy:
    """The policy for taking an effect back."""
    return policy.model_copy(
        update={
            "attempts": max(policy.attempts, REVERT_ATTEMPTS),
            "on": [*policy.on, ErrorClass.BUSY, ErrorClass.TIMEOUT, ErrorClass.IO],
        }
    )


def _fraction(seed: str) -> float:
    return int.from_bytes(sha256(seed.encode()).digest()[:4], "big") / 2**32
