"""The document of the API knows every route."""

from openaperture.manager.openapi import ANSWERS
from openaperture.manager.summaries import SUMMARIES
from tests.unit.manager.place import Place
from tests.unit.manager.test_reference import routes


async def test_every_route_has_its_answers_and_its_errors_in_the_document(place: Place) -> None:
    document = (await place.http.get("/openapi.json")).json()
    described = {
        f"{method.upper()} {path}": operation
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert set(described) == set(routes(place)) == set(ANSWERS) == set(SUMMARIES)
    for name, operation in described.items():
        assert operation["summary"] == SUMMARIES[name], name
        assert str(ANSWERS[name][0]) in operation["responses"], name
        assert {"400", "500", "503"} <= set(operation["responses"]), name
    assert document["components"]["schemas"]["CreateBody"]["examples"]
