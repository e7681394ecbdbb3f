# Configurations of a host, and what each of them is evaluated over: for eval.nix.
let
  loader.boot.loader.systemd-boot.enable = true;
  of = config: { inherit config; };
  with' =
    settings:
    of {
      imports = [ loader ];
      services.mkupgrade = settings // {
        enable = true;
      };
    };
  plan.instances = [
    {
      name = "host";
      kernel = {
        image = "/boot/vmlinuz-7.3.4";
        release = "7.3.4";
      };
    }
  ];
  kernel =
    version: configuration: settings:
    of (
      { pkgs, ... }:
      {
        boot.kernelPackages = pkgs.linuxFor version configuration;
        services.mkupgrade = {
          enable = true;
          kernel.liveUpdate = settings // { enable = true; };
        };
      }
    );
  manual =
    isYes:
    of {
      boot.kernelPackages.kernel = {
        version = "7.2.13";
        config = { inherit isYes; };
      };
      services.mkupgrade = {
        enable = true;
        kernel.liveUpdate.enable = true;
      };
    };
  hooks.nixos = {
    gateSwitch = true;
    inhibitLiveKernelSwitch = true;
    stage = true;
  };
  multikernel = {
    enable = true;
    pool = {
      cpus = "12-15,28-31";
      memory = "8GB";
    };
    instances = {
      web = {
        cpus = "12,28";
        memory = "2GB";
        devices = [ "0000:00:05.0" ];
        initrd = "/nix/store/x-web-initrd";
      };
      off = {
        enable = false;
        cpus = "13";
        memory = "1GB";
      };
    };
  };
