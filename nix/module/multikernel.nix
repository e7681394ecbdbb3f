# Where `boot.multikernel` is declared (hellas-ai/nix-strix-halo, pull request 163), its instances
# become those of a plan: the same CPUs, memory, devices and parameters, and the kernel that this
# system wants for them.
{
  config,
  lib,
  options,
  ...
}:

let
  cfg = config.services.mkupgrade;
  mine = cfg.multikernel;
  declared = options.boot ? multikernel;
  theirs = config.boot.multikernel;
  instances = lib.filterAttrs (_name: instance: instance.enable) theirs.instances;
  hostKernel = theirs.hostKernelPackages.kernel;

  # "12-15,28" is five CPUs.
  count =
    cpus:
    lib.foldl' (
      total: range:
      let
        ends = map lib.toInt (lib.splitString "-" range);
      in
      total + lib.last ends - builtins.head ends + 1
    ) 0 (lib.splitString "," cpus);

  # kerf counts a GB as 2^30 bytes; a spec means 10^9 by it.
  size = builtins.replaceStrings [ "KB" "MB" "GB" "TB" ] [ "KiB" "MiB" "GiB" "TiB" ];

  instance =
    name:
    {
      cpus,
      memory,
      devices,
      kernel,
      initrd,
      kernelParams,
      ...
    }:
    let
      ramDisk = if initrd != null then initrd else theirs.spawnInitrd;
    in
    {
      inherit name;
      kernel = {
        image = toString (if kernel != null then kernel else theirs.spawnKernel);
        release = hostKernel.modDirVersion;
      }
      // lib.optionalAttrs (ramDisk != null) { initrd = toString ramDisk; };
      cmdline = {
        "inherit" = false;
        append = kernelParams;
      };
      resources = {
        cpus = count cpus;
        memory = size memory;
        inherit devices;
      };
    };
in
{
  options.services.mkupgrade.multikernel.plan = lib.mkOption {
    type = lib.types.nullOr lib.types.str;
    default = null;
    example = "instances";
    description = ''
      Which of {option}`services.mkupgrade.plans` gets the instances of
      {option}`boot.multikernel.instances`, with their kernel, and its pool. They are definitions
      of ordinary strength: what the plan says of other keys goes beside them.
    '';
  };

  config = lib.mkIf (cfg.enable && mine.plan != null) (
    lib.mkMerge [
      {
        assertions = [
          {
            assertion = declared && theirs.enable;
            message = "services.mkupgrade.multikernel.plan: boot.multikernel is not there, or not enabled.";
          }
        ];
      }
      (lib.optionalAttrs declared {
        services.mkupgrade.plans = lib.mkIf theirs.enable {
          ${mine.plan} = {
            host = {
              driver = "multikernel";
              pool = {
                cpus = count theirs.pool.cpus;
                memory = size theirs.pool.memory;
              };
            };
            instances = lib.mapAttrsToList instance instances;
          };
        };
      })
    ]
  );
}
