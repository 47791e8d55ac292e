"""The indexes that are declared serve each query as the adapter sends it, and no index serves none.

What a query needs is worked out here from its wire form by Firestore's rules, not by the code that declares.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from google.cloud.firestore_v1.types import StructuredQuery

from snapkeep import documents as d
from snapkeep.gcp.firestore import GoogleDocuments
from snapkeep.indexes import COLLECTIONS, EVERY_FIELD, Composite, Field, composites, fields, page
from snapkeep.store import QUERIES, query

ROOT: Final = Path(__file__).parents[2]
AUTOMATIC: Final = (("ASCENDING", "COLLECTION"), ("DESCENDING", "COLLECTION"))
CONFIGURED_MAX: Final = 200  # of composite indexes, and of fields, without billing: Firestore's tighter limit
NOW: Final = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def sent() -> dict[str, StructuredQuery]:
    """Every query as it goes over the wire; nothing is called."""
    with pytest.MonkeyPatch.context() as patch:  # the client asks for credentials unless an emulator is named
        patch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")
        documents = GoogleDocuments("project", "(default)")
        return {
            name: documents._build(query(name, *(NOW for _ in shape.where)))._to_protobuf()
            for name, shape in QUERIES.items()
        }


def served(wire: StructuredQuery, composite: tuple[Composite, ...], single: tuple[Field, ...]) -> bool:
    """Whether Firestore has an index for the query."""
    (source,) = wire.from_
    scope = "COLLECTION_GROUP" if source.all_descendants else "COLLECTION"
    *sort, (last, name_order) = [(order.field.field_path, order.direction.name) for order in wire.order_by]
    assert last == "__name__", "every query says how ties are sorted"
    equal = {one.field.field_path for one in _filters(wire) if one.op.name == "EQUAL"}
    bounded = {one.field.field_path for one in _filters(wire) if one.op.name != "EQUAL"}
    assert bounded <= {name for name, _ in sort}, "what is bounded is sorted by"
    assert not sort or sort[-1][1] == name_order, "an index ends in __name__ in its last field's direction"
    if not sort:
        return all((name_order, scope) in _effective(single, source.collection_id, name) for name in equal)
    if not equal and len(sort) == 1:
        return (sort[0][1], scope) in _effective(single, source.collection_id, sort[0][0])
    return any(
        (index.collection, index.scope) == (source.collection_id, scope)
        and {name for name, _ in index.fields[: len(equal)]} == equal
        and list(index.fields[len(equal) :]) == sort
        for index in composite
    )


def _filters(wire: StructuredQuery) -> list[Any]:
    """The comparisons of a query: none, one, or all of several."""
    where = wire.where
    if "composite_filter" in where:
        assert where.composite_filter.op.name == "AND"
        return [one.field_filter for one in where.composite_filter.filters]
    return [where.field_filter] if where else []


def _effective(single: tuple[Field, ...], collection: str, name: str) -> tuple[tuple[str, str], ...]:
    """The single-field indexes of a field: its own configuration, else its collection's, else the automatic ones."""
    own = {one.field: one.indexes for one in single if one.collection == collection}
    return own.get(name, own.get(EVERY_FIELD, AUTOMATIC))


def unserved(sent: dict[str, StructuredQuery], composite: tuple[Composite, ...], single: tuple[Field, ...]) -> set[str]:
    return {name for name, wire in sent.items() if not served(wire, composite, single)}


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_has_its_index(name: str, sent: dict[str, StructuredQuery]) -> None:
    assert served(sent[name], composites(), fields())


@pytest.mark.parametrize("index", composites(), ids=str)
def test_a_composite_index_serves_some_query_that_nothing_else_serves(
    index: Composite, sent: dict[str, StructuredQuery]
) -> None:
    assert unserved(sent, tuple(one for one in composites() if one != index), fields())


@pytest.mark.parametrize(("field", "index"), [(field, index) for field in fields() for index in field.indexes], ids=str)
def test_a_single_field_index_serves_some_query_that_nothing_else_serves(
    field: Field, index: Any, sent: dict[str, StructuredQuery]
) -> None:
    less = replace(field, indexes=tuple(one for one in field.indexes if one != index))
    assert unserved(sent, composites(), tuple(less if one == field else one for one in fields()))


def test_without_what_is_declared_the_automatic_indexes_serve_no_group_and_no_two_fields(
    sent: dict[str, StructuredQuery],
) -> None:
    two_fields = {"health_changed", "rejected", "rejected_newest", "points_in_state", "instance_points"}
    assert unserved(sent, (), ()) == {name for name, shape in QUERIES.items() if shape.group} | two_fields | {
        "tenant_points_in_state",
        "unnumbered",
    }


def test_a_field_of_its_own_configuration_is_indexed_or_deleted_by() -> None:
    idle = [field for field in fields() if field.field != EVERY_FIELD and not field.indexes and not field.ttl]
    assert idle == []


def test_what_is_indexed_are_top_level_fields_of_what_the_collection_holds() -> None:
    named = {(field.collection, field.field) for field in fields() if field.field != EVERY_FIELD}
    named |= {(index.collection, name) for index in composites() for name, _ in index.fields}
    known = {(name, one) for name, kinds in COLLECTIONS.items() for kind in kinds for one in kind.__struct_fields__}
    assert named - known == set()


def test_no_collection_is_indexed_as_a_whole_and_every_kind_of_document_has_one() -> None:
    assert {field.collection for field in fields() if field.field == EVERY_FIELD} == set(COLLECTIONS)
    assert all(not field.indexes for field in fields() if field.field == EVERY_FIELD)
    assert {kind for kinds in COLLECTIONS.values() for kind in kinds} == set(d.Stored.__subclasses__())
    for collection, kinds in COLLECTIONS.items():
        for kind in kinds:
            path = re.match(r"`([^`]+)`", kind.__doc__ or "")
            assert path, f"the docstring of {kind.__name__} begins with its path"
            assert path[1].split("/")[-2] == collection


def test_nothing_of_what_a_person_supplied_is_in_an_index() -> None:
    assert [field for field in fields() if field.collection == "supplied" and field.indexes] == []
    assert [index for index in composites() if index.collection == "supplied"] == []


def test_documents_that_expire_are_deleted_by_firestore() -> None:
    assert {field.collection for field in fields() if field.ttl} == {"inbox", "rejected", "requests", "supplied"}


def test_there_is_room_below_firestores_limits() -> None:
    assert len(composites()) < CONFIGURED_MAX
    assert len(fields()) < CONFIGURED_MAX


def test_the_file_that_is_deployed_is_what_would_be_written() -> None:
    written = (ROOT / "infra" / "firestore.yaml").read_text(encoding="utf-8")
    assert written == page(), "infra/firestore.yaml is not what indexes.py says: make generate"
    parsed = yaml.safe_load(written)
    assert len(parsed["composites"]) == len(composites())
    assert [(one["collection"], one["field"], one["ttl"]) for one in parsed["fields"]] == [
        (field.collection, field.field, field.ttl) for field in fields()
    ]
