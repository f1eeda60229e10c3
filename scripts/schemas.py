"""Write the JSON Schemas of the messages and of openaperture.json to docs/schemas, from the types that decode."""

import json
from pathlib import Path

import msgspec

from openaperture.domain import messages as m
from openaperture.worker.command.manifest import Manifest

FOLDER = Path(__file__).parents[1] / "docs" / "schemas"
PUBLISHED = {
    "start.schema.json": m.StartMessage,
    "request.schema.json": m.Request,
    "callback.schema.json": m.AnyCallback,
    "answer.schema.json": m.Answer,
    "openaperture.schema.json": Manifest,
}


def schema_texts() -> dict[str, str]:
    """File name -> contents."""
    dialect = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {
        name: json.dumps({**dialect, **msgspec.json.schema(message)}, indent=2, ensure_ascii=False) + "\n"
        for name, message in PUBLISHED.items()
    }


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in schema_texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
