"""Plain data that every other room shares: spec, host state, steps, errors, seams.

Nothing here does I/O, reads a clock, or imports another room.
"""
