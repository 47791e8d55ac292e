"""One suite for every Documents: the one in memory, and Cloud Firestore on Google's emulator."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from google.api_core.exceptions import InvalidArgument
from tests.contract.losses import ALWAYS, Losses

from snapkeep.ports import (
    SERVER_TIME,
    WRITES_PER_COMMIT_MAX,
    Conflict,
    Create,
    Doc,
    Documents,
    Operator,
    Query,
    Replace,
    Transient,
    Write,
)

NOW = datetime(2026, 3, 1, 5, 30, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(days=1)


def read(documents: Documents, path: str) -> Doc:
    (doc,) = documents.get(path)
    assert doc is not None, path
    return doc


def paths(docs: list[Doc]) -> list[str]:
    return [doc.path for doc in docs]


def pages(documents: Documents, query: Query) -> list[list[str]]:
    """Every page of a query, up to the first empty one."""
    found: list[list[str]] = []
    page = documents.find(query)
    while page:
        found.append(paths(page))
        page = documents.find(
            Query(query.collection, query.group, query.where, query.order, query.limit, after=page[-1])
        )
    return found


# --- reading one by one ------------------------------------------------------------------------------------------


def test_reads_in_the_order_asked_for_with_none_for_what_is_missing(documents: Documents) -> None:
    documents.commit(Create("tenants/a", {"n": 1}), Create("tenants/b", {"n": 2}))
    docs = documents.get("tenants/b", "tenants/missing", "tenants/a", "tenants/b")
    assert [doc and (doc.path, doc.data["n"]) for doc in docs] == [
        ("tenants/b", 2),
        None,
        ("tenants/a", 1),
        ("tenants/b", 2),
    ]


def test_reads_nothing_when_nothing_is_asked_for(documents: Documents) -> None:
    assert documents.get() == []


# --- preconditions -----------------------------------------------------------------------------------------------


def test_creating_what_exists_is_a_conflict_and_changes_nothing(documents: Documents) -> None:
    documents.commit(Create("tenants/a", {"n": 1}))
    with pytest.raises(Conflict):
        documents.commit(Create("tenants/a", {"n": 2}))
    assert read(documents, "tenants/a").data == {"n": 1}


def test_replaces_the_state_that_was_seen(documents: Documents) -> None:
    documents.commit(Create("tenants/a", {"n": 1}))
    seen = read(documents, "tenants/a")
    documents.commit(Replace("tenants/a", {"n": 2}, seen.version))
    assert read(documents, "tenants/a").data == {"n": 2}


def test_replacing_what_changed_in_between_is_a_conflict(documents: Documents) -> None:
    documents.commit(Create("tenants/a", {"n": 1}))
    mine, theirs = read(documents, "tenants/a"), read(documents, "tenants/a")
    documents.commit(Replace("tenants/a", {"n": 2}, theirs.version))
    with pytest.raises(Conflict):
        documents.commit(Replace("tenants/a", {"n": 3}, mine.version))
    assert read(documents, "tenants/a").data == {"n": 2}


def test_replacing_what_is_missing_is_a_conflict(documents: Documents) -> None:
    documents.commit(Create("tenants/a", {"n": 1}))
    version = read(documents, "tenants/a").version
    with pytest.raises(Conflict):
        documents.commit(Replace("tenants/missing", {"n": 2}, version))
    assert documents.get("tenants/missing") == [None]


def test_a_version_found_by_a_query_serves_like_one_that_was_read(documents: Documents) -> None:
    documents.commit(Create("tenants/a", {"n": 1}))
    (seen,) = documents.find(Query("tenants"))
    documents.commit(Replace("tenants/a", {"n": 2}, seen.version))
    with pytest.raises(Conflict):
        documents.commit(Replace("tenants/a", {"n": 3}, seen.version))


def test_a_replace_that_changes_nothing_leaves_the_version_as_it_was(documents: Documents) -> None:
    documents.commit(Create("tenants/a", {"n": 1, "m": {"x": 1, "y": 2}}))
    seen = read(documents, "tenants/a")
    documents.commit(Replace("tenants/a", {"m": {"y": 2, "x": 1}, "n": 1}, seen.version))
    documents.commit(Replace("tenants/a", {"n": 2}, seen.version))
    assert read(documents, "tenants/a").data == {"n": 2}


def test_a_replace_writes_the_whole_document(documents: Documents) -> None:
    documents.commit(Create("tenants/a", {"kept": 1, "gone": 2, "gone.too": 3, "map": {"x": 1, "y": {"z": 2}}}))
    seen = read(documents, "tenants/a")
    documents.commit(Replace("tenants/a", {"kept": 1, "new": None, "map": {"y": {}}}, seen.version))
    assert read(documents, "tenants/a").data == {"kept": 1, "new": None, "map": {"y": {}}}


# --- all or none -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [False, True])
def test_one_conflict_keeps_the_whole_commit_from_being_written(documents: Documents, last: bool) -> None:
    documents.commit(Create("tenants/a", {"n": 1}), Create("tenants/b", {"n": 1}))
    seen = read(documents, "tenants/a")
    good: list[Write] = [Replace("tenants/a", {"n": 2}, seen.version), Create("tenants/a/audit/1", {"n": 1})]
    bad = Create("tenants/b", {"n": 2})
    with pytest.raises(Conflict):
        documents.commit(*([*good, bad] if last else [bad, *good]))
    assert read(documents, "tenants/a").data == {"n": 1}
    assert documents.get("tenants/a/audit/1") == [None]
    documents.commit(*good)
    assert read(documents, "tenants/a").data == {"n": 2}


def test_a_commit_takes_as_many_writes_as_are_promised_and_no_more(documents: Documents) -> None:
    writes = [Create(f"many/{number:03}", {"n": number}) for number in range(WRITES_PER_COMMIT_MAX + 1)]
    with pytest.raises(ValueError, match="401 writes in a commit"):
        documents.commit(*writes)
    documents.commit(*writes[:-1])
    assert len(documents.find(Query("many", limit=1000))) == WRITES_PER_COMMIT_MAX
    with pytest.raises(ValueError, match="0 writes in a commit"):
        documents.commit()


def test_a_commit_writes_no_document_twice(documents: Documents) -> None:
    with pytest.raises(ValueError, match="the same document twice"):
        documents.commit(Create("tenants/a", {"n": 1}), Create("tenants/a", {"n": 2}))
    assert documents.get("tenants/a") == [None]


# --- what is lost on the way --------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, ALWAYS])
def test_a_commit_whose_answer_is_lost_is_written_and_is_a_conflict_when_it_is_made_again(
    lossy_documents: Documents, losses: Losses, times: float
) -> None:
    claim = (Create("tenants/a/points/1", {"by": "me"}), Create("tenants/a/inbox/1", {"of": "1"}))
    losses.answers = times
    with pytest.raises((Conflict, Transient)):
        lossy_documents.commit(*claim)
    losses.answers = 0
    with pytest.raises(Conflict):
        lossy_documents.commit(*claim)
    written = [doc and doc.data for doc in lossy_documents.get("tenants/a/points/1", "tenants/a/inbox/1")]
    assert written == [{"by": "me"}, {"of": "1"}], "re-read, it tells whose it is"


@pytest.mark.parametrize("times", [1, ALWAYS])
def test_a_replace_whose_answer_is_lost_is_written_once(
    lossy_documents: Documents, losses: Losses, times: float
) -> None:
    lossy_documents.commit(Create("tenants/a", {"n": 1}))
    step = Replace("tenants/a", {"n": 2, "updated_at": SERVER_TIME}, read(lossy_documents, "tenants/a").version)
    losses.answers = times
    with pytest.raises((Conflict, Transient)):
        lossy_documents.commit(step)
    losses.answers = 0
    written = read(lossy_documents, "tenants/a")
    assert written.data["n"] == 2
    with pytest.raises(Conflict):
        lossy_documents.commit(step)
    assert read(lossy_documents, "tenants/a") == written


def test_a_conflict_whose_answer_is_lost_changes_nothing(lossy_documents: Documents, losses: Losses) -> None:
    lossy_documents.commit(Create("tenants/a", {"n": 1}))
    losses.answers = ALWAYS
    with pytest.raises((Conflict, Transient)):
        lossy_documents.commit(Create("tenants/a", {"n": 2}), Create("tenants/b", {"n": 2}))
    losses.answers = 0
    assert [doc and doc.data for doc in lossy_documents.get("tenants/a", "tenants/b")] == [{"n": 1}, None]


def test_a_commit_that_is_lost_on_its_way_is_transient_and_nothing_is_written(
    lossy_documents: Documents, losses: Losses
) -> None:
    claim = (Create("tenants/a", {"n": 1}), Create("tenants/b", {"n": 1}))
    losses.calls = ALWAYS
    with pytest.raises(Transient):
        lossy_documents.commit(*claim)
    losses.calls = 0
    assert lossy_documents.get("tenants/a", "tenants/b") == [None, None]
    lossy_documents.commit(*claim)


@pytest.mark.parametrize("lost", ["calls", "answers"])
def test_a_read_that_is_lost_is_transient(lossy_documents: Documents, losses: Losses, lost: str) -> None:
    lossy_documents.commit(Create("tenants/a", {"n": 1}))
    setattr(losses, lost, ALWAYS)
    with pytest.raises(Transient):
        lossy_documents.get("tenants/a")
    with pytest.raises(Transient):
        lossy_documents.find(Query("tenants"))
    setattr(losses, lost, 0)
    assert paths(lossy_documents.find(Query("tenants"))) == ["tenants/a"]


# --- the database's time -----------------------------------------------------------------------------------------


def test_one_commit_has_one_time_of_the_database(documents: Documents) -> None:
    documents.commit(
        Create("tenants/a/inbox/1", {"committed_at": SERVER_TIME, "also": SERVER_TIME}),
        Create("tenants/a/inbox/2", {"committed_at": SERVER_TIME}),
    )
    one, two = documents.find(Query("tenants/a/inbox"))
    assert one.data["committed_at"] == one.data["also"] == two.data["committed_at"]
    assert type(one.data["committed_at"]) is datetime
    assert one.data["committed_at"].tzinfo is UTC


def test_the_databases_time_never_goes_back(documents: Documents) -> None:
    for number in range(10):
        documents.commit(Create(f"inbox/{number}", {"committed_at": SERVER_TIME}))
    times = [read(documents, f"inbox/{number}").data["committed_at"] for number in range(10)]
    assert times == sorted(times)
    assert times[0] < times[-1]


def test_a_replace_takes_the_databases_time_too(documents: Documents) -> None:
    documents.commit(Create("tenants/a", {"at": NOW, "n": 1}))
    seen = read(documents, "tenants/a")
    documents.commit(Replace("tenants/a", {"at": SERVER_TIME, "n": 1}, seen.version))
    documents.commit(Create("tenants/b", {"at": SERVER_TIME}))
    first, second = read(documents, "tenants/a"), read(documents, "tenants/b")
    assert first.data["at"] != NOW
    assert first.data["at"] <= second.data["at"]
    assert first.data["n"] == 1


# --- values ------------------------------------------------------------------------------------------------------

EXACT: dict[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    "zero": 0,
    "int64 greatest": 2**63 - 1,
    "int64 least": -(2**63),
    "beyond what a float holds": 2**53 + 1,
    "float": 0.1,
    "whole float": 1.0,
    "infinity": float("inf"),
    "empty": "",
    "unicode": "São Paulo \U0001f4be e\u0301 \u0000 \u202e",
    "bytes": bytes(range(256)),
    "no bytes": b"",
    "time": NOW,
    "early": datetime(1, 1, 1, tzinfo=UTC),
    "late": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    "list": [1, None, "x", {"in": [b"y", {"deeper": [NOW]}]}],
    "no list": [],
    "no map": {},
    "maps": {"a": {"b": {"c": {}}}, "n": None},
    "keys": {"us-east1": 1, "a.b": {"c.d": 2}, "`": 3, "\\": 4, "a/b": 5, "é ü": 6, "1": 7, "*~[]": 8, "-": {"..": 9}},
}


@pytest.mark.parametrize("value", [pytest.param(value, id=name) for name, value in EXACT.items()])
def test_a_value_comes_back_exactly(documents: Documents, value: Any) -> None:
    documents.commit(Create("values/1", {"value": value}))
    created = read(documents, "values/1")
    assert created.data == {"value": value}
    documents.commit(Replace("values/1", {"value": [{"it": value}], "n": 1}, created.version))
    replaced = read(documents, "values/1")
    assert replaced.data == {"value": [{"it": value}], "n": 1}
    assert same_types(replaced.data, {"value": [{"it": value}], "n": 1})
    documents.commit(Replace("values/1", {"value": value}, replaced.version))
    (found,) = documents.find(Query("values"))
    assert same_types(found.data, {"value": value})
    assert found.data == {"value": value}


def same_types(found: Any, expected: Any) -> bool:
    """Exactly the same types all the way down: no float for an integer, no subclass of datetime."""
    if type(found) is not type(expected):
        return False
    if isinstance(found, dict):
        return all(same_types(found[name], expected[name]) for name in expected)
    if isinstance(found, list):
        return all(map(same_types, found, expected))
    return not isinstance(found, datetime) or found.tzinfo is UTC


@pytest.mark.parametrize("name", ["a.b", "`", "\\", "a`.`b", "é", "a b", "1a", "a/b", "*~[]", "us-east1"])
def test_a_field_of_any_name_is_written_found_and_replaced(documents: Documents, name: str) -> None:
    documents.commit(Create("odd/1", {name: 1, "other": 1}), Create("odd/2", {name: 2}))
    query = Query("odd", where=((name, ">=", 1),), order=((name, "desc"),), limit=1)
    assert pages(documents, query) == [["odd/2"], ["odd/1"]]
    first = read(documents, "odd/1")
    assert first.data == {name: 1, "other": 1}
    documents.commit(Replace("odd/1", {name: {name: 3}, "at": SERVER_TIME}, first.version))
    second = read(documents, "odd/1")
    assert second.data == {name: {name: 3}, "at": second.data["at"]}
    documents.commit(Replace("odd/1", {"other": 2}, second.version))
    assert read(documents, "odd/1").data == {"other": 2}


def test_a_time_of_another_zone_comes_back_in_utc(documents: Documents) -> None:
    documents.commit(Create("values/1", {"at": NOW.astimezone(timezone(timedelta(hours=-3)))}))
    at = read(documents, "values/1").data["at"]
    assert at == NOW
    assert at.tzinfo is UTC


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"a": [[1]]}, id="list in list"),
        pytest.param({"a": 2**63}, id="too large an integer"),
        pytest.param({"a": {"__b__": 1}}, id="reserved key"),
        pytest.param({"": 1}, id="empty name"),
        pytest.param({"a": {"": 1}}, id="empty key"),
        pytest.param({"a": object()}, id="no value"),
        pytest.param({"a": "x" * 1_048_576}, id="too large a document"),
        pytest.param({"a": "\ud800"}, id="half a character"),
    ],
)
def test_what_cannot_be_kept_exactly_is_refused(documents: Documents, data: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError, InvalidArgument)):
        documents.commit(Create("values/good", {"n": 1}), Create("values/bad", data))
    assert documents.get("values/good", "values/bad") == [None, None]


@pytest.mark.parametrize("path", ["a", "a/b/c", "a//b", "/a/b", "a/.", "a/..", "a/__b__"])
def test_a_path_that_is_no_document_is_refused(documents: Documents, path: str) -> None:
    with pytest.raises((ValueError, InvalidArgument)):
        documents.commit(Create(path, {"n": 1}))


# --- queries -----------------------------------------------------------------------------------------------------


def test_finds_nothing_where_nothing_is(documents: Documents) -> None:
    assert documents.find(Query("tenants")) == []
    assert documents.find(Query("points", group=True, where=(("next_at", "<=", NOW),))) == []


def test_a_collection_holds_its_own_documents_only(documents: Documents) -> None:
    documents.commit(
        Create("tenants/a", {"n": 1}),
        Create("tenants/a/points/1", {"n": 1}),
        Create("tenants/a/points/1/notes/1", {"n": 1}),
        Create("tenants/b/points/2", {"n": 1}),
        Create("points/3", {"n": 1}),
    )
    assert paths(documents.find(Query("tenants"))) == ["tenants/a"]
    assert paths(documents.find(Query("tenants/a/points"))) == ["tenants/a/points/1"]
    assert paths(documents.find(Query("points"))) == ["points/3"]


def test_a_collection_group_holds_every_collection_of_that_name(documents: Documents) -> None:
    documents.commit(
        Create("tenants/b/points/1", {"n": 1}),
        Create("tenants/a/points/2", {"n": 1}),
        Create("tenants/a/pointsmen/3", {"n": 1}),
        Create("points/4", {"n": 1}),
    )
    found = documents.find(Query("points", group=True, where=(("n", "==", 1),)))
    assert paths(found) == ["points/4", "tenants/a/points/2", "tenants/b/points/1"]


def test_without_an_order_documents_come_by_path_part_by_part(documents: Documents) -> None:
    ids = ["b", "a", "a-", "a ", "B", "é", "10", "9", "z\U0001f4be", "z\uffff"]
    documents.commit(*(Create(f"t/{number}/points/{number}", {"n": 1}) for number in ids))
    expected = [f"t/{number}/points/{number}" for number in sorted(ids)]
    assert paths(documents.find(Query("points", group=True))) == expected
    assert pages(documents, Query("points", group=True, limit=3)) == [expected[at : at + 3] for at in (0, 3, 6, 9)]


@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_pages_across_ties_miss_nothing_and_repeat_nothing(documents: Documents, limit: int, group: bool) -> None:
    times = [NOW, NOW, NOW, LATER, LATER, NOW, NOW]
    documents.commit(*(Create(f"t/a/points/{number}", {"at": at}) for number, at in enumerate(times)))
    collection = "points" if group else "t/a/points"
    expected = [f"t/a/points/{number}" for number in (0, 1, 2, 5, 6, 3, 4)]
    up = pages(documents, Query(collection, group, order=(("at", "asc"),), limit=limit))
    assert [path for page in up for path in page] == expected
    assert {len(page) for page in up[:-1]} <= {limit}
    down = pages(documents, Query(collection, group, order=(("at", "desc"),), limit=limit))
    assert [path for page in down for path in page] == expected[::-1]


def test_pages_go_on_after_a_document_that_has_changed_since(documents: Documents) -> None:
    documents.commit(*(Create(f"points/{number}", {"next_at": NOW + timedelta(number)}) for number in range(4)))
    query = Query("points", where=(("next_at", "<=", LATER + timedelta(9)),), order=(("next_at", "asc"),), limit=2)
    first = documents.find(query)
    documents.commit(Replace(first[-1].path, {"next_at": None}, first[-1].version))
    second = documents.find(Query(query.collection, query.group, query.where, query.order, query.limit, first[-1]))
    assert paths(second) == ["points/2", "points/3"]


def test_a_mixed_order_falls_field_by_field_and_ties_in_the_last_direction(documents: Documents) -> None:
    rows = {"1": ("a", 1), "2": ("a", 2), "3": ("b", 1), "4": ("b", 2), "5": ("b", 2)}
    documents.commit(*(Create(f"rows/{name}", {"s": s, "n": n}) for name, (s, n) in rows.items()))
    query = Query("rows", order=(("s", "asc"), ("n", "desc")), limit=2)
    assert pages(documents, query) == [["rows/2", "rows/1"], ["rows/5", "rows/4"], ["rows/3"]]
    query = Query("rows", order=(("s", "desc"), ("n", "asc")), limit=2)
    assert pages(documents, query) == [["rows/3", "rows/4"], ["rows/5", "rows/1"], ["rows/2"]]


def test_due_work_is_found_and_ended_work_is_not(documents: Documents) -> None:
    documents.commit(
        Create("t/a/points/due", {"next_at": NOW - timedelta(microseconds=1)}),
        Create("t/b/points/now", {"next_at": NOW}),
        Create("t/a/points/later", {"next_at": NOW + timedelta(microseconds=1)}),
        Create("t/a/points/ended", {"next_at": None}),
        Create("t/a/points/without", {"state": "verified"}),
    )
    query = Query("points", True, where=(("next_at", "<=", NOW),), order=(("next_at", "asc"),), limit=200)
    assert paths(documents.find(query)) == ["t/a/points/due", "t/b/points/now"]


def test_null_equals_null_and_not_what_is_missing(documents: Documents) -> None:
    documents.commit(
        Create("rows/null", {"lost_at": None}),
        Create("rows/set", {"lost_at": NOW}),
        Create("rows/missing", {"n": 1}),
        Create("rows/empty", {"lost_at": ""}),
        Create("rows/zero", {"lost_at": 0}),
        Create("rows/false", {"lost_at": False}),
    )
    assert paths(documents.find(Query("rows", where=(("lost_at", "==", None),)))) == ["rows/null"]


def test_ordering_by_a_field_leaves_out_documents_without_it_and_puts_null_first(documents: Documents) -> None:
    documents.commit(
        Create("rows/1", {"at": NOW}),
        Create("rows/2", {"at": None}),
        Create("rows/3", {"n": 1}),
        Create("rows/4", {"at": 5}),
    )
    assert paths(documents.find(Query("rows", order=(("at", "asc"),)))) == ["rows/2", "rows/4", "rows/1"]
    assert paths(documents.find(Query("rows", order=(("at", "desc"),)))) == ["rows/1", "rows/4", "rows/2"]
    assert pages(documents, Query("rows", order=(("at", "asc"),), limit=1)) == [["rows/2"], ["rows/4"], ["rows/1"]]
    assert pages(documents, Query("rows", order=(("at", "desc"),), limit=1)) == [["rows/1"], ["rows/4"], ["rows/2"]]


def test_values_of_every_type_fall_in_one_order(documents: Documents) -> None:
    falling: list[Any] = [
        None,
        False,
        True,
        float("-inf"),
        -(2**63),
        -1.5,
        0,
        0.5,
        2**53,
        2**53 + 1,
        2**63 - 1,
        float("inf"),
        NOW,
        LATER,
        "",
        "A",
        "a",
        "a\u0000",
        "aa",
        "é",
        "\uffff",
        "\U0001f4be",
        b"",
        b"\x00",
        b"\xff",
        [],
        [1],
        [1, "a"],
        [2],
        {},
        {"a": 1},
        {"a": 1, "b": 0},
        {"a": 2},
        {"b": 0},
    ]
    documents.commit(*(Create(f"rows/{99 - place}", {"v": value}) for place, value in enumerate(falling)))
    found = documents.find(Query("rows", order=(("v", "asc"),)))
    assert [doc.data["v"] for doc in found] == falling
    assert [doc.data["v"] for doc in documents.find(Query("rows", order=(("v", "desc"),)))] == falling[::-1]
    for value in falling:
        found = documents.find(Query("rows", where=(("v", "==", value),)))
        assert [doc.data["v"] for doc in found] == [value]


@pytest.mark.parametrize(
    ("operator", "expected"), [("<", ["1"]), ("<=", ["1", "2"]), (">", ["4"]), (">=", ["2", "4"]), ("==", ["2"])]
)
@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_an_inequality_finds_values_of_its_own_type_only(
    documents: Documents, operator: Operator, expected: list[str], direction: Any
) -> None:
    values = {"1": "a", "2": "b", "4": "c", "number": 1, "null": None, "time": NOW, "true": True, "list": ["b"]}
    documents.commit(*(Create(f"rows/{name}", {"v": value}) for name, value in values.items()))
    found = documents.find(Query("rows", where=(("v", operator, "b"),), order=(("v", direction),)))
    assert paths(found) == [f"rows/{name}" for name in (expected if direction == "asc" else expected[::-1])]


def test_an_inequality_without_an_order_orders_by_its_field(documents: Documents) -> None:
    documents.commit(*(Create(f"rows/{number}", {"n": 9 - number}) for number in range(5)))
    query = Query("rows", where=(("n", ">", 5), ("n", "<=", 8)), limit=2)
    assert pages(documents, query) == [["rows/3", "rows/2"], ["rows/1"]]


def test_equalities_an_inequality_and_an_order_hold_together(documents: Documents) -> None:
    for number in range(12):
        state = "verified" if number % 2 else "failed"
        usable = number % 3 != 0
        data = {"state": state, "usable": usable, "verified_at": NOW + timedelta(days=number % 5)}
        documents.commit(Create(f"t/a/points/{number:02}", data), Create(f"t/b/points/{number:02}", data))
    query = Query(
        "t/a/points",
        where=(("state", "==", "verified"), ("usable", "==", True), ("verified_at", ">=", NOW + timedelta(days=1))),
        order=(("verified_at", "desc"),),
        limit=2,
    )
    assert pages(documents, query) == [["t/a/points/07", "t/a/points/11"], ["t/a/points/01"]]


def test_inequalities_of_two_fields_hold_together(documents: Documents) -> None:
    for number in range(9):
        documents.commit(Create(f"rows/{number}", {"a": number % 3, "b": number // 3}))
    query = Query("rows", where=(("a", ">=", 1), ("b", "<", 2)), order=(("b", "desc"),), limit=3)
    assert pages(documents, query) == [["rows/5", "rows/4", "rows/2"], ["rows/1"]]


def test_a_changed_document_is_found_where_it_now_belongs(documents: Documents) -> None:
    documents.commit(Create("rows/1", {"state": "requested", "next_at": NOW}), Create("rows/2", {"state": "verified"}))
    due = Query("rows", where=(("next_at", "<=", LATER),), order=(("next_at", "asc"),))
    verified = Query("rows", where=(("state", "==", "verified"),))
    assert (paths(documents.find(due)), paths(documents.find(verified))) == (["rows/1"], ["rows/2"])
    documents.commit(Replace("rows/1", {"state": "verified", "next_at": None}, read(documents, "rows/1").version))
    assert (paths(documents.find(due)), paths(documents.find(verified))) == ([], ["rows/1", "rows/2"])
    documents.commit(Replace("rows/2", {"state": "requested", "next_at": NOW}, read(documents, "rows/2").version))
    assert (paths(documents.find(due)), paths(documents.find(verified))) == (["rows/2"], ["rows/1"])
