{
  description = "Stand-in for nixpkgs: enough of lib, packages and NixOS to evaluate our flake offline";

  outputs =
    { self }:
    let
      lib = import ./lib.nix // {
        nixosSystem =
          { system, modules, ... }:
          let
            evaluated = lib.evalModules {
              modules = [
                (import ./options.nix { })
                { _module.args.pkgs = self.legacyPackages.${system}; }
              ]
              ++ modules;
            };
            inherit (evaluated) config;
          in
          evaluated
          // {
            config = config // {
              # All that a system is made from has to be evaluated for it.
              system.build.toplevel = builtins.deepSeq [
                config.systemd.services
                config.environment.etc
                config.system.checks
                config.assertions
              ] self.legacyPackages.${system}.mkupgrade;
            };
          };
      };
    in
    {
      inherit lib;
      legacyPackages = lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
      ] (system: import ./pkgs.nix { inherit lib system; });
    };
}
