"""Handover: carrying workloads' state from one kernel to the next (docs/handover.md).

A *channel* (`channels.Channel`) takes a manifest and payloads in the source kernel and gives them
back in the target: `kho.KhoChannel` through memory, `disk.DiskChannel` through the state directory.
Both carry the same frames (`frame`), and whatever is read is hostile until its digests fit.
"""
