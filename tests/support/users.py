"""Calls as an ordinary user, where the tests run as root."""

from __future__ import annotations

import json
import os
import pwd
import traceback
from collections.abc import Callable
from typing import Any

import pytest

ORDINARY = 65534
"""nobody: owns nothing, is in no group of ours."""

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can become an ordinary user to try what one can do"
)


def as_user(call: Callable[[], Any], uid: int = ORDINARY) -> Any:
    """What `call` returns, as JSON, when an ordinary user calls it in a process of its own.

    The process is forked, not started anew: the user may not even be able to read Python itself.
    So whatever `call` imports must have been imported before.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(read)
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.environ["HOME"] = "/nonexistent"
            answer = {"value": call()}
            status = 0
        except BaseException:
            answer = {"error": traceback.format_exc()}
        try:
            with os.fdopen(write, "w") as pipe:
                json.dump(answer, pipe)
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    answer = json.loads(text)
    assert "error" not in answer, answer["error"]
    return answer["value"]


def user_name(uid: int = ORDINARY) -> str:
    return pwd.getpwuid(uid).pw_name
