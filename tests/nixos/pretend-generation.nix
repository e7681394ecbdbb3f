# A NixOS system in name: what of one matters for its kernel, as a real store path. No nixpkgs, no
# network; the builder is the host's /bin/sh. Its switch-to-configuration writes down what it is
# asked, where the profile leads at that moment, and what a boot loader would start; its exit codes
# are those that it is told to end with.
{
  marker,
  log,
  profile,
  run ? "/nowhere",
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
    case $1 in boot | switch) echo ${marker} > ${log}/menu ;; esac
    case $1 in switch | test) ln -sfn @out@ ${run}/current-system ;; esac
    if [ -e ${log}/exit-${marker}-$1 ]; then
      echo "warning: the following units failed: shop.service, mail.service" >&2
      exit "$(cat ${log}/exit-${marker}-$1)"
    fi
  '';
in
build "nixos-system-${marker}" ''
  mkdir -p $out/bin
  ln -s ${modules} $out/kernel-modules
  sed "s|@out@|$out|g" ${switch} > $out/bin/switch-to-configuration
  chmod +x $out/bin/switch-to-configuration
  sed -e "s|@out@|$out|g" -e "s|@kernel@|${kernel}|g" ${bootspec} > $out/boot.json
''
