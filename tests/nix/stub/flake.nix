{
  description = "Stand-in for nixpkgs: enough of lib and packages to evaluate our flake offline";

  outputs =
    { self }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      genAttrs =
        names: f:
        builtins.listToAttrs (
          map (name: {
            inherit name;
            value = f name;
          }) names
        );
      lib = {
        inherit genAttrs;
        getExe = p: "${p}/bin/${p.meta.mainProgram}";
        makeBinPath = ps: builtins.concatStringsSep ":" (map (p: "${p}/bin") ps);
        licenses.asl20.spdxId = "Apache-2.0";
        fileset = {
          unions = paths: map (p: if builtins.pathExists p then p else throw "no such path: ${toString p}") paths;
          # The real one copies the union; forcing each path is what matters here.
          toSource = { root, fileset }: builtins.deepSeq fileset root;
        };
      };
      packagesFor =
        system:
        let
          fake =
            attrs:
            derivation {
              name = attrs.name or "${attrs.pname}-${attrs.version}";
              inherit system;
              builder = "/bin/sh";
              args = [
                "-c"
                "echo built > $out"
              ];
            }
            // {
              meta = attrs.meta or { };
              given = attrs;
            };
          named = name: fake { inherit name; };
          python3Packages = genAttrs [
            "cffi"
            "click"
            "hypothesis"
            "networkx"
            "pydantic"
            "pytest-timeout"
            "pytest-xdist"
            "pytestCheckHook"
            "rich"
            "pyyaml"
            "setuptools"
            "structlog"
            "tenacity"
          ] named // {
            buildPythonApplication = fake;
          };
          pkgs =
            genAttrs [
              "criu"
              "dtc"
              "e2fsprogs"
              "gcc"
              "gnumake"
              "iproute2"
              "mmdebstrap"
              "nftables"
              "nixfmt-tree"
              "python3"
              "qemu"
              "zstd"
            ] named
            // {
              inherit lib python3Packages;
              stdenv.hostPlatform.system = system;
              mkShell = attrs: fake ({ name = "shell"; } // attrs);
              callPackage =
                file: extra:
                let
                  f = import file;
                in
                f (builtins.intersectAttrs (builtins.functionArgs f) pkgs // extra);
            };
        in
        pkgs;
    in
    {
      inherit lib;
      legacyPackages = genAttrs systems packagesFor;
    };
}
