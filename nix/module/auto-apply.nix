# A plan at its time, in place of system.autoUpgrade.allowReboot.
{
  config,
  lib,
  options,
  pkgs,
  ...
}:

let
  cfg = config.services.mkupgrade;
  auto = cfg.autoApply;
  planFile = "/etc/mkupgrade/plans.d/${auto.plan}.yaml";
  timeOfDay = lib.types.strMatching "([01][0-9]|2[0-3]):[0-5][0-9]";

  window = pkgs.writeShellApplication {
    name = "mkupgrade-window";
    runtimeInputs = [ pkgs.coreutils ];
    text = builtins.readFile ./window.sh;
  };
in
{
  options.services.mkupgrade.autoApply = {
    enable = lib.mkEnableOption "applying a plan by a timer";

    plan = lib.mkOption {
      type = lib.types.str;
      example = "weekly";
      description = "Which of {option}`services.mkupgrade.plans` is applied.";
    };

    profile = lib.mkOption {
      type = lib.types.nullOr (lib.types.strMatching "[A-Za-z0-9_][A-Za-z0-9_.-]*");
      default = null;
      example = "system";
      description = ''
        The profile whose system is taken: with its kernel where it takes another one, else by a
        switch ({command}`mkupgrade nixos upgrade --profile`); the plan gives all but the kernel.
        `null`: the plan is applied as it is ({command}`mkupgrade apply`), and where it takes no
        other kernel nothing is done.
      '';
    };

    dates = lib.mkOption {
      type = lib.types.str;
      default = "04:40";
      example = "Sun 04:40";
      description = "When, in the form of {manpage}`systemd.time(7)`.";
    };

    randomizedDelaySec = lib.mkOption {
      type = lib.types.str;
      default = "0";
      example = "45min";
      description = "Up to so much later, at random, so that not all hosts jump at once.";
    };

    persistent = lib.mkOption {
      type = lib.types.bool;
      default = true;
      description = "Whether a time that was missed, because the host was off, is made up for.";
    };

    window = lib.mkOption {
      default = null;
      example = {
        lower = "01:00";
        upper = "05:00";
      };
      description = ''
        The time of day, by the host's clock, in which an upgrade may begin; past midnight where
        {option}`upper` is before {option}`lower`. An upgrade that has begun is not cut off.
      '';
      type = lib.types.nullOr (
        lib.types.submodule {
          options = {
            lower = lib.mkOption {
              type = timeOfDay;
              description = "From this minute on.";
            };
            upper = lib.mkOption {
              type = timeOfDay;
              description = "Before this minute.";
            };
          };
        }
      );
    };

    outsideWindow = lib.mkOption {
      type = lib.types.enum [
        "skip"
        "wait"
      ];
      default = "skip";
      description = ''
        What happens at a time outside of the window. `skip`: nothing, until the timer's next
        time. `wait`: the window is waited for.
      '';
    };
  };

  config = lib.mkIf (cfg.enable && auto.enable) {
    assertions = [
      {
        assertion = cfg.plans ? ${auto.plan};
        message = "services.mkupgrade.autoApply.plan: there is no services.mkupgrade.plans.${auto.plan}.";
      }
      {
        assertion =
          auto.profile == null || builtins.length (cfg.plans.${auto.plan}.instances or [ 1 ]) == 1;
        message = "services.mkupgrade.autoApply.profile: a NixOS host is one instance, and services.mkupgrade.plans.${auto.plan} has another number of them.";
      }
      {
        assertion = auto.window == null || auto.window.lower != auto.window.upper;
        message = "services.mkupgrade.autoApply.window: lower and upper are the same minute, which is never.";
      }
      {
        assertion =
          lib.hasAttrByPath [ "autoUpgrade" "allowReboot" ] options.system
          -> !(config.system.autoUpgrade.enable && config.system.autoUpgrade.allowReboot);
        message = "services.mkupgrade.autoApply takes the place of system.autoUpgrade.allowReboot: set that to false, and system.autoUpgrade.operation to \"boot\".";
      }
    ];

    systemd.services.mkupgrade-apply = {
      description = "Apply the plan ${auto.plan}";
      documentation = [ "file:${cfg.package}/share/doc/mkupgrade/live-update.md" ];
      after = [
        "network-online.target"
        "mkupgrade-resume.service"
        "nixos-upgrade.service"
      ];
      wants = [ "network-online.target" ];
      # A switch in the middle of an upgrade must not end it, nor begin another one.
      restartIfChanged = false;
      unitConfig.X-StopOnRemoval = false;
      # Not hardened, on purpose. It loads the next kernel and jumps, which mkupgrade refuses in any
      # namespace but PID 1's, so nothing that makes one (ProtectSystem, ProtectHome, PrivateTmp,
      # PrivateDevices, ...); and what is restored when an upgrade is taken back is a child of this
      # process: a bounding set, NoNewPrivileges or a filter of system calls would be the
      # workload's for as long as it runs.
      serviceConfig = {
        Type = "oneshot";
        ExecStart =
          if auto.profile == null then
            "${lib.getExe cfg.package} apply --yes ${planFile}"
          else
            "${lib.getExe cfg.package} nixos upgrade --profile ${auto.profile} --plan ${planFile} --yes";
        # Restored workloads outlive it.
        KillMode = "process";
        Delegate = true;
        TimeoutStartSec = "infinity";
      }
      // lib.optionalAttrs (auto.window != null) {
        ExecCondition = "${lib.getExe window} ${auto.window.lower} ${auto.window.upper} ${auto.outsideWindow}";
      };
      startAt = auto.dates;
    };

    systemd.timers.mkupgrade-apply.timerConfig = {
      RandomizedDelaySec = auto.randomizedDelaySec;
      Persistent = auto.persistent;
    };
  };
}
