"""The published schemas are those that the program decodes by."""

import pytest
from scripts.schemas import FOLDER, schema_texts


@pytest.mark.parametrize("name", sorted(schema_texts()))
def test_a_published_schema_is_not_stale(name: str) -> None:
    published = (FOLDER / name).read_text(encoding="utf-8")
    assert published == schema_texts()[name], 'run "make schemas"'
