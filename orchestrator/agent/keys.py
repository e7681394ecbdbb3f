"""The key of one transaction, in a file of one line:

    mkupgrade-agent-key/1 TRANSACTION 64 hexadecimal digits

Who has it may give this transaction's state to the agent, and nothing else. It is made anew for
every transaction, and its transaction is part of every proof: a file cannot be used for another.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.model.errors import ErrorClass, MkupgradeError
from orchestrator.system import files

_LINE = re.compile(
    rb"mkupgrade-agent-key/1 (?P<transaction>[A-Za-z0-9][A-Za-z0-9._-]{0,51}) "
    rb"(?P<secret>[0-9a-f]{64})\n?"
)
_TRANSACTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,51}")
_MOST = 256


@dataclass(frozen=True)
class Key:
    """Shared by the two ends of one transaction's handover."""

    transaction: str
    secret: bytes = field(repr=False)
    """32 bytes."""

    def proof(self, label: str, transcript: bytes) -> bytes:
        """HMAC-SHA256 of a label and a handshake, by this transaction's own key: 32 bytes."""
        own = hmac.digest(self.secret, b"mkupgrade-agent/1\0" + self.transaction.encode(), _SHA)
        return hmac.digest(own, label.encode() + b"\0" + transcript, _SHA)

    def text(self) -> str:
        """The line."""
        return f"mkupgrade-agent-key/1 {self.transaction} {self.secret.hex()}\n"


_SHA = hashlib.sha256


def new_key(transaction: str) -> Key:
    """A key that nobody else has.

    Raises:
        MkupgradeError: this is no transaction's id.
    """
    if not _TRANSACTION.fullmatch(transaction):
        raise MkupgradeError(
            f"{transaction!r:.80} is no transaction id",
            state="no key was made",
            error_class=ErrorClass.INVALID,
        )
    return Key(transaction, secrets.token_bytes(32))


def parse_key(data: bytes, where: str) -> Key:
    """
    Raises:
        MkupgradeError: not the line of a key. What was read is not in the error.
    """
    found = _LINE.fullmatch(data)
    if found is None:
        raise MkupgradeError(
            "this is no key of an agent: one line, "
            "`mkupgrade-agent-key/1 TRANSACTION 64-HEXADECIMAL-DIGITS`",
            where=where,
            error_class=ErrorClass.INVALID,
        )
    return Key(found["transaction"].decode(), bytes.fromhex(found["secret"].decode()))


def read_key(path: Path) -> Key:
    """A key from a file that nobody but us can read.

    Raises:
        MkupgradeError: others can read or have it, or it is no key. SystemCallError: it is not
            there, or a link.
    """
    with files.open_regular(path) as file:
        status = os.fstat(file.fileno())
        if status.st_mode & 0o077 or status.st_uid not in {0, os.geteuid()}:
            raise MkupgradeError(
                f"others can read this key (user {status.st_uid}, "
                f"mode {stat.S_IMODE(status.st_mode):04o})",
                where=str(path),
                state="it was not used",
                next_command=f"chmod 600 {path}",
                error_class=ErrorClass.REFUSED,
            )
        data = file.read(_MOST)
    return parse_key(data, str(path))


def write_key(key: Key, path: Path) -> None:
    """Durably, 0600. A file that is there is replaced.

    Raises:
        SystemCallError
    """
    files.write_durably(path, key.text().encode())
