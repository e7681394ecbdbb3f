{
  lib,
  python3Packages,
  testers,
  criu,
  dtc,
  iproute2,
  nftables,
  openssh,
}:

let
  root = ../.;

  package = python3Packages.buildPythonApplication {
    pname = "mkupgrade";
    version = builtins.head (
      builtins.match ''.*__version__ = "([^"]+)".*'' (
        builtins.readFile (root + "/orchestrator/__init__.py")
      )
    );
    pyproject = true;

    # Only what the package and its fast tests are made from, so that a change of the flake or of
    # the module does not rebuild it.
    src = lib.fileset.toSource {
      inherit root;
      fileset = lib.fileset.unions [
        (root + "/pyproject.toml")
        (root + "/setup.py")
        (root + "/MANIFEST.in")
        (root + "/README.md")
        (root + "/LICENSE")
        (root + "/orchestrator")
        (root + "/native")
        (root + "/plans")
        (root + "/docs")
        (root + "/debian")
        (root + "/tests")
      ];
    };

    build-system = [
      python3Packages.setuptools
      python3Packages.cffi
    ];

    # libfdt, for device trees
    buildInputs = [ dtc ];

    dependencies = with python3Packages; [
      cffi
      click
      networkx
      prometheus-client
      pydantic
      pyyaml
      rich
      structlog
      tenacity
    ];

    # criu, nft and ip are called by name; without them the restart method still works.
    makeWrapperArgs = [
      "--suffix PATH : ${
        lib.makeBinPath [
          criu
          iproute2
          nftables
        ]
      }"
    ];

    nativeCheckInputs = [
      openssh
    ]
    ++ (with python3Packages; [
      apsw
      hypothesis
      pytestCheckHook
      pytest-timeout
      pytest-xdist
    ]);
    # The fast suite. Guests are booted by `make vm-test`: a build sandbox has neither kernels nor
    # Debian's archive.
    disabledTestMarks = [
      "vm"
      "power"
      "slow"
    ];
    disabledTestPaths = [
      "tests/vm"
      "tests/nix"
    ];

    postInstall = ''
      install -Dm444 -t $out/share/doc/mkupgrade docs/*.md
      install -Dm444 -t $out/lib/systemd/system orchestrator/drivers/live_update/*.service orchestrator/drivers/multikernel/*.service orchestrator/drivers/multikernel/*.timer orchestrator/agent/*.service orchestrator/offers/*.service orchestrator/offers/*.timer
      substituteInPlace $out/lib/systemd/system/*.service --replace-fail 'ExecStart=mkupgrade' "ExecStart=$out/bin/mkupgrade"
      substituteInPlace $out/lib/systemd/system/* --replace-fail '/usr/share/doc' "$out/share/doc"
    '';

    pythonImportsCheck = [
      "orchestrator.cli.main"
      "orchestrator.system._native"
      "orchestrator.system._libfdt"
    ];

    passthru.tests = {
      version = testers.testVersion { inherit package; };
      live-upgrade = testers.runNixOSTest {
        imports = [ ./tests/live-upgrade.nix ];
        defaults.services.mkupgrade = { inherit package; };
      };
    };

    meta = {
      description = "Change the Linux kernel under running workloads as one transaction";
      license = lib.licenses.asl20;
      mainProgram = "mkupgrade";
      platforms = [
        "x86_64-linux"
        "aarch64-linux"
      ];
    };
  };
in
package
