# What comes out of the module for one configuration, as data: for nix-instantiate --json.
#
#   --arg config '{ ... }'          the configuration
#   --arg lib 'import …/lib'        instead of the stand-in
#   --argstr mkupgrade SCRIPT       the real command, so that checks can be built (attribute `checks`)
{
  config ? { },
  lib ? import ./stub/lib.nix,
  release ? "unstable",
  withMultikernel ? false,
  mkupgrade ? null,
}:
let
  pkgs = import ./stub/pkgs.nix { inherit lib mkupgrade; };
  evaluated = lib.evalModules {
    modules = [
      (import ./stub/options.nix { inherit release withMultikernel; })
      ../../nix/module
      { _module.args = { inherit pkgs; }; }
      config
    ];
  };
  c = evaluated.config;
  # Paths into the store are compared by their names: hashes depend on where the store is.
  plain =
    value:
    if builtins.isAttrs value then
      if value.type or "" == "derivation" then value.name else builtins.mapAttrs (_: plain) value
    else if builtins.isList value then
      map plain value
    else if builtins.isString value then
      builtins.unsafeDiscardStringContext value
    else
      value;
  # The manual is made without any package.
  named =
    at: set:
    builtins.mapAttrs (
      name: value:
      let
        here = "${at}.${name}";
        path = throw "${here} is needed for the manual";
      in
      if !builtins.isAttrs value then
        value
      else
        named here value
        // lib.optionalAttrs (value.type or null == "derivation") {
          outPath = path;
          drvPath = path;
        }
    ) set;
in
{
  inherit (c.system) checks;

  shown = plain {
    failed = map (a: a.message) (builtins.filter (a: !a.assertion) c.assertions);
    inherit (c) warnings;
    etc = builtins.mapAttrs (_: file: file.source.contents) c.environment.etc;
    packages = c.environment.systemPackages;
    checks = map (check: { inherit (check) name command; }) c.system.checks;
    preSwitchChecks = c.system.preSwitchChecks;
    inhibitors = c.system.switch.inhibitors or null;
    loaders = builtins.mapAttrs (_: loader: loader.extraInstallCommands) (
      removeAttrs c.boot.loader [ "timeout" ]
    );
    kernelParams = c.boot.kernelParams;
    kernelPatches = c.boot.kernelPatches;
    unitsOf = c.systemd.packages;
    services = c.systemd.services;
    timers = c.systemd.timers;
    firewall = c.networking.firewall.allowedTCPPorts;
  };

  documented =
    map
      (option: {
        inherit (option) name;
        description = option.description.text or option.description or null;
      })
      (
        builtins.filter (
          option: lib.hasPrefix "services.mkupgrade." option.name && !(option.internal or false)
        ) (lib.optionAttrSetToDocList evaluated.options)
      );

  # What NixOS' manual is made from where it includes all modules: as in
  # nixos/modules/misc/documentation.nix. Of the real lib alone: the stand-in has no `class`.
  manual = builtins.filter (option: lib.hasPrefix "services.mkupgrade." option.name) (
    lib.optionAttrSetToDocList
      (lib.evalModules {
        class = "nixos";
        specialArgs = {
          inherit (evaluated) options;
          pkgs = named "pkgs" pkgs;
        };
        modules = [
          { _module.check = false; }
          ../../nix/module
        ];
      }).options
  );
}
