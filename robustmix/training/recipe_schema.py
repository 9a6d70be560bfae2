"""The JSON Schema of recipe files, for editors and other programs."""

from typing import Any

from pydantic import TypeAdapter

from robustmix.methods.registry import METHODS, config_class
from robustmix.training.recipe import Recipe


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe file, the methods' options apart."""
    schema = TypeAdapter(Recipe).json_schema()
    schema["properties"].pop("method_options")
    return schema


def recipe_file_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe file, every method with its options (imports torch)."""
    schema = recipe_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["properties"]["method"] = {
        "description": "Training method and its options.",
        "oneOf": [_method(name) for name in METHODS],
    }
    schema["additionalProperties"] = False
    return schema


def _method(name: str) -> dict[str, Any]:
    config: Any = config_class(name)
    options = TypeAdapter(config).json_schema().get("properties", {})
    return {
        "title": name,
        "type": "object",
        "properties": {"name": {"const": name}, **options},
        "required": ["name"],
        "additionalProperties": False,
    }
