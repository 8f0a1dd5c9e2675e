"""PageEncoder: a page that is encoded as a whole has the bytes of its members."""

from typing import Any

from bson import Int64
from hypothesis import example, given
from hypothesis import strategies as st

from tests.storage.conftest import EITHER_DRIVER
from tests.storage.test_documents import values
from tornado_members.storage.documents import MemberCodec, is_member
from tornado_members.storage.page_json import PageEncoder

pytestmark = EITHER_DRIVER

LIKE_JSON = ['"},{"_id":1,"name":"', ',{"_id":', '\\"},{"_id":', "},{", '{"memberId":2}\n']
texts = st.one_of(st.text(), st.sampled_from(LIKE_JSON))
optional = st.none() | texts
usual = st.tuples(st.integers(1, 2**53 - 1).map(Int64), texts, optional, optional).map(
    lambda values: dict(zip(("_id", "name", "email", "phone"), values, strict=True))
)
# One value, or the order of the fields, is not as the service writes it.
unusual = st.tuples(usual, st.sampled_from(["_id", "name", "email", "phone"]), values).map(
    lambda drawn: {**drawn[0], drawn[1]: drawn[2]}
) | usual.map(lambda document: dict(reversed(document.items())))
LARGEST = {"_id": 2**53, "name": "Ada", "email": None, "phone": None}  # not a member


@given(st.lists(usual | unusual, max_size=4), st.sampled_from([b",", b"\n"]))
@example([LARGEST], b",")
def test_page_has_the_bytes_of_its_members(
    documents: list[dict[str, Any]], separator: bytes
) -> None:
    codec = MemberCodec()
    page = PageEncoder(codec).encode_at_once(documents, separator)
    if page is not None:
        assert all(map(is_member, documents))
        assert page == separator.join(map(codec.to_json, documents))


@given(st.lists(usual, min_size=1))
def test_usual_documents_are_encoded_as_a_whole(documents: list[dict[str, Any]]) -> None:
    assert PageEncoder(MemberCodec()).encode_at_once(documents, b",") is not None
