"""What is wrong with a system, or with this host as a NixOS."""

from __future__ import annotations

from orchestrator.model.errors import ErrorClass, MkupgradeError

UNCHANGED = "nothing was changed"


class BootspecError(MkupgradeError):
    """A system's boot.json cannot be used; `details` holds one line per problem."""

    code = "bootspec"
    error_class = ErrorClass.INVALID


class NotASystemError(MkupgradeError):
    """A path that should be a NixOS system is none, or is not there."""

    code = "nixos-system"
    error_class = ErrorClass.INVALID
