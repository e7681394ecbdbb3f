"""Files as a host sees them, below a root of one's own: absolute links stay inside of it.

On a real host the root is "/". Anywhere else it is a tree that looks like one, so that nothing here
need know whether it is tried or meant. Nothing is ever written.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from orchestrator.system import files

_MOST_LINKS = 40
"""As in the kernel (include/linux/namei.h, MAXSYMLINKS)."""


@dataclass(frozen=True)
class Tree:
    """A root directory; paths given and returned are those that the host itself would use."""

    root: Path = Path("/")

    def outside(self, path: PurePosixPath) -> Path:
        """Where a path of the host is for this process; links are not looked at."""
        return self.root / path.relative_to("/")

    def resolve(self, path: PurePosixPath) -> PurePosixPath:
        """Where an absolute path leads, all links followed, the root never left.

        Raises:
            FileNotFoundError, OSError: nowhere, or round in circles.
        """
        names, here, links = list(path.parts[1:]), PurePosixPath("/"), 0
        while names:
            name = names.pop(0)
            if name == "..":
                here = here.parent
                continue
            found = here / name
            try:
                target = PurePosixPath(os.readlink(self.outside(found)))  # noqa: PTH115 - pure
            except OSError as error:
                if error.errno != errno.EINVAL:  # EINVAL: it is no link
                    raise
                here = found
                continue
            except ValueError:  # a name that no file system has, out of somebody's JSON
                raise FileNotFoundError(errno.ENOENT, "no name of a file", name) from None
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            here = PurePosixPath("/") if target.is_absolute() else here
            names = [*(part for part in target.parts if part != "/"), *names]
        return here

    def target(self, path: PurePosixPath) -> PurePosixPath | None:
        """As `resolve`; None: it leads nowhere."""
        try:
            return self.resolve(path)
        except OSError:
            return None

    def read(self, path: PurePosixPath, limit: int) -> bytes:
        """Content of a regular file of at most `limit` bytes, links followed.

        Raises:
            FileNotFoundError, OSError: it leads nowhere.
            SystemCallError: no regular file, larger, or not to be read.
        """
        return files.read_regular(self.outside(self.resolve(path)), limit)

    def names(self, path: PurePosixPath) -> list[str]:
        """Names in a directory, sorted; none where there is no directory."""
        try:
            return sorted(os.listdir(self.outside(self.resolve(path))))  # noqa: PTH208 - names only
        except OSError:
            return []
