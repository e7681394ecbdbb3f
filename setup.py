"""Only what pyproject.toml cannot say: the cffi extensions, built for the limited API (abi3)."""

from setuptools import setup

setup(
    cffi_modules=["native/build.py:ffi", "native/build.py:fdt"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
