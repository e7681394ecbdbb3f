# A NixOS system in name: what of one matters for its kernel, as a real store path. No nixpkgs, no
# network; the builder is the host's /bin/sh. Its switch-to-configuration writes down what it is
# asked, where the profile leads at that moment, and on "boot" what a boot loader would start.
{
  marker,
  log,
  profile,
  release ? "6.12.1",
  system ? builtins.currentSystem,
}:
let
  build =
    name: script:
    derivation {
      inherit name system;
      builder = "/bin/sh";
      PATH = "/usr/bin:/bin";
      args = [
        "-euc"
        script
      ];
    };
  kernel = build "linux-${release}" "mkdir $out; echo kernel ${release} > $out/bzImage";
  modules = build "kernel-modules-${release}" "mkdir -p $out/lib/modules/${release}";
  bootspec = builtins.toFile "boot.json" (
    builtins.toJSON {
      "org.nixos.bootspec.v1" = {
        system = "x86_64-linux";
        label = "NixOS ${marker}";
        kernel = "@kernel@/bzImage";
        kernelParams = [ "quiet" ];
        init = "@out@/init";
        toplevel = "@out@";
      };
    }
  );
  switch = builtins.toFile "switch-to-configuration" ''
    #!/bin/sh
    set -eu
    echo "$1 ${marker} $(basename "$(readlink ${profile})")" >> ${log}/calls
    if [ "''${NIXOS_NO_CHECK-}" != 1 ] && [ -e ${log}/fail-${marker}-check ]; then
      echo "told to fail" >&2
      exit 1
    fi
    if [ -e ${log}/fail-${marker}-$1 ]; then echo "told to fail" >&2; exit 1; fi
    if [ "$1" = boot ]; then echo ${marker} > ${log}/menu; fi
  '';
in
build "nixos-system-${marker}" ''
  mkdir -p $out/bin
  ln -s ${modules} $out/kernel-modules
  cp ${switch} $out/bin/switch-to-configuration
  chmod +x $out/bin/switch-to-configuration
  sed -e "s|@out@|$out|g" -e "s|@kernel@|${kernel}|g" ${bootspec} > $out/boot.json
''
