# For the system of an instance: takes state from the kernel beside it.
{ config, lib, ... }:

let
  cfg = config.services.mkupgrade;
  inherit (cfg) agent;
  default = "/etc/mkupgrade/agent.key";
  unit = if agent.work then "mkupgrade-agent-work" else "mkupgrade-agent";
in
{
  options.services.mkupgrade.agent = {
    enable = lib.mkEnableOption "the agent, which takes state from another running kernel";

    work = lib.mkOption {
      type = lib.types.bool;
      default = false;
      description = ''
        Whether it also checkpoints and restores workloads here, for the host that has the key.
        This agent has no sandbox: what it restores would be in it, too.
      '';
    };

    keyFile = lib.mkOption {
      type = lib.types.str;
      default = default;
      description = ''
        The key, which nobody but root can read. Without the file nothing is started. Never a path
        into the store: everybody can read what is there.
      '';
    };
  };

  config = lib.mkIf (cfg.enable && agent.enable) {
    assertions = [
      {
        assertion =
          lib.hasPrefix "/" agent.keyFile && !(lib.hasPrefix "${builtins.storeDir}/" agent.keyFile);
        message = "services.mkupgrade.agent.keyFile: ${agent.keyFile} is no absolute path outside of the store, where everybody could read the key.";
      }
    ];

    # The unit, with its sandbox, is the package's.
    systemd.services.${unit} = {
      wantedBy = [ "multi-user.target" ];
      # It may be in the middle of a piece of work.
      restartIfChanged = false;
    }
    // lib.optionalAttrs (agent.keyFile != default) {
      # An empty one first: what the package's unit says is replaced, not added to.
      unitConfig.ConditionPathExists = [
        ""
        agent.keyFile
      ];
      serviceConfig.LoadCredential = [
        ""
        "agent.key:${agent.keyFile}"
      ];
    };
  };
}
