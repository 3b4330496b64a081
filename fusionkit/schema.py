"""A JSON Schema of whole recipes, so that an editor completes the names of components and the options of each.

Draft 7, which is what editors know.
"""

from __future__ import annotations

from typing import Any, TypeAlias, get_args

from pydantic.json_schema import GenerateJsonSchema

from fusionkit.components import KINDS
from fusionkit.errors import RequestError
from fusionkit.registry import Registry, load_registry
from fusionkit.sections import RecipeKeys
from fusionkit.weighting import Learned, Schedule

Schema: TypeAlias = dict[str, Any]
Options: TypeAlias = dict[str, dict[str, Schema | str]]
"""Per kind and name: the schema of a component's options, or why there is none."""


def json_schema(registry: Registry | None = None) -> Schema:
    """The schema of all recipes that can be written with the components of `registry`; default: all installed.

    It imports every component. One that cannot be imported, or that two packages offer, is listed by name alone.
    """
    registry = registry or load_registry()
    definitions: dict[str, Schema] = {}
    options: Options = {kind: _options(kind, registry, definitions) for kind in KINDS}
    whole, part = (_Recipes(options, registry, complete=complete).schema() for complete in (True, False))
    definitions |= whole.pop("$defs") | part.pop("$defs")
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "if": {"required": ["base"]},
        "then": part,
        "else": whole,
        "$defs": definitions,
    }


class _Draft7(GenerateJsonSchema):
    """Pydantic's schema in draft 7, without titles that only repeat the key."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def tuple_schema(self, schema: Any) -> Schema:
        made = super().tuple_schema(schema)
        if "prefixItems" in made:
            made["items"], made["additionalItems"] = made.pop("prefixItems"), made.get("items", False)
        return made


def _options(kind: str, registry: Registry, definitions: dict[str, Schema]) -> dict[str, Schema | str]:
    """One kind of `Options`; the models that the options name go to `definitions`."""
    found: dict[str, Schema | str] = {}
    for name in registry.names(kind):
        prefix = f"{kind}.{name}."
        try:
            model = registry.options(kind, name)
            schema = model.model_json_schema(schema_generator=_Draft7, ref_template=f"#/$defs/{prefix}{{model}}")
        except RequestError as error:
            found[name] = str(error)
            continue
        definitions |= {prefix + inner: definition for inner, definition in schema.pop("$defs", {}).items()}
        found[name] = schema
    return found


class _Recipes:
    """The schema of complete recipes; or of those that change a base, where nothing is required and null removes."""

    def __init__(self, options: Options, registry: Registry, *, complete: bool):
        self.options, self.registry, self.complete = options, registry, complete

    def schema(self) -> Schema:
        root = RecipeKeys.model_json_schema(schema_generator=_Draft7) | {"title": "fusionkit recipe"}
        data, modality = root["$defs"].pop("Data"), root["$defs"].pop("ModalityKeys")
        properties = root["properties"]
        properties["data"] = {
            "description": data["description"],
            **self.mapping("dataset", "source", data["properties"]),
        }
        modality["properties"]["encoder"] |= self.component("encoder")
        alone = self.name("encoder", alone=True)
        (pattern,) = properties["modalities"].pop("patternProperties")  # editors complete nothing under patterns
        properties["modalities"]["propertyNames"] = {"pattern": pattern}
        properties["modalities"]["additionalProperties"] = self.any_of(alone, self.required(modality))
        properties["fusion"] |= self.component("fusion")
        properties["loss"] |= self.loss()
        properties["augment"]["items"] = self.component("augmentation")
        properties["metrics"]["items"] = self.component("metric")
        root["$defs"]["Train"]["properties"]["select"]["anyOf"].append(self.name("metric"))
        return self.required(root)

    def required(self, schema: Schema) -> Schema:
        """The same; in part of a recipe without what is required."""
        return schema if self.complete else {key: value for key, value in schema.items() if key != "required"}

    def any_of(self, *schemas: Schema) -> Schema:
        """One of these; in part of a recipe also null."""
        removed = {"type": "null", "description": "Leaves out what the base has here."}
        return {"anyOf": [*schemas] if self.complete else [*schemas, removed]}

    def name(self, kind: str, *, alone: bool = False) -> Schema:
        """The name of a component, each with its summary; `alone`: where its options cannot stand."""
        known = []
        for name, options in self.options[kind].items():
            if isinstance(options, str):
                known.append({"const": name, "description": options})
            elif not (alone and self.required(options).get("required")):
                known.append({"const": name, "description": self.registry.get(kind, name).component.about})
        return {"type": "string", "anyOf": known or [False]}

    def mapping(self, kind: str, selector: str, beside: Schema) -> Schema:
        """A mapping with the name of a component under `selector`, its options, and keys of the core beside them."""
        properties = {**beside, selector: {**beside.get(selector, {}), **self.name(kind)}}
        choices: list[Any] = [
            {
                "if": {"properties": {selector: {"const": name}}, "required": [selector]},
                "then": self.closed(options, dict.fromkeys(properties, True)),
            }
            for name, options in self.options[kind].items()
            if not isinstance(options, str)
        ]
        return self.required(
            {"type": "object", "properties": properties, "required": [selector], "allOf": choices or [True]}
        )

    def closed(self, options: Schema, beside: Schema) -> Schema:
        """A component's options and nothing but `beside`."""
        properties = {**beside, **options.get("properties", {})}
        required = options.get("required", [])
        return self.required({"properties": properties, "required": required, "additionalProperties": False})

    def component(self, kind: str) -> Schema:
        """A component as its name, or as a mapping with `name` and options."""
        return {"anyOf": [self.name(kind, alone=True), self.mapping(kind, "name", {})]}

    def loss(self) -> Schema:
        """The forms of `loss`: one component with a weight, a list of them, a mapping from names to weights."""
        weight = {
            "description": "Of this term in the objective: a number, a schedule over epochs, or learned.",
            "default": 1,
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"enum": list(get_args(Learned))},
                Schedule.model_json_schema(schema_generator=_Draft7),
            ],
        }
        one, alone = self.mapping("loss", "name", {"weight": weight}), self.name("loss", alone=True)
        terms = {}
        for name, options in self.options["loss"].items():
            own = {} if isinstance(options, str) else self.closed(options, {"weight": weight})
            terms[name] = self.any_of(weight, {"type": "object", **own})
        # In part of a recipe a mapping without `name` may also hold options of the loss that the base names.
        several = {"properties": {"name": True, **terms}, "minProperties": 1, "additionalProperties": not self.complete}
        named = {"properties": {"name": self.name("loss")}, "if": {"required": ["name"]}, "then": one, "else": several}
        listed = {"type": "array", "minItems": 1, "items": {"anyOf": [alone, one]}}
        return {"anyOf": [alone, {"type": "object", **named}, listed]}
