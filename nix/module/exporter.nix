# What mkupgrade knows, for Prometheus.
{ config, lib, ... }:

let
  cfg = config.services.mkupgrade;
  inherit (cfg) exporter;
  address =
    if lib.hasInfix ":" exporter.listenAddress then
      "[${exporter.listenAddress}]"
    else
      exporter.listenAddress;
in
{
  options.services.mkupgrade.exporter = {
    enable = lib.mkEnableOption "the exporter, which serves Prometheus metrics at {file}`/metrics`";

    listenAddress = lib.mkOption {
      type = lib.types.str;
      default = "127.0.0.1";
      example = "::";
      description = "The address that is listened at, IPv4 or IPv6.";
    };

    port = lib.mkOption {
      type = lib.types.port;
      default = 9925;
      description = "The port that is listened at.";
    };

    openFirewall = lib.mkOption {
      type = lib.types.bool;
      default = false;
      description = ''
        Whether {option}`port` is opened in the firewall. Whoever reaches it is answered, by plain
        HTTP and without a password.
      '';
    };
  };

  config = lib.mkIf (cfg.enable && exporter.enable) {
    networking.firewall.allowedTCPPorts = lib.optional exporter.openFirewall exporter.port;

    systemd.services.mkupgrade-exporter = {
      description = "Prometheus metrics of mkupgrade";
      documentation = [ "file:${cfg.package}/share/doc/mkupgrade/metrics.md" ];
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ];
      # It holds nothing of an upgrade, so that a switch may restart and stop it.
      serviceConfig = import ./sandbox.nix // {
        Type = "notify";
        ExecStart = "${lib.getExe cfg.package} metrics --listen ${address}:${toString exporter.port}";
        Restart = "on-failure";
        RestartSec = "10s";

        # Root, because a journal is read by its owner only; but without any capability, and with
        # nothing that can be written to, the journal included.
        CapabilityBoundingSet = "";

        DevicePolicy = "closed";
        PrivateDevices = true;
        ProtectKernelTunables = true;
        ProtectProc = "invisible";
        ProtectSystem = "strict";
        RemoveIPC = true;
        # UNIX: systemd is told that it listens.
        RestrictAddressFamilies = [
          "AF_INET"
          "AF_INET6"
          "AF_UNIX"
        ];
        SocketBindAllow = "tcp:${toString exporter.port}";
        SocketBindDeny = "any";
        SystemCallFilter = [
          "@system-service"
          "~@privileged @resources"
        ];
      };
    };
  };
}
