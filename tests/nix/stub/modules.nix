# evalModules: declarations of all modules, then definitions of all modules, merged by type.
lib:
let
  inherit (builtins)
    attrNames
    concatMap
    filter
    foldl'
    functionArgs
    head
    isAttrs
    isFunction
    isPath
    isString
    map
    mapAttrs
    removeAttrs
    zipAttrsWith
    ;
  inherit (lib.types) discharged pushedDown;

  at = builtins.concatStringsSep ".";
  is = kind: value: isAttrs value && value._type or "" == kind;
  isOption = is "option";
  contentOf = kind: value: if is kind value then value.content else value;
  priority = value: if is "override" value then value.priority else 100;
  order = value: if is "order" value then value.priority else 1000;
  ordered = values: map (contentOf "order") (builtins.sort (a: b: order a < order b) values);

  # One value of all definitions: conditions decided, the best priority only, each of the type.
  mergeDefinitions =
    type: path: values:
    let
      live = concatMap discharged values;
      best = foldl' (least: value: lib.min least (priority value)) 9999 live;
      kept = ordered (map (contentOf "override") (filter (value: priority value == best) live));
      checked =
        value:
        if type.check value then
          value
        else
          throw "A definition for option `${at path}' is not of type `${type.name}'";
    in
    type.merge path (map checked kept);

  evalModules =
    {
      modules,
      prefix ? [ ],
      specialArgs ? { },
    }:
    let
      # A function gets what it names, and may ask for anything by `...`.
      called =
        module:
        if isFunction module then
          called (
            module (
              mapAttrs (
                name: _default: arguments.${name} or (throw "no module argument `${name}'")
              ) (functionArgs module)
              // arguments
            )
          )
        else if isPath module || isString module then
          called (import module)
        else
          {
            imports = module.imports or [ ];
            options = module.options or { };
            freeformType = module.freeformType or null;
            # With neither `options` nor `config`, what is left is configuration.
            config =
              if module ? options || module ? config then
                module.config or { }
              else
                removeAttrs module [
                  "_module"
                  "freeformType"
                  "imports"
                ];
          };
      collect = concatMap (
        module:
        let
          this = called module;
        in
        collect this.imports ++ [ this ]
      );
      all = collect modules;

      arguments = {
        inherit lib config options;
      }
      // specialArgs
      // given;
      # Arguments come from modules that are no functions: functions can be called with them.
      given = foldl' (
        found: module: found // (if isAttrs module then module._module.args or { } else { })
      ) { } modules;

      freeform = foldl' (
        found: module: if module.freeformType == null then found else module.freeformType
      ) null all;

      declared =
        path:
        foldl' (
          found: new:
          found
          // mapAttrs (
            name: value:
            if !(found ? ${name}) then
              value
            else if isOption value || isOption found.${name} then
              throw "The option `${at (path ++ [ name ])}' is already declared"
            else
              declared (path ++ [ name ]) [ found.${name} value ]
          ) new
        ) { };
      options = declared prefix (map (module: module.options) all);

      # Definitions along the tree of options; what is not declared is an error, or free form.
      defined =
        path: declarations: definitions: free:
        let
          sets = concatMap pushedDown definitions;
          byName = zipAttrsWith (_name: values: values) sets;
          unknown = filter (name: concatMap discharged byName.${name} != [ ]) (
            filter (name: !(declarations ? ${name})) (attrNames byName)
          );
          value =
            name: option:
            let
              here = path ++ [ name ];
              values = byName.${name} or [ ];
            in
            if !(isOption option) then
              defined here option values null
            else if concatMap discharged values != [ ] then
              (option.apply or (x: x)) (mergeDefinitions option.type here values)
            else if option ? default then
              (option.apply or (x: x)) (mergeDefinitions option.type here [ option.default ])
            else
              throw "The option `${at here}' was accessed but has no value defined";
          known = mapAttrs value declarations;
        in
        if unknown == [ ] then
          known
        else if free != null then
          free.merge path (map (set: removeAttrs set (attrNames declarations)) sets) // known
        else
          throw "The option `${at (path ++ [ (head unknown) ])}' does not exist";
      config = defined prefix options (map (module: module.config) all) freeform;
    in
    {
      inherit config options;
    };

  # Options and what their types have below them, as documentation lists them.
  optionAttrSetToDocList =
    let
      listed =
        path: value:
        if isOption value then
          [
            {
              name = at path;
              description = value.description or null;
              internal = value.internal or false;
            }
          ]
          ++ listedIn (path ++ value.type.between) (value.type.subOptions path)
        else
          listedIn path value;
      listedIn = path: set: concatMap (name: listed (path ++ [ name ]) set.${name}) (attrNames set);
    in
    listed [ ];
in
{
  inherit evalModules mergeDefinitions optionAttrSetToDocList;
}
