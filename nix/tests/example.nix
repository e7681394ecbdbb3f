# A host as docs/nixos-module.md has it, with all that needs no other kernel: the flake's check
# `module`.
{ lib, options, ... }:

{
  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  boot.loader.systemd-boot.enable = true;
  system.stateVersion = "25.11";

  services.mkupgrade = {
    enable = true;
    settings = {
      images.directories = [ builtins.storeDir ];
      state.directories = [ "/var/lib/mkupgrade" ];
    };
    plans.weekly = {
      instances = [
        {
          name = "host";
          kernel.nixos.profile = "system";
        }
      ];
      soak.duration = "2m";
    };
    nixos = {
      gateSwitch = true;
      inhibitLiveKernelSwitch = lib.hasAttrByPath [ "switch" "inhibitors" ] options.system;
      stage = true;
      preload = true;
    };
    exporter = {
      enable = true;
      openFirewall = true;
    };
    agent.enable = true;
    autoApply = {
      enable = true;
      plan = "weekly";
      profile = "system";
      dates = "Sun 01:30";
      window = {
        lower = "01:00";
        upper = "05:00";
      };
    };
  };
}
