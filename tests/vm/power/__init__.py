"""Cuts of power in a guest: see `python -m tests.vm.powercut --help` and docs/transactions.md."""
