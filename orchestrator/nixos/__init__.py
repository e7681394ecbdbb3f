"""NixOS: what a system says of its kernel (bootspec), which systems there are (profiles,
generations, booted, current), and whether going from one to another takes another kernel.

Everything but `changing.py` only looks. Where the Nix store is, is never assumed: paths are taken
as systems give them.
"""
