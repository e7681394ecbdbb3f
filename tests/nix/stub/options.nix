# The part of NixOS' option tree that our module writes to and reads.
#
# `release` leaves out what one of them does not have; `withMultikernel` declares the options of
# hellas-ai/nix-strix-halo, pull request 163.
{
  release ? "unstable",
  withMultikernel ? false,
  specialised ? throw "specialisations are not evaluated here",
}:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  of = type: default: mkOption { inherit type default; };
  off = of types.bool false;
  texts = types.listOf types.str;
  unit = more: of (types.attrsOf (types.submodule { options = more; })) { };
  values = of (types.attrsOf types.anything) { };
  modern = release != "25.11";
in
{
  # As NixOS does: a service with `startAt` has a timer.
  config.systemd.timers = lib.mapAttrs (_name: service: {
    wantedBy = [ "timers.target" ];
    timerConfig.OnCalendar = service.startAt;
  }) (lib.filterAttrs (_name: service: service.startAt != [ ]) config.systemd.services);

  options = {
    assertions = of (types.listOf types.unspecified) [ ];
    warnings = of texts [ ];

    environment = {
      systemPackages = of (types.listOf types.package) [ ];
      etc = unit { source = mkOption { type = types.path; }; };
    };

    networking.firewall.allowedTCPPorts = of (types.listOf types.port) [ ];
    fileSystems = of types.raw { };
    virtualisation = of types.raw { };
    # Each is this system with a module added; `specialised` evaluates that.
    specialisation = of (types.attrsOf types.raw) { } // {
      apply = lib.mapAttrs (_name: added: { configuration = specialised added.configuration; });
    };

    boot = {
      kernelParams = of texts [ ];
      kernelPatches = of (types.listOf types.raw) [ ];
      kernelPackages = mkOption {
        type = types.raw;
        default = pkgs.linuxPackages;
        # As NixOS does: the kernel is built with what kernelPatches say.
        apply =
          packages:
          packages
          // lib.optionalAttrs (packages.kernel ? configfile) {
            kernel = packages.kernel // {
              configfile.structuredConfig = lib.foldl' (
                all: patch: all // patch.structuredExtraConfig
              ) packages.kernel.configfile.structuredConfig config.boot.kernelPatches;
            };
          };
      };
      loader = {
        systemd-boot = {
          enable = off;
          extraInstallCommands = of types.lines "";
        };
        grub = {
          enable = off;
          extraInstallCommands = of types.lines "";
        };
        timeout = of (types.nullOr types.int) 5;
      }
      // lib.optionalAttrs modern {
        limine = {
          enable = off;
          extraInstallCommands = of types.lines "";
        };
      };
    }
    // lib.optionalAttrs withMultikernel {
      multikernel = {
        enable = off;
        hostKernelPackages = of types.raw pkgs.linuxPackages;
        spawnKernel = of types.str "/nix/store/x-linux-dev/vmlinux";
        spawnInitrd = of (types.nullOr types.str) null;
        pool = {
          cpus = of types.str "";
          memory = of types.str "";
          devices = of texts [ ];
        };
        instances = unit {
          enable = of types.bool true;
          id = of (types.nullOr types.int) null;
          cpus = of types.str "";
          memory = of types.str "";
          devices = of texts [ ];
          kernel = of (types.nullOr types.str) null;
          initrd = of (types.nullOr types.str) null;
          kernelParams = of texts [ "console=mktty0" ];
        };
      };
    };

    system = {
      build = of types.raw {
        kernel = "/nix/store/x-linux-${config.boot.kernelPackages.kernel.version}";
        initialRamdisk = "/nix/store/x-initrd-${config.boot.kernelPackages.kernel.version}";
        toplevel = "/nix/store/x-nixos-${config.boot.kernelPackages.kernel.version}";
      };
      boot.loader = {
        kernelFile = of types.str "bzImage";
        initrdFile = of types.str "initrd";
      };
      stateVersion = of types.str "25.11";
      modulesTree = of types.raw "/nix/store/x-kernel-modules";
      checks = of (types.listOf types.package) [ ];
      preSwitchChecks = of (types.attrsOf types.str) { };
      autoUpgrade = {
        enable = off;
        allowReboot = off;
        operation = of (types.enum [
          "switch"
          "boot"
        ]) "switch";
        flake = of (types.nullOr types.str) null;
      };
    }
    // lib.optionalAttrs modern {
      switch.inhibitors = of (types.attrsOf types.str) { };
    };

    systemd = {
      package = of types.package pkgs.systemd;
      packages = of (types.listOf types.package) [ ];
      services = unit {
        description = of types.str "";
        documentation = of texts [ ];
        after = of texts [ ];
        wants = of texts [ ];
        wantedBy = of texts [ ];
        path = of (types.listOf types.package) [ ];
        restartIfChanged = of types.bool true;
        startAt = mkOption {
          type = types.either types.str texts;
          default = [ ];
          apply = lib.toList;
        };
        unitConfig = values;
        serviceConfig = values;
      };
      timers = unit {
        wantedBy = of texts [ ];
        timerConfig = values;
      };
    };
  };
}
