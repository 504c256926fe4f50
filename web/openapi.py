"""Writes web/src/core/api.d.ts: the schemas of the server's OpenAPI document as TypeScript.

    python web/openapi.py

tests/server/test_answers.py fails while that file is not what this makes. (openapi-typescript wants TypeScript 5.)
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from superpose.server.app import make_app

FILE = Path(__file__).parent / "src/core/api.d.ts"
HEAD = "// Made by `python web/openapi.py` from the server's OpenAPI document: change the types of the server.\n"
PLAIN = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}


def document() -> dict[str, Any]:
    """The OpenAPI document, of an app that nobody serves."""
    shelf: Any = None
    store: Any = None
    return make_app(shelf, store, None).openapi()


def written(schemas: dict[str, Any]) -> str:
    """The TypeScript of named schemas."""
    return HEAD + "".join(
        f"\n{_comment(schemas[name])}export {_declared(name, schemas[name])}\n" for name in sorted(schemas)
    )


def _comment(schema: dict[str, Any], indent: str = "") -> str:
    text = re.sub(r"\s+", " ", schema.get("description", "")).strip().replace("*/", "*\\/")
    return f"{indent}/** {text} */\n" if text else ""


def _declared(name: str, schema: dict[str, Any]) -> str:
    if "properties" in schema:
        return f"interface {name} {_type(schema, '')}"
    return f"type {name} = {_type(schema, '')};"


def _type(schema: dict[str, Any], indent: str) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[1]
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " | ".join(dict.fromkeys(_type(option, indent) for option in options))
    if "const" in schema or "enum" in schema:
        return " | ".join(_literal(value) for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        item = _type(schema.get("items", {}), indent)
        return f"({item})[]" if " | " in item else f"{item}[]"
    if schema.get("type") == "object":
        return _object(schema, indent)
    return PLAIN.get(schema.get("type", ""), "unknown")


def _object(schema: dict[str, Any], indent: str) -> str:
    inner, required = indent + "  ", schema.get("required", [])
    rows = [
        f"{_comment(part, inner)}{inner}{name}{'' if name in required else '?'}: {_type(part, inner)};\n"
        for name, part in schema.get("properties", {}).items()
    ]
    if schema.get("additionalProperties", not rows) is not False:
        more = schema.get("additionalProperties")
        rows.append(f"{inner}[name: string]: {_type(more, inner) if isinstance(more, dict) else 'unknown'};\n")
    return "{\n" + "".join(rows) + indent + "}"


def _literal(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    FILE.write_text(written(document()["components"]["schemas"]), encoding="utf-8")
    print(FILE)
