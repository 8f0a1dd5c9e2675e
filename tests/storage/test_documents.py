"""MemberCodec: every way of decoding a document returns the same member."""

from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId
from hypothesis import given
from hypothesis import strategies as st

from tests.storage.conftest import EITHER_DRIVER
from tornado_members.model.attributes import Attribute
from tornado_members.model.member import MEMBER_FIELDS
from tornado_members.storage.documents import MemberCodec

pytestmark = EITHER_DRIVER

ATTRIBUTES = (
    Attribute(name="level", type="integer"),
    Attribute(name="joined", type="date"),
    Attribute(name="tags", type="string", is_list=True),
)
values = st.one_of(
    st.none(),
    st.text(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 3).map(Int64),
    st.floats(),
    st.sampled_from([Decimal128("1"), ObjectId(), b"x", datetime(2026, 1, 2, tzinfo=UTC)]),
    st.lists(st.text(), max_size=2),
)
documents = st.fixed_dictionaries(
    {"_id": st.one_of(st.integers(1, 9), values)},
    optional={
        "name": st.one_of(st.text(), values),
        "email": values,
        "phone": values,
        "version": values,
        "updatedAt": values,
        "attributes": st.one_of(
            values, st.dictionaries(st.sampled_from(["level", "joined", "tags", "x"]), values)
        ),
    },
)


@pytest.mark.parametrize("attributes", [(), ATTRIBUTES], ids=["plain", "attributes"])
def test_json_of_a_document_is_that_of_its_member(attributes: tuple[Attribute, ...]) -> None:
    codec = MemberCodec(MEMBER_FIELDS.with_attributes(attributes))

    @given(documents)
    def compare(document: dict[str, Any]) -> None:
        member = codec.decode(document)
        if member is not None:
            assert codec.to_json(document) == member.to_json()

    compare()
