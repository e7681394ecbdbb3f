"""Programs that run inside the guest: its init, the control agent, and workloads.

They use the standard library only and are started by path, not imported.
"""
