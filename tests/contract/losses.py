"""Calls and answers that get lost between a port and what is behind it, in memory as on the wire to an emulator."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc  # type: ignore[import-untyped]  # no py.typed

from snapkeep.ports import Bus, Doc, Documents, Query, Transient, Write

ALWAYS: Final = math.inf
LOST: Final = ("Commit", "BatchGetDocuments", "RunQuery", "Publish")
"""What the ports call; what the tests themselves set up is never lost."""

STREAMS: Final = ("BatchGetDocuments", "RunQuery")
THREADS: Final = 8


@dataclass
class Losses:
    """How many calls get lost before they arrive, and how many answers on their way back, from now on."""

    calls: float = 0
    answers: float = 0

    def lose_call(self) -> bool:
        lost = self.calls > 0
        self.calls -= lost
        return lost

    def lose_answer(self) -> bool:
        lost = self.answers > 0
        self.answers -= lost
        return lost


# --- in memory ----------------------------------------------------------------------------------------------------


@contextmanager
def _on_the_way(losses: Losses) -> Iterator[None]:
    if losses.lose_call():
        raise Transient("the call was lost")
    yield
    if losses.lose_answer():
        raise Transient("the answer was lost")


@dataclass
class LossyDocuments:
    inner: Documents
    losses: Losses

    def get(self, *paths: str) -> list[Doc | None]:
        with _on_the_way(self.losses):
            return self.inner.get(*paths)

    def find(self, query: Query) -> list[Doc]:
        with _on_the_way(self.losses):
            return self.inner.find(query)

    def commit(self, *writes: Write) -> None:
        with _on_the_way(self.losses):
            self.inner.commit(*writes)


@dataclass
class LossyBus:
    inner: Bus
    losses: Losses

    def publish(self, topic: str, body: bytes) -> None:
        with _on_the_way(self.losses):
            self.inner.publish(topic, body)


# --- on the wire --------------------------------------------------------------------------------------------------


class _Wire(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc types none
    """Passes every call on to an emulator as it is, and its answer back."""

    def __init__(self, channel: Any, losses: Losses) -> None:
        self._channel = channel
        self._losses = losses

    def service(self, details: Any) -> Any:
        method: str = details.method
        short = method.rpartition("/")[2]
        metadata = [(name, value) for name, value in details.invocation_metadata if not name.startswith("grpc-")]
        metadata = [(name, value) for name, value in metadata if name != "user-agent"]

        def one(request: bytes, context: Any) -> bytes:
            self._lose_call(short, context)
            try:
                answer: bytes = self._channel.unary_unary(method)(request, metadata=metadata)
            except grpc.RpcError as refusal:
                self._lose_answer(short, context)
                context.abort(refusal.code(), refusal.details())
            self._lose_answer(short, context)
            return answer

        def many(request: bytes, context: Any) -> Iterator[bytes]:
            self._lose_call(short, context)
            answers = list(self._channel.unary_stream(method)(request, metadata=metadata))
            self._lose_answer(short, context)
            yield from answers

        if short in STREAMS:
            return grpc.unary_stream_rpc_method_handler(many)
        return grpc.unary_unary_rpc_method_handler(one)

    def _lose_call(self, method: str, context: Any) -> None:
        if method in LOST and self._losses.lose_call():
            context.abort(grpc.StatusCode.UNAVAILABLE, "the call was lost")

    def _lose_answer(self, method: str, context: Any) -> None:
        if method in LOST and self._losses.lose_answer():
            context.abort(grpc.StatusCode.UNAVAILABLE, "the answer was lost")


@contextmanager
def wire(emulator: str, losses: Losses) -> Iterator[str]:
    """A server in front of an emulator (HOST:PORT); its own HOST:PORT."""
    with grpc.insecure_channel(emulator) as channel:
        server = grpc.server(ThreadPoolExecutor(THREADS), handlers=[_Wire(channel, losses)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()
