# The units that come with the package. `mkupgrade host permit` finds them installed and enabled;
# it could not write them: /etc/systemd/system is the store's here.
{ config, lib, ... }:

let
  cfg = config.services.mkupgrade;
in
{
  config = lib.mkIf cfg.enable {
    systemd.packages = [ cfg.package ];

    systemd.services.mkupgrade-resume = {
      wantedBy = [ "basic.target" ];
      # It carries what it restored: a switch neither stops nor restarts it.
      restartIfChanged = false;
      unitConfig.X-StopOnRemoval = false;
    };

    # Its condition leaves it alone where the kernel has no instances.
    systemd.services.mkupgrade-clean-up.restartIfChanged = false;
    systemd.timers.mkupgrade-clean-up.wantedBy = [ "timers.target" ];
  };
}
