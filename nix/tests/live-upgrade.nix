# Two kernels, and a workload whose state is in memory alone: it must count on across the jump, and
# back. Run it by `nix build .#checks.x86_64-linux.live-upgrade` where nixpkgs and KVM are.
{ lib, ... }:

{
  name = "mkupgrade-live-upgrade";

  # The package comes from whoever runs the test.
  defaults = {
    imports = [ ../module ];
  };

  nodes.machine =
    {
      config,
      options,
      pkgs,
      ...
    }:
    let
      old = config.boot.kernelPackages.kernel;
      next = pkgs.linuxPackages_latest.kernel;

      # Another system in this one's closure, with the other kernel and nothing else new.
      upgraded = config.specialisation.next.configuration;

      counter = pkgs.writers.writePython3 "counter" { } ''
        """Counts connections, in memory alone, and tells."""
        import os
        import socket

        with open("/var/lib/counter/pid", "w") as file:
            file.write(str(os.getpid()))
        server = socket.create_server(("127.0.0.1", 7777))
        count = 0
        while True:
            connection, _ = server.accept()
            count += 1
            connection.sendall(f"{count}\n".encode())
            connection.close()
      '';
    in
    {
      boot.kernelPackages = lib.mkDefault pkgs.linuxPackages;
      specialisation.next.configuration.boot.kernelPackages = pkgs.linuxPackages_latest;

      virtualisation = {
        memorySize = 2048;
        cores = 2;
        # The way back through a reset needs a boot loader whose default is the old kernel.
        useBootLoader = true;
        useEFIBoot = true;
      };
      boot.loader.systemd-boot.enable = true;
      boot.loader.timeout = 0;

      systemd.services.counter = {
        description = "A workload whose state is in memory alone";
        serviceConfig = {
          ExecStart = counter;
          StateDirectory = "counter";
        };
      };

      services.mkupgrade = {
        enable = true;
        nixos.inhibitLiveKernelSwitch = lib.hasAttrByPath [ "switch" "inhibitors" ] options.system;
        # Started by the test alone.
        autoApply = lib.mkIf (config.specialisation != { }) {
          enable = true;
          plan = "upgrade";
          dates = "2099-01-01";
        };
        # The specialisation has no plan: it would be one of itself.
        plans = lib.mkIf (config.specialisation != { }) {
          upgrade = {
            host.driver = "live-update";
            instances = [
              {
                name = "host";
                kernel = {
                  image = "${upgraded.system.build.kernel}/${upgraded.system.boot.loader.kernelFile}";
                  initrd = "${upgraded.system.build.initialRamdisk}/${upgraded.system.boot.loader.initrdFile}";
                  release = next.modDirVersion;
                };
                cmdline = {
                  "inherit" = false;
                  append = upgraded.boot.kernelParams ++ [
                    "init=${upgraded.system.build.toplevel}/init"
                  ];
                };
              }
            ];
            workloads = [
              {
                name = "counter";
                instance = "host";
                find.pid_file = "/var/lib/counter/pid";
                migrate.method = "criu";
                checks = [
                  {
                    name = "counter-answers";
                    kind = "tcp";
                    port = 7777;
                  }
                ];
              }
            ];
            soak = {
              duration = "5s";
              interval = "1s";
            };
            rollback.kernel = {
              image = "${config.system.build.kernel}/${config.system.boot.loader.kernelFile}";
              initrd = "${config.system.build.initialRamdisk}/${config.system.boot.loader.initrdFile}";
            };
          };
        };
      };

      # What the test compares with.
      environment.etc = {
        "kernels/old".text = old.modDirVersion;
        "kernels/next".text = next.modDirVersion;
      };
    };

  testScript = ''
    import json
    import time

    PLAN = "/etc/mkupgrade/plans.d/upgrade.yaml"


    def count() -> int:
        """How often the counter was asked, this time included."""
        return int(machine.succeed("exec 3<>/dev/tcp/127.0.0.1/7777; head -n1 <&3"))


    def release() -> str:
        return machine.succeed("uname -r").strip()


    def jump(command: str) -> None:
        """Run what ends in another kernel; the shell of the test does not live through it."""
        before = machine.succeed("cat /proc/sys/kernel/random/boot_id")
        machine.execute(command, check_return=False)
        machine.connected = False
        machine.connect()
        assert machine.succeed("cat /proc/sys/kernel/random/boot_id") != before
        machine.wait_until_succeeds("mkupgrade status --json | grep -q '\"unfinished\": null'")


    def outcome() -> str:
        return json.loads(machine.succeed("mkupgrade status --json"))["last"]["outcome"]


    machine.wait_for_unit("multi-user.target")
    old = machine.succeed("cat /etc/kernels/old").strip()
    new = machine.succeed("cat /etc/kernels/next").strip()
    assert old != new, f"both kernels are Linux {old}"
    assert release() == old

    with subtest("nothing is changed without a permit"):
        machine.fail(f"mkupgrade apply --yes {PLAN}")
        assert release() == old

    machine.succeed("systemctl start counter.service")
    machine.wait_for_open_port(7777)
    machine.succeed("mkupgrade host permit")
    machine.succeed(f"mkupgrade doctor {PLAN}")
    for expected in (1, 2, 3):
        assert count() == expected

    with subtest("the workload counts on in the new kernel"):
        jump("systemctl start --no-block mkupgrade-apply.service")
        assert release() == new
        assert outcome() == "committed"
        assert count() == 4
        assert machine.succeed("mkupgrade history --verify")

    with subtest("and in the old one again"):
        jump("systemd-run --setenv=PATH --property=KillMode=process mkupgrade rollback --yes")
        assert release() == old
        assert outcome() == "rolled-back"
        assert count() == 5

    with subtest("a cold boot ends in the old kernel, with nothing left to do"):
        machine.crash()
        machine.start()
        machine.wait_for_unit("multi-user.target")
        time.sleep(1)
        assert release() == old
        machine.succeed("mkupgrade status")
  '';
}
