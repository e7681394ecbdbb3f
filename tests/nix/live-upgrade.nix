# nix/tests/live-upgrade.nix without a VM: its machine evaluated, its script as text.
{
  lib ? import ./stub/lib.nix,
}:
let
  pkgs = import ./stub/pkgs.nix { inherit lib; };
  test = import ../../nix/tests/live-upgrade.nix { inherit lib pkgs; };
  evaluated =
    added:
    (lib.evalModules {
      modules = [
        (import ./stub/options.nix { inherit specialised; })
        { _module.args = { inherit pkgs; }; }
        test.defaults
        test.nodes.machine
        added
      ];
    }).config;
  # As NixOS has it: with the module added, and without specialisations of its own.
  specialised =
    added:
    evaluated {
      imports = [ added ];
      specialisation = lib.mkOverride 0 { };
    };
  machine = evaluated { };
in
{
  inherit (test) name testScript;
  plan = machine.environment.etc."mkupgrade/plans.d/upgrade.yaml".source.contents;
  failed = map (a: a.message) (builtins.filter (a: !a.assertion) machine.assertions);
}
