"""The schemas of results and of ``method.yaml`` as JSON Schema, for tools that are not written in Python.

They are exported from the models that read the files, so that there is one schema. They say what a single file looks
like; how its parts fit together (number of tasks, of seeds) and the rules of submissions only
``offlinemeta leaderboard check`` knows.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from offlinemeta.benchmark.result import Result
from offlinemeta.envs.errors import UnknownNameError
from offlinemeta.leaderboard.method import Method

MODELS: dict[str, type[BaseModel]] = {"result": Result, "method": Method}
END = r"(?![\s\S])"
"""The end of a text. Python's ``$`` also matches before a last line break, where pydantic's and JavaScript's do not."""


def json_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of ``result`` or ``method``.

    Raises:
        UnknownNameError: it is another name.
    """
    if name not in MODELS:
        raise UnknownNameError("Schema", name, MODELS)
    content = _exact(MODELS[name].model_json_schema())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **content}


def _exact(part: Any) -> Any:
    """Say what pydantic checks and its export leaves out: where a pattern ends, and that other keys are refused."""
    if isinstance(part, list):
        return [_exact(one) for one in part]
    if not isinstance(part, dict):
        return part
    said = {key: _exact(value) for key, value in part.items()}
    if isinstance(said.get("pattern"), str):
        said["pattern"] = _ends(said["pattern"])
    if "patternProperties" in said:
        said["patternProperties"] = {_ends(key): value for key, value in said["patternProperties"].items()}
        said["additionalProperties"] = False
    return said


def _ends(pattern: str) -> str:
    return pattern.removesuffix("$") + END
