# The hooks that NixOS has for a tool like this one: a veto, a notice, and a look at boot. None of
# them can make a switch into a live update; that is `mkupgrade nixos upgrade`, or autoApply.
{
  config,
  lib,
  options,
  ...
}:

let
  cfg = config.services.mkupgrade;
  hooks = cfg.nixos;
  mkupgrade = lib.getExe cfg.package;

  # What some releases do not have.
  hasCheck = options.system ? preSwitchChecks;
  hasInhibitors = lib.hasAttrByPath [ "switch" "inhibitors" ] options.system;
  loaders = lib.filterAttrs (
    name: _loader: lib.hasAttrByPath [ name "extraInstallCommands" ] options.boot.loader
  ) (lib.genAttrs [ "systemd-boot" "grub" "limine" ] (name: name));
  enabled = lib.filterAttrs (name: _loader: config.boot.loader.${name}.enable) loaders;
in
{
  options.services.mkupgrade.nixos = {
    gateSwitch = lib.mkOption {
      type = lib.types.bool;
      default = false;
      description = ''
        Whether {command}`mkupgrade nixos preflight` runs before every switch. It vetoes, with the
        reason, what would pull the kernel's own files from under a running upgrade, and puts the
        system profile back.
      '';
    };
    inhibitLiveKernelSwitch = lib.mkOption {
      type = lib.types.bool;
      default = false;
      description = ''
        Whether {command}`nixos-rebuild switch` is refused where kernel or modules differ from
        those of the running system (NixOS 26.05 and later). {command}`nixos-rebuild boot` goes on
        working.
      '';
    };
    stage = lib.mkOption {
      type = lib.types.bool;
      default = false;
      description = ''
        Whether {command}`mkupgrade nixos stage` runs behind the boot loader's installation. It
        remembers the new system, and never fails a switch.
      '';
    };
    preload = lib.mkOption {
      type = lib.types.bool;
      default = false;
      description = ''
        Whether {option}`stage` also loads the staged system's kernel by {manpage}`kexec_file_load(2)`.
        {command}`systemctl kexec` then starts it. So does {command}`systemctl reboot`: where a
        kernel is loaded systemd jumps into it, **instead of going through the firmware**, unless
        `SYSTEMCTL_SKIP_AUTO_KEXEC=1` is set.
      '';
    };
    confirm = lib.mkOption {
      type = lib.types.bool;
      default = hooks.stage;
      defaultText = lib.literalExpression "config.services.mkupgrade.nixos.stage";
      description = ''
        Whether {command}`mkupgrade nixos confirm` runs at boot. It says whether the staged system
        has started, and has mkupgrade-resume.service finish a transaction that a restart
        interrupted, if that has not done so; it fails where one ends badly.
      '';
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      {
        assertions = [
          {
            assertion = hooks.gateSwitch -> hasCheck;
            message = "services.mkupgrade.nixos.gateSwitch: this NixOS has no system.preSwitchChecks.";
          }
          {
            assertion = hooks.inhibitLiveKernelSwitch -> hasInhibitors;
            message = "services.mkupgrade.nixos.inhibitLiveKernelSwitch: this NixOS has no system.switch.inhibitors (26.05 and later have it).";
          }
          {
            assertion = hooks.stage -> enabled != { };
            message = "services.mkupgrade.nixos.stage: neither systemd-boot nor GRUB nor Limine is enabled, and no other boot loader of NixOS has extraInstallCommands.";
          }
          {
            assertion = hooks.preload -> hooks.stage;
            message = "services.mkupgrade.nixos.preload: it is services.mkupgrade.nixos.stage that loads the kernel; turn that on, too.";
          }
        ];
      }

      (lib.optionalAttrs hasCheck {
        # `set -e` is off in there: the status of the last command is what counts.
        system.preSwitchChecks = lib.mkIf hooks.gateSwitch {
          mkupgrade = ''
            ${mkupgrade} nixos preflight "''${1-}" "''${2-}"
          '';
        };
      })

      (lib.optionalAttrs hasInhibitors {
        system.switch.inhibitors = lib.mkIf hooks.inhibitLiveKernelSwitch {
          kernel = toString config.system.build.kernel;
          kernel-modules = toString config.system.modulesTree;
        };
      })

      {
        boot.loader = lib.mapAttrs (_name: _loader: {
          extraInstallCommands = lib.mkIf hooks.stage (
            # Before those of others, behind the loader's own program: a loader that could not be
            # installed must fail the switch, also where its script goes on behind an error.
            lib.mkBefore ''
              [ $? -eq 0 ] || exit 1
              ${mkupgrade} nixos stage ${lib.optionalString hooks.preload "--preload "}"''${1-}" || true
            ''
          );
        }) loaders;
      }

      (lib.mkIf hooks.confirm {
        systemd.services.mkupgrade-confirm = {
          description = "Say whether the NixOS system that was staged has started";
          wantedBy = [ "multi-user.target" ];
          after = [
            "mkupgrade-resume.service"
            "local-fs.target"
          ];
          # systemctl: where a transaction is unfinished mkupgrade-resume.service is started, by
          # systemd's socket, and waited for. It runs in its own cgroup, outside of this sandbox.
          path = [ config.systemd.package ];
          # Once for each boot, however often the system is switched.
          restartIfChanged = false;
          unitConfig = {
            X-StopOnRemoval = false;
            # One of them is enough: a host that stages, and has never applied, has no journal.
            ConditionPathExists = [
              "|/var/lib/mkupgrade/journal.db"
              "|/var/lib/mkupgrade/nixos-staged.json"
            ];
            RequiresMountsFor = "/var/lib/mkupgrade";
          };
          serviceConfig = import ./sandbox.nix // {
            # Not oneshot: the boot would wait for soak and commit, and a check of the soak may be
            # that the machine has booted.
            Type = "exec";
            RemainAfterExit = true;
            ExecStart = "${mkupgrade} nixos confirm";
            # Somebody is at work: behind a jump soak and commit go on beside the boot.
            SuccessExitStatus = 6;
            StateDirectory = "mkupgrade";
            StateDirectoryMode = "0700";
            # mkupgrade-resume.service has brought workloads back by now, and put profile and boot
            # menu right. This one looks, and jumps nowhere: the kernel is out of reach.
            CapabilityBoundingSet = [
              "CAP_DAC_OVERRIDE"
              "CAP_DAC_READ_SEARCH"
              "CAP_CHOWN"
              "CAP_FOWNER"
              "CAP_FSETID"
              "CAP_LINUX_IMMUTABLE"
              "CAP_SYS_ADMIN"
              "CAP_SYS_RAWIO"
            ];
            RestrictAddressFamilies = [
              "AF_UNIX"
              "AF_NETLINK"
            ];
            SystemCallFilter = "~@clock @cpu-emulation @debug @module @obsolete @reboot @swap";
          };
        };
      })
    ]
  );
}
