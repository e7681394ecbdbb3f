"""The multikernel driver: kernels side by side, each with CPUs, memory and devices of its own.

Speaks the interface of Linux 7.0-mk2 and later, mounted at /sys/fs/multikernel.
"""
