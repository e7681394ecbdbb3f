"""mkupgrade: change the Linux kernel under running workloads as one transaction."""

__version__ = "0.1.0"
