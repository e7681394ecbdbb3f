# A stand-in for a package set: derivations that are made by /bin/sh alone.
#
#   given       what a package function was called with
#   contents    of a generated file, as data
{
  lib,
  system ? builtins.currentSystem,
  # Of a real mkupgrade, if the checks of a configuration are to be built.
  mkupgrade ? null,
}:
let
  inherit (builtins) intersectAttrs functionArgs;

  fake =
    given:
    derivation {
      name = given.name or "${given.pname}-${given.version}";
      inherit system;
      builder = "/bin/sh";
      args = [
        "-c"
        "echo built > $out"
      ];
    }
    // {
      meta = given.meta or { };
      inherit given;
    }
    // given.passthru or { };
  named = name: fake { inherit name; } // { meta.mainProgram = name; };

  script =
    name: text:
    derivation {
      inherit name system text;
      passAsFile = [ "text" ];
      builder = "/bin/sh";
      PATH = "/usr/bin:/bin";
      args = [
        "-euc"
        "mkdir -p $out/bin && cp $textPath $out/bin/${name} && chmod +x $out/bin/${name}"
      ];
    }
    // {
      meta.mainProgram = name;
      contents = text;
    };

  yamlType =
    with lib.types;
    nullOr (oneOf [
      bool
      int
      float
      str
      path
      (attrsOf yamlType)
      (listOf yamlType)
    ])
    // {
      description = "YAML value";
      name = "YAML value";
      # Ours would list what is below without end.
      subOptions = _path: { };
      between = [ ];
    };

  python3Packages =
    lib.genAttrs [
      "apsw"
      "cffi"
      "click"
      "hypothesis"
      "networkx"
      "prometheus-client"
      "pydantic"
      "pytest-timeout"
      "pytest-xdist"
      "pytestCheckHook"
      "pyyaml"
      "rich"
      "setuptools"
      "structlog"
      "tenacity"
    ] named
    // {
      python.sitePackages = "lib/python3.13/site-packages";
      # As in nixpkgs, arguments may be a function of the finished package.
      buildPythonApplication =
        given:
        let
          finished = fake (if builtins.isFunction given then given finished else given);
        in
        finished;
    };

  pkgs =
    lib.genAttrs [
      "check-jsonschema"
      "coreutils"
      "criu"
      "dtc"
      "e2fsprogs"
      "gcc"
      "git"
      "gnumake"
      "help2man"
      "installShellFiles"
      "iproute2"
      "mmdebstrap"
      "nftables"
      "nix"
      "nixfmt-tree"
      "openssh"
      "python3"
      "qemu"
      "systemd"
      "zstd"
    ] named
    // {
      inherit lib pkgs python3Packages;
      mkupgrade = if mkupgrade == null then named "mkupgrade" else script "mkupgrade" mkupgrade;
      stdenv = {
        hostPlatform.system = system;
        buildPlatform.canExecute = _platform: true;
      };
      mkShell = given: fake ({ name = "shell"; } // given);

      # JSON is YAML.
      formats.yaml = _: {
        type = yamlType;
        generate =
          name: contents:
          derivation {
            inherit name system;
            json = builtins.toJSON contents;
            passAsFile = [ "json" ];
            builder = "/bin/sh";
            PATH = "/usr/bin:/bin";
            args = [
              "-euc"
              "cp $jsonPath $out"
            ];
          }
          // {
            inherit contents;
          };
      };
      runCommand =
        name: given: command:
        derivation {
          inherit name system;
          builder = "/bin/sh";
          PATH = lib.makeBinPath (given.nativeBuildInputs or [ ]) + ":/usr/bin:/bin";
          args = [
            "-euc"
            command
          ];
        }
        // {
          inherit command;
        };
      writeShellApplication =
        { name, text, ... }@given: script name "#!/bin/bash\n${text}" // { inherit given; };

      # A kernel of nixpkgs says what it is configured with; boot.kernelPatches add to it.
      linuxPackages = pkgs.linuxFor "7.2.13" { };
      linuxPackages_latest = pkgs.linuxFor "7.3.4" { };
      linuxFor = version: configuration: {
        kernel =
          named "linux"
          // {
            inherit version;
            modDirVersion = version;
            features = { };
            configfile.structuredConfig = {
              KEXEC_FILE.tristate = "y";
              KEXEC_HANDOVER.tristate = "y";
            }
            // configuration;
          };
      };

      writers.writePython3 = name: _: text: script name "#!/usr/bin/python3\n${text}";
      testers = {
        testVersion = { package }: named "${package.name}-version";
        runNixOSTest = test: fake { name = "vm-test"; } // { inherit test; };
      };

      callPackage =
        file: extra:
        let
          function = import file;
        in
        function (intersectAttrs (functionArgs function) pkgs // extra);
    };
in
pkgs
