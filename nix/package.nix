{
  lib,
  stdenv,
  python3Packages,
  testers,
  help2man,
  installShellFiles,
  criu,
  dtc,
  iproute2,
  nftables,
  openssh,
  zstd,
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
        (root + "/debian/mkupgrade.h2m")
        (root + "/tests")
      ];
    };

    build-system = [
      python3Packages.setuptools
      python3Packages.cffi
    ];

    nativeBuildInputs = [
      help2man
      installShellFiles
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

    # Called by name: criu, nft and ip, without which the restart method still works, ssh-keygen for
    # signed plans, and zstd for a look into kernel images.
    makeWrapperArgs = [
      "--suffix"
      "PATH"
      ":"
      (lib.makeBinPath [
        criu
        iproute2
        nftables
        openssh
        zstd
      ])
    ];

    nativeCheckInputs = [
      iproute2
      openssh
      zstd
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
      # Of files that are not part of the package: its own recipes, scripts and benchmarks.
      "tests/benchmarks"
      "tests/debian"
      "tests/rehearsal/test_setting_up.py"
    ];

    # In a build `/` belongs to nobody that the user namespace knows.
    disabledTests = [ "test_the_real_root_is_trusted" ];

    # Tests are of the source tree (pythonpath in pyproject.toml), where nothing was compiled.
    preCheck = ''
      export HOME=$(mktemp -d)
      cp $out/${python3Packages.python.sitePackages}/orchestrator/system/*.so orchestrator/system/
    '';

    postInstall = ''
      install -Dm444 -t $out/share/doc/mkupgrade docs/*.md
      install -Dm444 -t $out/lib/systemd/system \
        orchestrator/drivers/live_update/*.service \
        orchestrator/drivers/multikernel/*.service \
        orchestrator/drivers/multikernel/*.timer \
        orchestrator/agent/*.service \
        orchestrator/offers/*.service \
        orchestrator/offers/*.timer
      substituteInPlace $out/lib/systemd/system/*.service --replace-fail 'ExecStart=mkupgrade' "ExecStart=$out/bin/mkupgrade"
      substituteInPlace $out/lib/systemd/system/* --replace-fail '/usr/share/doc' "$out/share/doc"
    ''
    + lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
      installShellCompletion --cmd mkupgrade \
        --bash <($out/bin/mkupgrade completion bash) \
        --zsh <($out/bin/mkupgrade completion zsh) \
        --fish <($out/bin/mkupgrade completion fish)
      help2man --no-info --name='change the Linux kernel under running workloads' \
        --include=debian/mkupgrade.h2m --output=mkupgrade.1 $out/bin/mkupgrade
      substituteInPlace mkupgrade.1 --replace-fail /usr/share/doc $out/share/doc
      installManPage mkupgrade.1
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
