"""Detached signatures over plans: OpenSSH's, as git uses them (PROTOCOL.sshsig).

What is signed are the bytes of the file, under a namespace of our own, so that a signature made
for anything else is none for a plan. Verifying takes bytes, never paths: what was verified is what
is then loaded. ssh-keygen reads signature and signers from memory files for the same reason.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from orchestrator.model.errors import ErrorClass, MkupgradeError, PolicyError, ToolError
from orchestrator.system import files, subprocesses

NAMESPACE = "mkupgrade-plan@v1"
SUFFIX = ".sig"
LIMIT = 64 << 10
"""Bytes of a signature; one by a certificate has a few thousand."""
SIGNERS_LIMIT = 4 << 20
"""Bytes of an allowed signers file or of a list of revoked keys."""
_TIMEOUT = 30.0
_PROGRAM = "ssh-keygen"
_GOOD = re.compile(r'Good "[^"]*" signature for (?:.*) with (\S+) key (\S+)')
_MOST_PRINCIPALS = 16


@dataclass(frozen=True)
class Signer:
    """Who signed."""

    principal: str
    """As the allowed signers file calls them."""
    key: str
    """Kind and fingerprint: "ED25519 SHA256:…"."""

    def __str__(self) -> str:
        return f"{self.principal} ({self.key})"


def signature_path(path: Path) -> Path:
    """Where the signature of a plan is: beside it, with `SUFFIX` behind its whole name."""
    return path.with_name(path.name + SUFFIX)


def read_signature(path: Path) -> bytes | None:
    """The signature beside a plan; None: there is none.

    Raises:
        MkupgradeError: it cannot be read, or is larger than `LIMIT`.
    """
    place = signature_path(path)
    if not os.path.lexists(place):
        return None
    return files.read_regular(place, LIMIT)


def sign(data: bytes, key: Path) -> bytes:
    """A signature over `data`.

    The key may be a private key, or a public one whose private part an agent holds. ssh-keygen asks
    for passphrase or touch on the terminal, if there is one.

    Args:
        key: of any kind that ssh-keygen takes, hardware keys among them.

    Raises:
        NotSupportedError: ssh-keygen is not installed. ToolError: it did not sign.
    """
    argv = [_PROGRAM, "-Y", "sign", "-q", "-n", NAMESPACE, "-f", str(key)]
    try:
        # Not `subprocesses.run`: in a session of its own it could not ask on the terminal.
        done = subprocess.run(argv, input=data, capture_output=True, check=False)
    except FileNotFoundError:
        raise subprocesses.missing(_PROGRAM) from None
    if done.returncode != 0 or not done.stdout:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ToolError(
            f"the plan was not signed: {said[-1] if said else 'ssh-keygen gave no reason'}",
            where=str(key),
            state="nothing was changed",
            error_class=ErrorClass.FAILED,
        )
    return done.stdout


def verify(data: bytes, signature: bytes, signers: bytes, revoked: bytes | None) -> Signer:
    """Whoever signed `data`, if they are among the allowed signers.

    Args:
        signers: content of an allowed signers file.
        revoked: content of a KRL or of a list of public keys.

    Raises:
        PolicyError: not signed by one of them, or these are other bytes.
        NotSupportedError: ssh-keygen is not installed.
    """
    with ExitStack() as stack:
        given = _Memory(stack, signature=signature, signers=signers, revoked=revoked)
        principals = given.run("find-principals").stdout.decode("utf-8", "replace").split("\n")
        found = [p for p in principals if p.strip()]
        if not found:
            raise PolicyError("its signature is by none of the allowed signers, or is damaged")
        said = ""
        for principal in found[:_MOST_PRINCIPALS]:
            done = given.run("verify", "-I", principal, "-n", NAMESPACE, data=data)
            match = _GOOD.search(done.text)
            if done.returncode == 0 and match is not None:
                return Signer(principal, f"{match[1]} {match[2]}")
            said = said or _first_line(done.error_text)
    raise PolicyError(f"its signature is not good: {said or 'ssh-keygen gave no reason'}")


class _Memory:
    """What ssh-keygen reads besides the plan, as memory files that nobody else can change."""

    def __init__(self, stack: ExitStack, **contents: bytes | None) -> None:
        self._fds = {
            name: subprocesses.memory_file(stack, name, content)
            for name, content in contents.items()
            if content is not None
        }

    def run(self, what: str, *rest: str, data: bytes | None = None) -> subprocesses.Completed:
        argv = [_PROGRAM, "-Y", what, "-s", self._path("signature"), "-f", self._path("signers")]
        if what == "verify" and "revoked" in self._fds:
            argv += ["-r", self._path("revoked")]
        return subprocesses.run(
            [*argv, *rest],
            timeout=_TIMEOUT,
            input=data,
            pass_fds=tuple(self._fds.values()),
            check=False,
        )

    def _path(self, name: str) -> str:
        return f"/proc/self/fd/{self._fds[name]}"


def _first_line(text: str) -> str:
    shown = re.sub(r"/proc/self/fd/\d+", "the file", text)
    return next((line.strip() for line in shown.splitlines() if line.strip()), "")


def refusal(error: MkupgradeError, path: Path) -> PolicyError:
    """An error of `verify`, about the plan in `path`."""
    return PolicyError(
        f"the policy demands signed plans: {error.what}",
        where=str(path),
        state="nothing was changed",
        next_command=error.next_command or f"mkupgrade sign --verify {shlex.quote(str(path))}",
        details=error.details,
    )
