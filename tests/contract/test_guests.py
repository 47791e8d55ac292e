"""Guests in memory and at a local cloud's controls: one suite; and what only a network can show."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from tests.contract.clouds import BOOT, DATA, INSTANCE, PROJECT, fleet, served
from tests.servers import running

from snapkeep import config, guests, wiring
from snapkeep.documents import Probe
from snapkeep.guests import LocalGuests, NetworkGuests
from snapkeep.ports import NOBODY, Guests, Transient
from snapkeep_local.cloud import Cloud
from snapkeep_local.emulators import free_port
from snapkeep_local.guests import CloudGuests
from snapkeep_local.rest import Simulator

HTTPS = Probe(kind="http", port=443, path="/health")
LOOPBACK = "127.0.0.1"


@pytest.fixture
def cloud() -> Cloud:
    return fleet()


@pytest.fixture
def reached(way: str, cloud: Cloud) -> Iterator[Guests]:
    if way == "local":
        yield CloudGuests(cloud)
        return
    with served(Simulator(cloud)) as url:
        yield LocalGuests(url)


def address(cloud: Cloud) -> str:
    return str(cloud.get("instances", INSTANCE)["networkInterfaces"][0]["networkIP"])


# --- a local cloud's ------------------------------------------------------------------------------------------------


def test_an_application_answers_while_its_instance_runs(reached: Guests, cloud: Cloud) -> None:
    assert reached.reach(address(cloud), HTTPS) is None
    cloud.stop_instance(INSTANCE)
    assert reached.reach(address(cloud), HTTPS) == f"'{INSTANCE}' is TERMINATED"
    cloud.start_instance(INSTANCE)
    cloud.detach_disk(INSTANCE, BOOT)
    assert reached.reach(address(cloud), HTTPS) == f"'{INSTANCE}' has no boot disk"


def test_an_application_may_not_answer_though_its_instance_runs(reached: Guests, cloud: Cloud) -> None:
    cloud.set_guest_answers(INSTANCE, False)
    assert reached.reach(address(cloud), HTTPS) == f"the application in '{INSTANCE}' does not answer"


def test_nobody_answers_at_an_address_that_nobody_has(reached: Guests) -> None:
    assert reached.reach("10.9.9.9", HTTPS) == "no instance has the address 10.9.9.9"


def test_what_a_disk_and_its_snapshot_hold_is_known(reached: Guests, cloud: Cloud) -> None:
    cloud.insert_snapshot(PROJECT, {"name": "sk-1", "sourceDisk": BOOT})
    held = reached.contents(BOOT)
    assert held == cloud.content(BOOT)
    cloud.write(BOOT, "damaged")
    assert reached.contents(BOOT) == "damaged"
    assert reached.contents(f"projects/{PROJECT}/global/snapshots/sk-1") == held
    assert reached.contents(DATA) == cloud.content(DATA)


@pytest.mark.parametrize("link", [f"projects/{PROJECT}/global/snapshots/none", INSTANCE])
def test_what_is_not_there_holds_nothing(reached: Guests, link: str) -> None:
    assert reached.contents(link) is None


def test_a_local_cloud_that_does_not_answer_may_answer_later() -> None:
    away = LocalGuests(f"http://{LOOPBACK}:{free_port()}")
    with pytest.raises(Transient, match="do not answer"):
        away.reach("10.0.0.1", HTTPS)
    with pytest.raises(Transient, match="do not answer"):
        away.contents(BOOT)


# --- a network's ----------------------------------------------------------------------------------------------------


class Application(BaseHTTPRequestHandler):
    """`GET /N` is answered with the status N."""

    def do_GET(self) -> None:
        self.send_response(int(self.path[1:]))
        self.send_header("Location", "/500")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def application() -> Iterator[int]:
    with running(ThreadingHTTPServer((LOOPBACK, 0), Application)) as url:
        yield int(url.rpartition(":")[2])


@contextmanager
def mute() -> Iterator[int]:
    """A port of this machine that takes connections and says nothing."""
    with socket.socket() as listening:
        listening.bind((LOOPBACK, 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.mark.parametrize("status", [200, 204, 302, 399])
def test_an_application_answers_with_a_status_below_400_and_no_redirect_is_followed(status: int) -> None:
    with application() as port:
        assert NetworkGuests().reach(LOOPBACK, Probe(kind="http", port=port, path=f"/{status}")) is None


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_an_application_that_answers_with_an_error_is_told_by_its_status(status: int) -> None:
    with application() as port:
        told = NetworkGuests().reach(LOOPBACK, Probe(kind="http", port=port, path=f"/{status}"))
    assert str(told).startswith(f"GET /{status}: {status} ")


@pytest.mark.parametrize("kind", ["tcp", "http"])
def test_nobody_listening_is_told(kind: str) -> None:
    port = free_port()
    told = NetworkGuests().reach(LOOPBACK, Probe(kind="tcp" if kind == "tcp" else "http", port=port))
    assert "refused" in str(told)


def test_a_port_that_takes_connections_answers_tcp() -> None:
    with mute() as port:
        assert NetworkGuests().reach(LOOPBACK, Probe(kind="tcp", port=port)) is None


def test_an_application_that_takes_a_connection_and_says_nothing_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # In place of seconds, which this test would wait for.
    monkeypatch.setattr(guests, "TIMEOUT_S", 0.05)
    with mute() as port:
        assert "timed out" in str(NetworkGuests().reach(LOOPBACK, Probe(kind="http", port=port)))


def test_an_application_that_begins_to_answer_and_does_not_go_on_is_not_waited_for() -> None:
    with socket.socket() as listening:
        listening.bind((LOOPBACK, 0))
        listening.listen()

        def begin() -> None:
            connection, _ = listening.accept()
            taken.append(connection)
            connection.sendall(b"HT")

        taken: list[socket.socket] = []
        answering = Thread(target=begin)
        answering.start()
        said = NetworkGuests().reach(LOOPBACK, Probe(kind="http", port=listening.getsockname()[1]))
        answering.join()
        taken[0].close()
    assert said == "GET /: no HTTP status in what came first"


@pytest.mark.parametrize("address", ["no.such.host.invalid", "::::", "10.0.0.1\r\nHost: x"])
def test_an_address_that_is_none_is_told(address: str) -> None:
    assert NetworkGuests().reach(address, Probe(kind="http", port=80)) is not None


def test_what_disks_hold_cannot_be_known_over_a_network() -> None:
    assert NetworkGuests().contents(BOOT) is None


# --- which of them --------------------------------------------------------------------------------------------------


def test_the_environment_says_how_guests_are_asked() -> None:
    assert isinstance(wiring.guests_of(config.read({"SNAPKEEP_PROJECT": "p"})), NetworkGuests)
    local = config.read({"SNAPKEEP_PROJECT": "p", "SNAPKEEP_GUESTS": "http://127.0.0.1:8080/"})
    assert local.guests == "http://127.0.0.1:8080"
    assert isinstance(wiring.guests_of(local), LocalGuests)
    with pytest.raises(config.ConfigError, match=r"SNAPKEEP_GUESTS: 'nearby' is not an http\(s\) URL"):
        config.read({"SNAPKEEP_PROJECT": "p", "SNAPKEEP_GUESTS": "nearby"})


def test_a_function_without_business_with_guests_reaches_none() -> None:
    with pytest.raises(PermissionError):
        NOBODY.reach(LOOPBACK, HTTPS)
    with pytest.raises(PermissionError):
        NOBODY.contents(BOOT)
