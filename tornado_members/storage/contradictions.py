"""Stored attributes that contradict their declaration, which a service reports when it starts."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from logging import getLogger
from typing import Any, Final

from tornado_members.errors import DependencyUnavailable
from tornado_members.model.attributes import KEY as ATTRIBUTES
from tornado_members.model.fields import FieldTable
from tornado_members.storage.attribute_values import AttributeCodec
from tornado_members.storage.documents import MEMBERS_ONLY
from tornado_members.storage.mongo import Document, Mongo
from tornado_members.storage.operations import translate_outages
from tornado_members.telemetry.logs import fields as log_fields

log = getLogger(__name__)

_BATCH: Final = 100  # members that are checked before requests are served again
_REST: Final = 4  # times the duration of a batch, so that the scan takes 20 % of the time at most
_TIMEOUT_SECONDS: Final = 60


class Contradictions:
    """Counts members whose attributes contradict the declaration."""

    def __init__(self, mongo: Mongo, fields: FieldTable) -> None:
        self.mongo = mongo.with_timeout(_TIMEOUT_SECONDS)
        self._members = self.mongo.database["members"]
        self._attributes = fields.attributes
        self._codec = AttributeCodec(fields.attributes)
        self._required = [attribute.name for attribute in fields.attributes if attribute.required]

    async def report(self) -> None:
        """Log one line per attribute that contradicts its declaration, with the number of members.

        Raises DependencyUnavailable.
        """
        wrong, missing = await self.count()
        for name, count in wrong.items():
            log.warning(
                "attribute %s: the values of %d members contradict its declaration; they are "
                "returned as stored",
                name,
                count,
                extra=log_fields(attribute=name, members=count),
            )
        for name, count in missing.items():
            log.warning(
                "attribute %s: %d members have no value, although it is required",
                name,
                count,
                extra=log_fields(attribute=name, members=count),
            )

    async def count(self) -> tuple[Counter[str], Counter[str]]:
        """Count members with a wrong value, and members without a required value, by attribute."""
        wrong: Counter[str] = Counter()
        missing: Counter[str] = Counter()
        matching: Document = {**MEMBERS_ONLY}
        if not self._required:
            matching[ATTRIBUTES] = {"$type": "object"}
        cursor = self._members.find(matching, {ATTRIBUTES: 1}, batch_size=_BATCH)
        try:
            while batch := await self._read(cursor):
                began = time.monotonic()
                for document in batch:
                    self._check(document, wrong, missing)
                await asyncio.sleep((time.monotonic() - began) * _REST)
        finally:
            await cursor.close()
        return wrong, missing

    def _check(self, document: Document, wrong: Counter[str], missing: Counter[str]) -> None:
        values = self._codec.decode(document.get(ATTRIBUTES))
        for name, value in values.items():
            shown, faults = self._attributes[name].check(value)
            if faults or self._codec.encode({name: shown})[name] != document[ATTRIBUTES][name]:
                wrong[name] += 1
        missing.update(name for name in self._required if name not in values)

    @translate_outages
    async def _read(self, cursor: Any) -> list[Document]:
        return list(await cursor.to_list(_BATCH))


@asynccontextmanager
async def reporting_contradictions(mongo: Mongo, fields: FieldTable) -> AsyncIterator[None]:
    """Report contradictions once, while the service serves."""
    if not fields.attributes:
        yield
        return
    task = asyncio.create_task(_report(Contradictions(mongo, fields)))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _report(contradictions: Contradictions) -> None:
    try:
        await contradictions.report()
    except DependencyUnavailable:
        log.warning("stored attributes were not compared with their declaration: no MongoDB")
    except Exception:
        log.exception("stored attributes could not be compared with their declaration")
