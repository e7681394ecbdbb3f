{
  description = "mkupgrade: change the Linux kernel under running workloads as one transaction";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forAllSystems = f: lib.genAttrs systems (system: f system nixpkgs.legacyPackages.${system});
    in
    {
      overlays.default = final: _prev: {
        mkupgrade = final.callPackage ./nix/package.nix { };
      };

      packages = forAllSystems (
        _system: pkgs: rec {
          mkupgrade = pkgs.callPackage ./nix/package.nix { };
          default = mkupgrade;
        }
      );

      # nix/module takes the package from an overlay; this one brings the flake's own.
      nixosModules = rec {
        mkupgrade =
          { pkgs, ... }:
          {
            imports = [ ./nix/module ];
            services.mkupgrade.package =
              lib.mkDefault
                self.packages.${pkgs.stdenv.hostPlatform.system}.default;
          };
        default = mkupgrade;
      };

      apps = forAllSystems (
        system: _pkgs: rec {
          mkupgrade = {
            type = "app";
            program = lib.getExe self.packages.${system}.default;
            meta.description = "Plan and apply kernel upgrades";
          };
          default = mkupgrade;
        }
      );

      checks = forAllSystems (
        system: pkgs:
        let
          package = self.packages.${system}.default;
          nixFiles = lib.fileset.toSource {
            root = ./.;
            fileset = lib.fileset.unions [
              ./flake.nix
              ./nix
              ./tests/nix
            ];
          };
        in
        {
          inherit package;
          inherit (package.tests) live-upgrade version;
          # treefmt takes the root of a git tree for its own.
          formatting =
            pkgs.runCommand "mkupgrade-formatting"
              {
                nativeBuildInputs = [
                  pkgs.git
                  self.formatter.${system}
                ];
              }
              ''
                export HOME=$TMPDIR
                cp -r --no-preserve=mode ${nixFiles} source
                cd source
                git init --quiet
                git add .
                treefmt --ci
                touch $out
              '';
          # A whole system with the module in it.
          module =
            (lib.nixosSystem {
              inherit system;
              modules = [
                self.nixosModules.default
                ./nix/tests/example.nix
              ];
            }).config.system.build.toplevel;
        }
      );

      devShells = forAllSystems (
        _system: pkgs: {
          default = pkgs.callPackage ./nix/dev-shell.nix { };
        }
      );

      formatter = forAllSystems (_system: pkgs: pkgs.nixfmt-tree);
    };
}
