"""Is there a policy in force on this host, and can it be relied on?"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from orchestrator.model.errors import PolicyError
from orchestrator.system import trusted
from orchestrator.system.trusted import Trust, UntrustedPathError

if TYPE_CHECKING:
    from orchestrator.policy.holding import InForce

UNCHANGED = "nothing was changed"


@dataclass(frozen=True)
class Place:
    """Where the policy is; anything but `REAL` is for tests."""

    path: Path = Path("/etc/mkupgrade/policy.yaml")
    trust: Trust = trusted.ROOT_ONLY


REAL: Final = Place()


def in_force(place: Place | None = None) -> InForce | None:
    """The policy of this host; None: there is none, and every plan may be carried out.

    Raises:
        PolicyError: it is there and cannot be read, is not valid, or others than root could
            change it or what it names. Nothing may be carried out then.
    """
    place = place or REAL
    try:
        trusted.resolve(place.path, place.trust)
        # Most hosts have none, and need not pay for what reads one.
        from orchestrator.loading.limits import MAX_BYTES

        data = trusted.read(place.path, MAX_BYTES, place.trust)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UntrustedPathError as error:
        raise unusable(place.path, error.what, error.next_command) from error
    except OSError as error:
        raise unusable(place.path, f"it cannot be read: {error.strerror}") from error
    from orchestrator.loading import InvalidSpecError, load_policy
    from orchestrator.loading.source import decode
    from orchestrator.policy.holding import InForce

    try:
        policy = load_policy(decode(data, str(place.path)), str(place.path))
    except InvalidSpecError as error:
        raise unusable(
            place.path, error.what, "mkupgrade schema --policy", details=error.details
        ) from error
    return InForce(policy, place)


def unusable(
    path: Path, why: str, command: str | None = None, details: tuple[str, ...] = ()
) -> PolicyError:
    return PolicyError(
        f"the policy of this host cannot be relied on: {why}",
        where=str(path),
        state=f"{UNCHANGED}; without its policy this host refuses every plan",
        next_command=command or f"ls -ld {shlex.quote(str(path))}",
        details=details,
    )
