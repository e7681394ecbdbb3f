# Types: `check` says whether one definition fits, `merge` makes one value of all of them.
#
#   merge = path: [ value ] -> value      definitions without properties, of one priority
#   subOptions = path -> options          what documentation shows below the option,
#   between = [ name ]                    and what it puts in front of their names
lib:
let
  inherit (builtins)
    all
    concatLists
    concatMap
    elem
    head
    isAttrs
    isBool
    isFloat
    isFunction
    isInt
    isList
    isPath
    isString
    length
    mapAttrs
    match
    ;

  at = builtins.concatStringsSep ".";

  # Definitions that are all the same count as one.
  equal =
    path: values:
    if all (value: value == head values) values then
      head values
    else
      throw "The option `${at path}' has conflicting definition values";

  make =
    name: check: more:
    {
      inherit name check;
      merge = equal;
      subOptions = _path: { };
      between = [ ];
    }
    // more;

  isStringLike = value: isString value || isPath value || (isAttrs value && value ? outPath);

  # Elements may have properties of their own: an element whose conditions are all false is none.
  mergeEach =
    type: path: sets:
    let
      defined = builtins.zipAttrsWith (_name: values: values) (concatMap lib.types.pushedDown sets);
      present = lib.filterAttrs (
        _name: values: concatMap lib.types.discharged values != [ ]
      ) defined;
    in
    mapAttrs (name: values: lib.mergeDefinitions type (path ++ [ name ]) values) present;
in
rec {
  # `mkMerge` and `mkIf` around a set, moved to its attributes; what is false stays undecided.
  pushedDown =
    value:
    let
      kind = if isAttrs value then value._type or "" else "";
      inner = wrap: map (mapAttrs (_name: wrap)) (pushedDown value.content);
    in
    if kind == "merge" then
      concatMap pushedDown value.contents
    else if kind == "if" then
      inner (lib.mkIf value.condition)
    else if kind == "override" then
      inner (lib.mkOverride value.priority)
    else
      [ value ];

  # `mkMerge` and `mkIf` resolved; priorities stay.
  discharged =
    value:
    let
      kind = if isAttrs value then value._type or "" else "";
    in
    if kind == "merge" then
      concatMap discharged value.contents
    else if kind == "if" then
      lib.optionals value.condition (discharged value.content)
    else if kind == "override" then
      map (
        content:
        if isAttrs content && content._type or "" == "override" then
          content
        else
          value // { inherit content; }
      ) (discharged value.content)
    else
      [ value ];

  raw = make "raw value" (_: true) { };
  unspecified = raw;
  anything = make "anything" (_: true) {
    merge =
      path: values:
      if all isAttrs values then mergeEach anything path values else equal path values;
  };
  bool = make "boolean" isBool { };
  int = make "signed integer" isInt { };
  float = make "floating point number" isFloat { };
  str = make "string" isString { };
  lines = make "strings concatenated with \"\\n\"" isString {
    merge = _path: builtins.concatStringsSep "\n";
  };
  path = make "absolute path" (
    value: isStringLike value && match "/.*" (toString value) != null
  ) { };
  package = make "package" (value: isAttrs value && value.type or "" == "derivation") { };
  strMatching =
    pattern:
    make "string matching the pattern ${pattern}" (
      value: isString value && match pattern value != null
    ) { };
  enum = values: make "one of ${builtins.toJSON values}" (value: elem value values) { };
  port = make "16 bit unsigned integer" (value: isInt value && value >= 0 && value <= 65535) { };
  ints.positive = make "positive integer" (value: isInt value && value > 0) { };

  nullOr =
    type:
    make "null or ${type.name}" (value: value == null || type.check value) {
      merge =
        path: values: if all (value: value == null) values then null else type.merge path values;
      inherit (type) between subOptions;
    };
  either =
    first: second:
    make "${first.name} or ${second.name}" (value: first.check value || second.check value) {
      merge = path: values: (if all first.check values then first else second).merge path values;
    };
  oneOf = types: lib.foldl' either (head types) (builtins.tail types);
  listOf =
    type:
    make "list of ${type.name}" isList {
      merge =
        path: values: map (value: lib.mergeDefinitions type path [ value ]) (concatLists values);
      subOptions = path: type.subOptions (path ++ [ "*" ]);
      between = [ "*" ] ++ type.between;
    };
  attrsOf =
    type:
    make "attribute set of ${type.name}" isAttrs {
      merge = mergeEach type;
      subOptions = path: type.subOptions (path ++ [ "<name>" ]);
      between = [ "<name>" ] ++ type.between;
    };
  submodule =
    module:
    let
      evaluated =
        path: definitions:
        lib.evalModules {
          prefix = path;
          modules = [
            { _module.args.name = builtins.elemAt path (length path - 1); }
            module
          ]
          ++ definitions;
        };
    in
    make "submodule" (value: isAttrs value || isFunction value) {
      merge = path: definitions: (evaluated path definitions).config;
      subOptions = path: (evaluated path [ ]).options;
    };
}
