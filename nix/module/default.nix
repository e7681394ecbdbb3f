# services.mkupgrade: NixOS 25.11, 26.05 and unstable. docs/nixos-module.md tells how it is used.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.mkupgrade;
  yaml = pkgs.formats.yaml { };
  planFile = name: yaml.generate "${name}.yaml" cfg.plans.${name};
  policyFile = yaml.generate "policy.yaml" cfg.settings;
  hasPolicy = removeAttrs cfg.settings [ "api_version" ] != { };
  canRun = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;

  # Those that the configuration has called.
  verbs =
    lib.optionals (cfg.nixos.gateSwitch || cfg.nixos.stage || cfg.nixos.confirm) [
      "nixos preflight"
      "nixos stage"
      "nixos confirm"
    ]
    ++ lib.optional cfg.exporter.enable "metrics";

  # A derivation that is built only if the command succeeds, with this package's mkupgrade.
  check =
    name: inputs: command:
    pkgs.runCommand "mkupgrade-${name}" { nativeBuildInputs = [ cfg.package ] ++ inputs; } ''
      ${command}
      touch "$out"
    '';
in
{
  imports = [
    ./nixos.nix
    ./resume.nix
    ./auto-apply.nix
    ./live-update.nix
    ./agent.nix
    ./exporter.nix
    ./multikernel.nix
  ];

  options.services.mkupgrade = {
    enable = lib.mkEnableOption "mkupgrade, which changes the kernel under running workloads";

    package = lib.mkPackageOption pkgs "mkupgrade" { };

    settings = lib.mkOption {
      default = { };
      example = lib.literalExpression ''
        {
          images.directories = [ builtins.storeDir ];
          state.directories = [ "/var/lib/mkupgrade" ];
          signatures.allowed_signers = "/etc/mkupgrade/allowed_signers";
        }
      '';
      description = ''
        The policy of this host, {file}`/etc/mkupgrade/policy.yaml`: which plans it carries out.
        It is checked against its schema when the system is built. Empty: no file is written, and
        every plan may be carried out.
      '';
      type = lib.types.submodule {
        freeformType = yaml.type;
        options.api_version = lib.mkOption {
          type = lib.types.str;
          default = "mkupgrade-policy/v1";
          description = "The version of the policy's format.";
        };
      };
    };

    plans = lib.mkOption {
      default = { };
      example = lib.literalExpression ''
        {
          weekly = {
            instances = [ { name = "host"; kernel.nixos.profile = "system"; } ];
            soak.duration = "2m";
          };
        }
      '';
      description = ''
        Plans, each written to {file}`/etc/mkupgrade/plans.d/NAME.yaml`. A plan that
        {command}`mkupgrade validate` refuses ends the build of the system, with the key.
      '';
      type = lib.types.attrsOf (
        lib.types.submodule (
          { name, ... }:
          {
            freeformType = yaml.type;
            options = {
              api_version = lib.mkOption {
                type = lib.types.str;
                default = "mkupgrade/v1";
                description = "The version of the plan's format.";
              };
              metadata = lib.mkOption {
                default = { };
                description = "Name and labels of the plan.";
                type = lib.types.submodule {
                  freeformType = yaml.type;
                  options.name = lib.mkOption {
                    type = lib.types.str;
                    default = name;
                    defaultText = lib.literalExpression "‹name›";
                    description = "The plan's name, in reports and in the journal.";
                  };
                };
              };
            };
          }
        )
      );
    };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];

    environment.etc =
      lib.mapAttrs' (
        name: _plan: lib.nameValuePair "mkupgrade/plans.d/${name}.yaml" { source = planFile name; }
      ) cfg.plans
      // lib.optionalAttrs hasPolicy { "mkupgrade/policy.yaml".source = policyFile; };

    # What is cross-built cannot run mkupgrade while it is built.
    system.checks = lib.optionals canRun (
      lib.mapAttrsToList (
        name: _plan: check "plan-${name}" [ ] "mkupgrade validate ${planFile name}"
      ) cfg.plans
      ++ lib.optional hasPolicy (
        check "policy" [ pkgs.check-jsonschema ] ''
          mkupgrade schema --policy >schema.json
          check-jsonschema --schemafile schema.json ${policyFile}
        ''
      )
      # A package without them would have every switch vetoed, or an exporter that starts in vain.
      ++ lib.optional (verbs != [ ]) (
        check "hooks" [ ] (
          lib.concatMapStrings (verb: "mkupgrade ${verb} --help >/dev/null\n") verbs
        )
      )
      ++ lib.optional cfg.nixos.preload (
        check "preload" [ ] ''
          mkupgrade nixos stage --help >help
          grep -q -e --preload help
        ''
      )
    );
  };
}
