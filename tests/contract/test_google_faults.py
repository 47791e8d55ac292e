"""What Snapkeep's adapters make of Google's errors, on a gRPC server that answers with the errors it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import grpc  # type: ignore[import-untyped]  # no py.typed
import pytest
from google.api_core import exceptions as errors
from google.cloud.firestore_v1.types import (
    BatchGetDocumentsResponse,
    CommitResponse,
    Document,
    RunQueryResponse,
    WriteResult,
)
from google.pubsub_v1.types import PublishResponse
from tests.contract.conftest import variable

from snapkeep.gcp.firestore import GoogleDocuments
from snapkeep.gcp.pubsub import GoogleBus
from snapkeep.ports import Conflict, Create, Query, Transient

CODE = grpc.StatusCode
PROJECT = "demo-faults"
ROOT = f"projects/{PROJECT}/databases/(default)/documents"
NOW = datetime(2026, 3, 1, tzinfo=UTC)

CALLS_TIMEOUT_S = 1.0
"""In place of half a minute: these tests wait for it to pass."""


def _answer(method: str) -> list[bytes]:
    """What the services say where all is well; those that stream send several."""
    document = Document(name=f"{ROOT}/rows/1", fields={}, create_time=NOW, update_time=NOW)
    match method.rpartition("/")[2]:
        case "Commit":
            return [CommitResponse.serialize(CommitResponse(write_results=[WriteResult()], commit_time=NOW))]
        case "BatchGetDocuments":
            return [BatchGetDocumentsResponse.serialize(BatchGetDocumentsResponse(found=document, read_time=NOW))]
        case "RunQuery":
            return [RunQueryResponse.serialize(RunQueryResponse(document=document, read_time=NOW))] * 2
        case "Publish":
            return [PublishResponse.serialize(PublishResponse(message_ids=["1"]))]
    raise AssertionError(method)


class Service(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc types none
    """Answers each call with the next error it was given; with what is well when there is none left."""

    def __init__(self) -> None:
        self.faults: list[grpc.StatusCode] = []
        self.lasting: grpc.StatusCode | None = None
        self.breaks = 0  # streams to end with UNAVAILABLE after their first answer
        self.calls: list[str] = []

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method: str = details.method

        def fail(context: grpc.ServicerContext) -> None:
            self.calls.append(method.rpartition("/")[2])
            fault = self.lasting or (self.faults.pop(0) if self.faults else None)
            if fault is not None:
                context.abort(fault, "as the test asks")

        def one(_: bytes, context: grpc.ServicerContext) -> bytes:
            fail(context)
            return _answer(method)[0]

        def many(_: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            fail(context)
            for answer in _answer(method):
                yield answer
                if self.breaks:
                    self.breaks -= 1
                    context.abort(CODE.UNAVAILABLE, "broken off")

        if method.endswith(("/BatchGetDocuments", "/RunQuery")):
            return grpc.unary_stream_rpc_method_handler(many)
        return grpc.unary_unary_rpc_method_handler(one)


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    server = grpc.server(ThreadPoolExecutor(4), handlers=[service])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    address = f"127.0.0.1:{port}"
    with variable("FIRESTORE_EMULATOR_HOST", address), variable("PUBSUB_EMULATOR_HOST", address):
        yield service
    server.stop(None).wait()


@pytest.fixture
def documents() -> GoogleDocuments:
    return GoogleDocuments(PROJECT, "(default)", calls_timeout_s=CALLS_TIMEOUT_S)


@pytest.fixture
def bus() -> GoogleBus:
    return GoogleBus(PROJECT, calls_timeout_s=CALLS_TIMEOUT_S)


def commit(documents: GoogleDocuments, _: GoogleBus) -> None:
    documents.commit(Create("rows/1", {"n": 1}))


def get(documents: GoogleDocuments, _: GoogleBus) -> None:
    documents.get("rows/1")


def find(documents: GoogleDocuments, _: GoogleBus) -> None:
    documents.find(Query("rows"))


def publish(_: GoogleDocuments, bus: GoogleBus) -> None:
    bus.publish("snapkeep-create", b"{}")


Call = Callable[[GoogleDocuments, GoogleBus], None]
CALLS = [commit, get, find, publish]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (CODE.UNAVAILABLE, 503),
        (CODE.RESOURCE_EXHAUSTED, 429),
        (CODE.DEADLINE_EXCEEDED, 504),
        (CODE.INTERNAL, 500),
        (CODE.UNKNOWN, 503),
        (CODE.ABORTED, 409),
        (CODE.CANCELLED, 499),
    ],
)
@pytest.mark.parametrize("call", CALLS)
def test_a_fault_that_may_pass_and_lasts_is_transient(
    service: Service, documents: GoogleDocuments, bus: GoogleBus, call: Call, fault: grpc.StatusCode, code: int
) -> None:
    service.lasting = fault
    with pytest.raises(Transient) as raised:
        call(documents, bus)
    assert raised.value.code == code


@pytest.mark.parametrize("call", CALLS)
def test_a_moment_of_unavailability_is_not_noticed(
    service: Service, documents: GoogleDocuments, bus: GoogleBus, call: Call
) -> None:
    service.faults = [CODE.UNAVAILABLE]
    call(documents, bus)
    assert len(service.calls) == 2


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (CODE.PERMISSION_DENIED, errors.PermissionDenied),
        (CODE.INVALID_ARGUMENT, errors.InvalidArgument),
        (CODE.UNAUTHENTICATED, errors.Unauthenticated),
    ],
)
@pytest.mark.parametrize("call", CALLS)
def test_a_mistake_rises_as_it_is_after_one_call(
    service: Service,
    documents: GoogleDocuments,
    bus: GoogleBus,
    call: Call,
    fault: grpc.StatusCode,
    error: type[Exception],
) -> None:
    service.lasting = fault
    with pytest.raises(error):
        call(documents, bus)
    assert len(service.calls) == 1


@pytest.mark.parametrize("fault", [CODE.ALREADY_EXISTS, CODE.FAILED_PRECONDITION, CODE.NOT_FOUND])
def test_a_failed_precondition_of_a_commit_is_a_conflict(
    service: Service, documents: GoogleDocuments, fault: grpc.StatusCode
) -> None:
    service.faults = [fault]
    with pytest.raises(Conflict, match=r"rows/1: as the test asks"):
        documents.commit(Create("rows/1", {"n": 1}))
    assert service.calls == ["Commit"]


def test_a_commit_that_was_sent_again_may_meet_itself(service: Service, documents: GoogleDocuments) -> None:
    service.faults = [CODE.UNAVAILABLE, CODE.ALREADY_EXISTS]
    with pytest.raises(Conflict):
        documents.commit(Create("rows/1", {"n": 1}))
    assert service.calls == ["Commit", "Commit"]


def test_a_missing_index_is_not_taken_for_a_conflict(service: Service, documents: GoogleDocuments) -> None:
    service.lasting = CODE.FAILED_PRECONDITION
    with pytest.raises(errors.FailedPrecondition):
        documents.find(Query("rows", group=True))


def test_a_page_that_breaks_off_is_read_again_from_its_beginning(service: Service, documents: GoogleDocuments) -> None:
    service.breaks = 1
    found = documents.find(Query("rows", limit=2))
    assert [doc.path for doc in found] == ["rows/1", "rows/1"]
    assert service.calls == ["RunQuery", "RunQuery"]


def test_a_read_that_breaks_off_is_made_again(service: Service, documents: GoogleDocuments) -> None:
    service.breaks = 1
    assert [doc and doc.path for doc in documents.get("rows/1")] == ["rows/1"]
    assert service.calls == ["BatchGetDocuments", "BatchGetDocuments"]