in
{
  # Good ones, and those that fail by an assertion: a system comes out, and what is wrong with it.
  evaluated = {
    disabled = of { services.mkupgrade.plans.weekly = plan; };
    alone = with' { };
    plan-and-policy = with' {
      plans.weekly = plan // {
        metadata.labels.rack = "b12";
        soak.duration = "2m";
      };
      settings = {
        images.directories = [ builtins.storeDir ];
        commands.hooks = [ ];
      };
    };
    hooks = with' hooks;
    hooks-on-25_11 =
      with' {
        nixos = hooks.nixos // {
          inhibitLiveKernelSwitch = false;
        };
      }
      // {
        release = "25.11";
      };
    inhibitors-on-25_11 = with' hooks // {
      release = "25.11";
    };
    preload = with' {
      nixos = hooks.nixos // {
        preload = true;
      };
    };
    preload-without-stage = with' { nixos.preload = true; };
    stage-without-loader = of {
      services.mkupgrade = {
        enable = true;
        nixos.stage = true;
      };
    };
    auto-apply = with' {
      plans.weekly = plan;
      autoApply = {
        enable = true;
        plan = "weekly";
        dates = "Sun 23:30";
        randomizedDelaySec = "30min";
        window = {
          lower = "23:00";
          upper = "05:00";
        };
        outsideWindow = "wait";
      };
    };
    auto-apply-of-nothing = with' {
      autoApply = {
        enable = true;
        plan = "weekly";
        window = {
          lower = "23:00";
          upper = "23:00";
        };
      };
    };
    auto-apply-beside-reboots = of {
      system.autoUpgrade = {
        enable = true;
        allowReboot = true;
      };
      services.mkupgrade = {
        enable = true;
        plans.weekly = plan;
        autoApply = {
          enable = true;
          plan = "weekly";
        };
      };
    };
    # What docs/nixos-module.md has in place of system.autoUpgrade.allowReboot.
    auto-apply-of-the-next-boot = of {
      system.autoUpgrade = {
        enable = true;
        flake = "github:someone/hosts";
        operation = "boot";
      };
      services.mkupgrade = {
        enable = true;
        plans.weekly = {
          instances = [
            {
              name = "host";
              kernel.nixos.profile = "system";
            }
          ];
        };
        autoApply = {
          enable = true;
          plan = "weekly";
          profile = "system";
        };
      };
    };
    auto-apply-of-instances = with' {
      plans.weekly.instances = [
        { name = "a"; }
        { name = "b"; }
      ];
      autoApply = {
        enable = true;
        plan = "weekly";
        profile = "system";
      };
    };
    live-update = kernel "7.2.13" { LIVEUPDATE.tristate = "y"; } { };
    live-update-not-offered = kernel "7.2.13" { } { };
    live-update-refused = kernel "7.2.13" {
      LIVEUPDATE.tristate = "y";
      LIVEUPDATE_MEMFD.tristate = "n";
    } { };
    live-update-built = kernel "7.2.13" { } { build = true; };
    live-update-too-old = kernel "6.18.4" { } { build = true; };
    live-update-of-silent-kernel = of (
      { pkgs, ... }:
      {
        boot.kernelPackages.kernel = {
          version = "7.2.13";
        };
        services.mkupgrade = {
          enable = true;
          kernel.liveUpdate.enable = true;
        };
      }
    );
    # linuxManualConfig: without import from derivation it knows nothing of its .config.
    live-update-of-manual-kernel = manual (_symbol: false);
    live-update-of-read-kernel = manual (symbol: symbol != "LIVEUPDATE_MEMFD");
    exporter = with' { exporter.enable = true; };
    exporter-for-all = with' {
      exporter = {
        enable = true;
        listenAddress = "::";
        port = 9100;
        openFirewall = true;
      };
    };
    agent = with' { agent.enable = true; };
    agent-with-key = with' {
      agent = {
        enable = true;
        work = true;
        keyFile = "/run/keys/agent.key";
      };
    };
    agent-with-key-in-store = with' {
      agent = {
        enable = true;
        keyFile = "${builtins.storeDir}/x-agent.key";
      };
    };
    multikernel = {
      withMultikernel = true;
      config = {
        boot = { inherit multikernel; };
        services.mkupgrade = {
          enable = true;
          multikernel.plan = "instances";
          plans.instances.strategy.kind = "surge";
        };
      };
    };
    multikernel-without = with' { multikernel.plan = "instances"; };
    # What users do to a module: set over it, add to it, and leave some of it out.
    definitions-of-several-modules = of (
      { lib, ... }:
      {
        imports = [
          {
            services.mkupgrade = {
              enable = lib.mkDefault false;
              exporter = {
                enable = lib.mkDefault true;
                port = lib.mkForce 9000;
              };
              plans.weekly = lib.mkMerge [
                plan
                { soak.duration = "2m"; }
                (lib.mkIf false { strategy.kind = "surge"; })
              ];
            };
          }
          {
            services.mkupgrade.plans.weekly = {
              instances = lib.mkBefore [ { name = "first"; } ];
              soak.duration = lib.mkForce "5m";
            };
          }
        ];
        services.mkupgrade = {
          enable = true;
          plans.never = lib.mkIf false plan;
          autoApply = {
            enable = true;
            plan = "weekly";
          };
        };
        systemd.services.mkupgrade-exporter.serviceConfig.ExecStart = lib.mkForce "/bin/other";
        systemd.timers.mkupgrade-apply.timerConfig.RandomizedDelaySec = lib.mkForce "1h";
      }
    );
  };

  # No system comes out of these.
  refused = {
    unknown-option = with' { plan = { }; };
    unknown-option-of-nixos = with' { nixos.gate = true; };
    text-for-a-switch = with' { nixos.stage = "yes"; };
    no-time = with' {
      plans.weekly = plan;
      autoApply = {
        enable = true;
        plan = "weekly";
        window = {
          lower = "1:00";
          upper = "05:00";
        };
      };
    };
    no-such-choice = with' {
      plans.weekly = plan;
      autoApply = {
        enable = true;
        plan = "weekly";
        outsideWindow = "reboot";
        window = {
          lower = "01:00";
          upper = "05:00";
        };
      };
    };
    no-port = with' {
      exporter = {
        enable = true;
        port = 70000;
      };
    };
    function-in-plan = with' { plans.weekly.soak = x: x; };
    auto-apply-without-plan = with' { autoApply.enable = true; };
  };
}
