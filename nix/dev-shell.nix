{
  mkShell,
  python3,
  gcc,
  gnumake,
  dtc,
  e2fsprogs,
  mmdebstrap,
  nix,
  nixfmt-tree,
  qemu,
  zstd,
}:

mkShell {
  # `make` makes .venv with the rest; mmdebstrap fetches the guest from Debian's archive.
  packages = [
    python3
    gcc
    gnumake
    dtc
    e2fsprogs
    mmdebstrap
    nix
    nixfmt-tree
    qemu
    zstd
  ];
}
