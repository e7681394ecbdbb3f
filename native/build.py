"""The extensions in `orchestrator.system`: cffi in API mode, for the limited API.

`_native` is system calls and ioctls. `_libfdt` is libfdt, apart from it: only device trees need
that library, and a host without it can do all the rest. One shared object each serves Python 3.11
and every later one. setup.py names `ffi` and `fdt` below; nothing else runs this file.
"""

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
# Of 3.10, though nothing older than 3.11 is served: what cffi writes calls memset and alloca, which
# Python.h declares (by string.h and stdlib.h) for no later limited API, and GCC 14 takes no call of
# what is not declared.
LIMITED_API = "0x030a0000"

ffi = FFI()
ffi.cdef((HERE / "calls.h").read_text(encoding="ascii"))
ffi.set_source(
    "orchestrator.system._native",
    '#include <stddef.h>\n#include <stdint.h>\n#include "calls.h"\n',
    sources=["native/syscalls.c", "native/liveupdate.c", "native/watchdog.c"],
    depends=["native/calls.h", "native/liveupdate_abi.h"],
    include_dirs=["native"],
    define_macros=[("Py_LIMITED_API", LIMITED_API)],
    extra_compile_args=["-std=gnu11", "-Wall", "-Wextra", "-Wno-unused-parameter"],
)

fdt = FFI()
fdt.cdef((HERE / "flat_tree.h").read_text(encoding="ascii"))
fdt.set_source(
    "orchestrator.system._libfdt",
    "#include <libfdt.h>\n",
    libraries=["fdt"],
    depends=["native/flat_tree.h"],
    define_macros=[("Py_LIMITED_API", LIMITED_API)],
    extra_compile_args=["-std=gnu11", "-Wall", "-Wextra"],
    optional=True,  # where libfdt is missing, everything but device trees is built
)
