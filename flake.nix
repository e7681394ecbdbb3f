{
  description = "mkupgrade: change the Linux kernel under running workloads as one transaction";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forAllSystems = f: nixpkgs.lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
    in
    {
      overlays.default = final: _prev: {
        mkupgrade = final.callPackage ./nix/package.nix { };
      };

      packages = forAllSystems (pkgs: rec {
        mkupgrade = pkgs.callPackage ./nix/package.nix { };
        default = mkupgrade;
      });

      apps = forAllSystems (pkgs: {
        default = {
          type = "app";
          program = nixpkgs.lib.getExe self.packages.${pkgs.stdenv.hostPlatform.system}.default;
          meta.description = "Plan and apply kernel upgrades";
        };
      });

      checks = forAllSystems (pkgs: {
        package = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
      });

      devShells = forAllSystems (pkgs: {
        default = pkgs.callPackage ./nix/dev-shell.nix { };
      });

      formatter = forAllSystems (pkgs: pkgs.nixfmt-tree);
    };
}
