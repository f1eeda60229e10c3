"""Records of workflows that run elsewhere, and the deletion of workflows."""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, Insert, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from openaperture.database import Database
from openaperture.database.errors import Rejected
from openaperture.database.tables import attempts, events, foreign_records, logs, outbox, workflows
from openaperture.domain.errors import BadInput
from openaperture.ports import Fields
from openaperture.stores.moment import Moment, process_time
from openaperture.stores.rows import json_text

_decoder = msgspec.json.Decoder(dict[str, Any])


class SqlForeign:
    """The port ForeignRecords."""

    def __init__(self, database: Database, *, now: Callable[[], datetime] | None = None) -> None:
        """`now` replaces the clock: by default the server's on PostgreSQL, that of this process on SQLite."""
        self._database = database
        self._moment = Moment(process_time if now is None and database.dialect == "sqlite" else now)

    async def find_foreign(self, ids: Collection[str]) -> Mapping[str, Fields]:
        query = select(foreign_records).where(foreign_records.c.workflow_id.in_(list(ids)))
        found = await self._database.read(lambda connection: connection.execute(query).all())
        return {row.workflow_id: {**_decoder.decode(row.document), "updated_at": row.updated_at} for row in found}

    async def put_foreign(self, workflow_id: str, fields: Fields, *, version: int, known: Fields | None) -> bool:
        # Its workflow is locked, whether there is a record or not: who puts, deletes or starts it waits.
        workflow = select(workflows.c.id).where(workflows.c.id == workflow_id, workflows.c.version == version)
        locked = workflow.with_for_update()
        stored = select(foreign_records.c.document).where(foreign_records.c.workflow_id == workflow_id)
        put = self._put(workflow_id, fields)

        def compare_and_set(connection: Connection) -> bool:
            if connection.execute(locked).first() is None:
                return False
            document = connection.scalars(stored).first()
            if (None if document is None else _decoder.decode(document)) != _plain(known):
                return False
            connection.execute(put)
            return True

        try:
            return await self._database.write(compare_and_set)
        except Rejected as exc:
            raise BadInput(f"the record of workflow {workflow_id} is not one that the database can hold") from exc

    def _put(self, workflow_id: str, fields: Fields) -> Insert:
        make = postgresql.insert if self._database.dialect == "postgresql" else sqlite.insert
        values = {"document": json_text(fields), "updated_at": self._moment.now()}
        statement = make(foreign_records).values(workflow_id=workflow_id, **values)
        return statement.on_conflict_do_update(
            index_elements=["workflow_id"], set_={name: statement.excluded[name] for name in values}
        )

    async def delete_workflow(self, workflow_id: str, version: int) -> bool:
        row = delete(workflows).where(workflows.c.id == workflow_id, workflows.c.version == version)

        def delete_all(connection: Connection) -> bool:
            if not connection.execute(row).rowcount:
                return False
            for table in (events, attempts, logs, outbox, foreign_records):
                connection.execute(delete(table).where(table.c.workflow_id == workflow_id))
            return True

        return await self._database.write(delete_all)


def _plain(record: Fields | None) -> Fields | None:
    """Without what is no part of the document."""
    return None if record is None else {name: value for name, value in record.items() if name != "updated_at"}
