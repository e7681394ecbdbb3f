# A stand-in for nixpkgs' lib: what our module, package and flake use of it, and no more.
#
# Written from the documented behaviour (NixOS manual, "Writing NixOS Modules"; nixpkgs manual,
# "Module system"). Not in it: the order of list definitions in several modules, positions of
# declarations, disabledModules, coercedTo. Where it and the real lib differ on a case of ours,
# tests/nix/test_module.py says so as soon as it is given the real one.
let
  inherit (builtins)
    attrNames
    elem
    filter
    foldl'
    head
    isAttrs
    isList
    isString
    length
    listToAttrs
    tail
    ;

  modules = import ./modules.nix lib;
  types = import ./types.nix lib;

  lib = {
    inherit types;
    inherit (modules)
      evalModules
      mergeDefinitions
      optionAttrSetToDocList
      ;
    inherit (builtins) concatStringsSep filter isAttrs length mapAttrs attrNames attrValues;

    # Properties of definitions, and options.
    mkIf = condition: content: {
      _type = "if";
      inherit condition content;
    };
    mkMerge = contents: {
      _type = "merge";
      inherit contents;
    };
    mkOverride = priority: content: {
      _type = "override";
      inherit priority content;
    };
    mkOrder = priority: content: {
      _type = "order";
      inherit priority content;
    };
    mkBefore = lib.mkOrder 500;
    mkAfter = lib.mkOrder 1500;
    mkDefault = lib.mkOverride 1000;
    mkForce = lib.mkOverride 50;
    mkOption = attrs: attrs // { _type = "option"; };
    mkEnableOption =
      what:
      lib.mkOption {
        type = types.bool;
        default = false;
        example = true;
        description = "Whether to enable ${what}.";
      };
    mkPackageOption =
      pkgs: name: _:
      lib.mkOption {
        type = types.package;
        default = pkgs.${name};
        description = "The ${name} package to use.";
      };
    literalExpression = text: {
      _type = "literalExpression";
      inherit text;
    };

    # Sets and lists.
    genAttrs = names: f: listToAttrs (map (name: lib.nameValuePair name (f name)) names);
    nameValuePair = name: value: { inherit name value; };
    mapAttrs' = f: set: listToAttrs (map (name: f name set.${name}) (attrNames set));
    mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
    filterAttrs =
      keep: set:
      listToAttrs (
        map (name: lib.nameValuePair name set.${name}) (filter (n: keep n set.${n}) (attrNames set))
      );
    attrByPath =
      path: default: set:
      if path == [ ] then
        set
      else if isAttrs set && set ? ${head path} then
        lib.attrByPath (tail path) default set.${head path}
      else
        default;
    hasAttrByPath =
      path: set:
      path == [ ]
      || (isAttrs set && set ? ${head path} && lib.hasAttrByPath (tail path) set.${head path});
    optional = condition: value: if condition then [ value ] else [ ];
    optionals = condition: values: if condition then values else [ ];
    optionalAttrs = condition: set: if condition then set else { };
    optionalString = condition: text: if condition then text else "";
    toList = value: if isList value then value else [ value ];
    unique = foldl' (seen: value: if elem value seen then seen else seen ++ [ value ]) [ ];
    foldl' = foldl';
    last = list: builtins.elemAt list (length list - 1);
    toInt = builtins.fromJSON;
    min = a: b: if a < b then a else b;

    # Texts.
    hasPrefix = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;
    splitString = separator: text: filter isString (builtins.split separator text);
    hasInfix = infix: text: builtins.length (builtins.split (lib.escapeRegex infix) text) > 1;
    escapeRegex = lib.replaceEach (lib.splitChars "\\[{()^$?*+|.");
    splitChars =
      text: builtins.genList (i: builtins.substring i 1 text) (builtins.stringLength text);
    replaceEach = chars: builtins.replaceStrings chars (map (char: "\\" + char) chars);
    concatMapStrings = f: values: builtins.concatStringsSep "" (map f values);
    concatMapStringsSep =
      separator: f: values:
      builtins.concatStringsSep separator (map f values);
    escapeShellArg =
      argument: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] (toString argument)}'";
    escapeShellArgs = lib.concatMapStringsSep " " lib.escapeShellArg;
    versionAtLeast = version: least: builtins.compareVersions version least >= 0;
    getExe = package: "${package}/bin/${package.meta.mainProgram}";
    makeBinPath = lib.concatMapStringsSep ":" (package: "${package}/bin");

    # lib/kernel.nix
    kernel = {
      yes = {
        tristate = "y";
        optional = false;
      };
      option = item: item // { optional = true; };
    };

    licenses.asl20.spdxId = "Apache-2.0";
    fileset = {
      unions = map (
        path: if builtins.pathExists path then path else throw "no such path: ${toString path}"
      );
      # The real one copies the union; forcing each path is what matters here.
      toSource = { root, fileset }: builtins.deepSeq fileset root;
    };
  };
in
lib
