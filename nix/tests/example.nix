# A host as docs/nixos-module.md has it, small enough to evaluate: the flake's check `module`.
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
          kernel = {
            image = "/boot/vmlinuz-7.3.4";
            release = "7.3.4";
          };
        }
      ];
      soak.duration = "2m";
    };
    autoApply = {
      enable = true;
      plan = "weekly";
      dates = "Sun 01:30";
      window = {
        lower = "01:00";
        upper = "05:00";
      };
    };
  };
}
