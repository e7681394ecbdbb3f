"""Write what is generated in docs/: the JSON Schemas, and the tables of spec.md and policy.md.

    python docs/generate.py          (a test says when it is due)

Between the marks in the pages stands what is made here; the rest is written by hand.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from orchestrator.loading.schema import schema, schema_text  # noqa: E402 -- from this very checkout
from orchestrator.model.policy import Policy  # noqa: E402
from orchestrator.model.spec import UpgradeSpec  # noqa: E402

Schema = dict[str, Any]

FULL = DOCS.parent / "plans" / "full.yaml"
_BLOCK = re.compile(r"(<!-- generated: (?P<what>[a-z_.\[\]=]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_PATTERNS = {"1h30m": "duration", "512MiB": "size"}


DOCUMENTS = {"spec": ("plan", UpgradeSpec), "policy": ("policy", Policy)}
"""Page -> name of the schema, and the document that both describe."""


def spec_page(page: str, document: type[Any] = UpgradeSpec) -> str:
    """The page with every generated block made anew."""
    reference = Reference(schema(document))
    return _BLOCK.sub(lambda m: m[1] + reference.block(m["what"]) + m[3], page)


class Reference:
    """Tables out of the schema, examples out of plans/full.yaml."""

    def __init__(self, root: Schema) -> None:
        self.root = root

    def block(self, what: str) -> str:
        """`example=KEY`: that key's part of the full plan; otherwise the table of a path."""
        name, _, argument = what.partition("=")
        if name == "example":
            return f"\n```yaml\n{example(argument)}```\n\n"
        return "\n" + self.table(self.find(what)) + "\n"

    def find(self, path: str) -> Schema:
        """The schema at a path such as workloads[].migrate.criu; "plan" and "policy" are the
        whole."""
        here = self.root
        for part in [] if path in {"plan", "policy"} else path.split("."):
            name = part.removesuffix("[]")
            here = self.follow(here)
            variants = here.get("discriminator", {}).get("mapping", {})
            here = {"$ref": variants[name]} if name in variants else here["properties"][name]
            here = self.follow(here)["items"] if part.endswith("[]") else here
        return self.follow(here)

    def follow(self, part: Schema) -> Schema:
        while "$ref" in part or "anyOf" in part:
            if "$ref" in part:
                part = self.root["$defs"][part["$ref"].rsplit("/", 1)[1]]
            else:
                part = next(p for p in part["anyOf"] if p.get("type") != "null")
        return part

    def table(self, model: Schema) -> str:
        required = set(model.get("required", ()))
        lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
        for name, prop in model["properties"].items():
            default = "**required**" if name in required else shown_default(prop.get("default"))
            meaning = prop.get("description", "").replace("|", "\\|")
            lines.append(f"| `{name}` | {self.kind(prop)} | {default} | {meaning} |")
        return "\n".join(lines) + "\n"

    def kind(self, prop: Schema) -> str:
        """What is to be written there, in words."""
        prop = self.follow(prop)
        if "const" in prop:
            return f"`{prop['const']}`"
        if "enum" in prop:
            return " or ".join(f"`{word}`" for word in prop["enum"])
        if "discriminator" in prop:
            return f"mapping, by `{prop['discriminator']['propertyName']}`"
        kinds = {
            "array": self._list,
            "object": lambda _: "mapping",
            "boolean": lambda _: "`true` or `false`",
            "integer": _number,
            "string": _text,
        }
        return kinds[prop["type"]](prop).replace("|", "\\|")

    def _list(self, prop: Schema) -> str:
        at_least = " (one at least)" if prop.get("minItems") == 1 else ""
        return f"list: {self.kind(prop['items'])}{at_least}"


def _number(prop: Schema) -> str:
    low, high = prop.get("minimum"), prop.get("maximum")
    if high is not None:
        return f"number, {low} to {high}"
    return "number" if low is None else f"number, {low} or more"


def _text(prop: Schema) -> str:
    words = str(prop.get("patternErrorMessage", "text"))
    for sign, kind in _PATTERNS.items():
        if sign in words:
            return kind
    if prop.get("format") == "regex":
        return "regular expression"
    return words.split(": ", maxsplit=1)[0].removeprefix("a ").removeprefix("an ")


def shown_default(value: Any) -> str:
    """As it would be written in YAML."""
    if value is None or value in ([], {}):
        return "–"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def example(key: str) -> str:
    """The lines of one top-level key of the full plan."""
    lines = FULL.read_text(encoding="utf-8").splitlines()
    starts = [n for n, line in enumerate(lines) if re.match(r"[a-z]", line)]
    start = next(n for n in starts if lines[n].startswith(f"{key}:"))
    end = next((n for n in starts if n > start), len(lines))
    return "\n".join(lines[start:end]).rstrip() + "\n"


def main() -> None:
    for name, (stem, document) in DOCUMENTS.items():
        page = DOCS / f"{name}.md"
        page.write_text(spec_page(page.read_text(encoding="utf-8"), document), encoding="utf-8")
        (DOCS / f"{stem}.schema.json").write_text(schema_text(document), encoding="utf-8")


if __name__ == "__main__":
    main()
