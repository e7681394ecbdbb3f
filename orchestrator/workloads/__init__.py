"""Workloads: finding them, taking their state and giving it back (`facade.Workloads`).

One module per method: `criu`, `hooks`, `restart`. The facade is all that drivers call.
"""
