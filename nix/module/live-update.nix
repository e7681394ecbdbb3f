# What the channel kho needs of the kernel: facts in docs/handover.md and docs/live-update.md.
{
  config,
  lib,
  ...
}:

let
  cfg = config.services.mkupgrade;
  live = cfg.kernel.liveUpdate;
  inherit (config.boot.kernelPackages) kernel;

  symbols = {
    KEXEC_FILE = lib.kernel.yes;
    KEXEC_HANDOVER = lib.kernel.yes;
    LIVEUPDATE = lib.kernel.yes;
    # Optional: nixpkgs ends the build over a symbol that a kernel does not know.
    LIVEUPDATE_MEMFD = lib.kernel.option lib.kernel.yes;
  };
  # Kconfig has it follow LIVEUPDATE, so that silence is a yes.
  followers = [ "LIVEUPDATE_MEMFD" ];

  # What a kernel package says of a symbol before it is built: true, false, or null for nothing.
  # Kernels of nixpkgs have the configuration that they are built with. Those of linuxManualConfig
  # have `config`, empty unless they import their .config; both of our systems are 64 bits wide.
  structured = lib.attrByPath [ "configfile" "structuredConfig" ] null kernel;
  offers =
    symbol:
    if structured != null then
      if structured ? ${symbol} then
        structured.${symbol}.tristate or null == "y"
      else
        builtins.elem symbol followers
    else if lib.hasAttrByPath [ "config" "isYes" ] kernel && kernel.config.isYes "64BIT" then
      kernel.config.isYes symbol
    else
      null;
  silent = builtins.filter (symbol: offers symbol == null) (builtins.attrNames symbols);
in
{
  options.services.mkupgrade.kernel.liveUpdate = {
    enable = lib.mkOption {
      type = lib.types.bool;
      default = false;
      description = ''
        Whether Kexec HandOver and the Live Update Orchestrator are turned on, so that state stays
        in memory across the jump (channel kho): kernel parameters, and a check that the kernel
        package offers it.
      '';
    };

    build = lib.mkOption {
      type = lib.types.bool;
      default = false;
      description = ''
        Whether the kernel is built with what live update needs. It is compiled then: no binary
        cache has it.
      '';
    };

    parameters = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [
        "kho=on"
        "liveupdate=on"
      ];
      description = "Kernel parameters; both kernels of an upgrade need them.";
    };
  };

  config = lib.mkIf (cfg.enable && live.enable) {
    boot.kernelParams = live.parameters;

    boot.kernelPatches = lib.optional live.build {
      name = "mkupgrade-live-update";
      patch = null;
      structuredExtraConfig = symbols;
    };

    assertions = [
      {
        assertion = lib.versionAtLeast kernel.version "6.19";
        message = "services.mkupgrade.kernel.liveUpdate: Linux ${kernel.version} has no Live Update Orchestrator; 6.19 is the first that has it.";
      }
    ]
    ++ map (symbol: {
      assertion = offers symbol != false;
      message = "services.mkupgrade.kernel.liveUpdate: this kernel package is built without CONFIG_${symbol}; services.mkupgrade.kernel.liveUpdate.build = true builds one of nixpkgs' kernels with it.";
    }) (builtins.attrNames symbols);

    warnings = lib.optional (silent != [ ]) (
      "services.mkupgrade.kernel.liveUpdate: this kernel package does not tell its configuration; whether it has "
      + "${builtins.concatStringsSep ", " silent} is told by `mkupgrade doctor` once it runs."
    );
  };
}
