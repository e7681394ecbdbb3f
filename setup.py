"""Only what pyproject.toml cannot say: the cffi extension, built for the limited API (abi3)."""

from setuptools import setup

setup(
    cffi_modules=["native/build.py:ffi"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
