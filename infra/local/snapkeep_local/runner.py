"""`snapkeep up`: the whole of Snapkeep on one machine, on Google's emulators and real function processes.

The simulator of Compute Engine, the clock, the scheduler and the gateway of every push live in this process and answer
on one port; every function of infra/functions.yaml is a process of its own under functions-framework.
"""

from __future__ import annotations

import errno
import fcntl
import http.client
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self

import click
import flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from snapkeep import commands, fleet, hints, wiring
from snapkeep.deployment import FUNCTIONS_YAML, deployment
from snapkeep.local_sign_in import THIS_MACHINE
from snapkeep.messages import Tick
from snapkeep.ports import Ports, Transient
from snapkeep.store import Fleet
from snapkeep_local import emulators, rest, schedule
from snapkeep_local.cloud import Cloud
from snapkeep_local.delivery import Broker, Count
from snapkeep_local.emulators import HOST, Emulator, free_port
from snapkeep_local.guard import Guard
from snapkeep_local.keeping import Kept, Unreadable, belonging, claim, keep
from snapkeep_local.nursery import Nursery
from snapkeep_local.people import invite
from snapkeep_local.processes import Process, Processes, Program
from snapkeep_local.sim import populate
from snapkeep_local.timekeeper import CannotMove, Mode, Simulated, System, Timekeeper

log: Final = logging.getLogger(__name__)

PROJECT: Final = "snapkeep-local"
DATABASE: Final = "(default)"
ACTOR: Final = "operator:up"

FOLDER: Final = Path(".snapkeep") / "up"
"""Below the current folder: the log of every function."""

MAIN: Final = FUNCTIONS_YAML.parents[1] / "functions" / "main.py"

WORKERS: Final = 1
THREADS: Final = 4
"""Of each function's process: the emulator pushes two messages of a topic at once, and more after a burst."""

FIRST_MESSAGES_TIMEOUT_S: Final = 60.0
"""What the first messages are waited for: each function imports Google's clients with its first."""

SERVER_STOP_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 5.0


WEB_TIMEOUT_S: Final = 60.0

HOP_BY_HOP: Final = frozenset({"connection", "content-length", "date", "keep-alive", "server", "transfer-encoding"})
"""Headers that are about one connection, not about what was asked for."""

PAGE_BYTES_MAX: Final = 1 << 20
"""Of one request to pages and API; function `web` itself takes less."""

PUSH_BYTES_MAX: Final = 16 << 20
"""Of one push: Pub/Sub takes messages of 10 MB, which are a third larger in base64."""


class CannotRun(Exception):
    """Why the local cloud does not come up, in one line."""


@dataclass(frozen=True, slots=True)
class Settings:
    fleet: Path
    port: int = 8080  # 0: a free one
    clock: Mode = "simulated"
    start: datetime | None = None  # of a simulated clock; None: now, to the minute
    seed: int | None = None  # None: 0
    folder: Path = FOLDER


@dataclass(frozen=True, slots=True)
class Simulation:
    """The simulated cloud of this run, and where it is kept for the next."""

    simulator: rest.Simulator
    folder: Path | None  # None: it ends with the Firestore that was started for it
    resumed: bool
    id: str
    clock: Mode
    seed: int
    invented: list[str]

    def save(self) -> None:
        """Write the cloud down as it is now."""
        if self.folder:
            self.simulator.use(partial(self._write, self.folder))

    def _write(self, folder: Path, cloud: Cloud) -> None:
        saved = cloud.saved()
        keep(folder, Kept(id=self.id, clock=self.clock, seed=self.seed, invented=self.invented, cloud=saved))

    def advance(self, to: datetime) -> None:
        """Let time pass, and keep that it did."""
        self.simulator.advance(to)
        self.save()


class LocalCloud:
    """Everything that `up` starts. A context manager: entered it runs, left it is gone."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self.addresses: dict[str, Any] = {}

    def __enter__(self) -> Self:
        """Start all of it, apply the fleet file, and return when its first messages are handled.

        Raises CannotRun, emulators.EmulatorsMissing, emulators.EmulatorFailed, processes.CannotStart.
        """
        try:
            self._start(self._settings)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def _start(self, settings: Settings) -> None:
        reading = read_fleet(settings.fleet)
        listening = self._stack.enter_context(listen(settings.port))
        url = f"http://{HOST}:{listening.getsockname()[1]}"
        firestore, pubsub = self._emulators()
        folder = settings.folder.absolute()
        self._stack.enter_context(alone_in(folder))

        simulation = self._simulation(reading, folder)
        simulator = simulation.simulator
        listens = {f.name: free_port() for f in schedule.processes()}
        broker = Broker(pubsub, PROJECT, f"{url}/_push", listens)
        self._stack.callback(broker.stop)
        self.addresses = {
            "dashboard": f"{url}/",
            "sign_in": f"{url}/sign-in",
            "api": f"{url}/api/v1",
            "compute": url,
            "functions": {name: f"http://{HOST}:{port}" for name, port in listens.items()},
            "firestore": firestore,
            "pubsub": pubsub,
            "clock": f"{url}/_sim/clock",
            "project": PROJECT,
            "database": DATABASE,
            "sim": url,
        }
        nursery = Nursery(self._environment(broker.address))
        processes = Processes(self._programs(listens), self._guard, nursery)
        time: Timekeeper = System(simulation.advance, broker)
        if settings.clock == "simulated":
            time = Simulated(simulator.now, simulation.advance, broker)
        app = simulator.app
        app.config["TRUSTED_HOSTS"] = list(THIS_MACHINE)
        add_controls(app, time, broker, processes, self.addresses)
        add_pages(app, listens["web"])
        save_before_answers(app, simulation.save)
        self._serve(app, listening)
        self._stack.callback(simulation.save)  # when nobody uses it any more
        self._stack.callback(processes.stop)
        processes.start()
        for emulator in self._own:
            log.info("starting the %s emulator", emulator.name)
            emulator.start(self._guard.started)
        processes.wait_ready()
        ports = self._ports(broker)
        if not simulation.resumed:
            broker.forget()  # what waits there speaks of another cloud
            if any(True for _ in Fleet(ports.documents).tenants()):
                log.warning("Firestore at %s holds tenants of another cloud; this one's instances are new", firestore)
            simulation.save()
            claim(ports.documents, simulation.id)
        broker.start(schedule.functions(), deployment())
        if not self._is_own("Pub/Sub"):
            self._stack.callback(broker.hold)
        apply_file(ports, reading)
        invite(ports.documents, (tenant.value for tenant in Fleet(ports.documents).tenants()), ports.clock.now())
        hints.send(broker, "health", Tick())  # so that the first page has totals
        late = broker.ledger.wait_quiet(FIRST_MESSAGES_TIMEOUT_S)
        if late:
            log.warning("%d first messages are not answered yet", late)
        self._stack.callback(time.stop)
        time.start()

    def _is_own(self, name: str) -> bool:
        """Whether the emulator of this name is started here, empty, and ends with `up`."""
        return any(emulator.name == name for emulator in self._own)

    def _simulation(self, reading: fleet.Reading, folder: Path) -> Simulation:
        """The cloud that the documents of a kept Firestore belong to, if the folder has it; else a new one.

        What the fleet file implies and never was is invented. Raises CannotRun.
        """
        settings = self._settings
        keeps = not self._is_own("Firestore")
        kept = self._kept(folder) if keeps else None
        seed = kept.seed if kept else settings.seed or 0
        cloud = Cloud.resumed(kept.cloud) if kept else Cloud(seed, _beginning(settings))
        tenants = [entry.tenant(applied_at=cloud.now, applied_by=ACTOR) for entry in reading.clean]
        invented = populate(cloud, tenants, seed, kept.invented if kept else ())
        return Simulation(
            simulator=rest.Simulator(cloud, None if settings.clock == "simulated" else _machine_time),
            folder=folder if keeps else None,
            resumed=kept is not None,
            id=kept.id if kept else wiring.SystemClock().token(),
            clock=settings.clock,
            seed=seed,
            invented=invented,
        )

    def _kept(self, folder: Path) -> Kept | None:
        from snapkeep.gcp.firestore import GoogleDocuments

        settings = self._settings
        try:
            kept = belonging(GoogleDocuments(PROJECT, DATABASE), folder)
        except (Unreadable, Transient) as reason:
            raise CannotRun(str(reason)) from None
        if kept is None:
            return None
        if kept.clock != settings.clock:
            raise CannotRun(
                f"{folder}: the cloud that is kept here lives by the {kept.clock} clock: start it with "
                f"--clock {kept.clock}, or begin a new one on emulators of its own"
            )
        log.info("the cloud that is kept in %s goes on at %s", folder, kept.cloud.now.isoformat())
        if settings.start or settings.seed is not None:
            log.warning("--start and --seed do not apply to a cloud that goes on")
        return kept

    def _emulators(self) -> tuple[str, str]:
        """The addresses of Firestore and Pub/Sub: those that the environment names, else of emulators of our own."""
        firestore = os.environ.get("FIRESTORE_EMULATOR_HOST")
        pubsub = os.environ.get("PUBSUB_EMULATOR_HOST")
        own = [] if firestore else [emulators.firestore()]
        own += [] if pubsub else [emulators.pubsub()]
        if own:
            emulators.installed()  # said before anything is started
        for variable, address in (("FIRESTORE_EMULATOR_HOST", firestore), ("PUBSUB_EMULATOR_HOST", pubsub)):
            if address:
                _expect_answer(variable, address)
        self._own: list[Emulator] = own
        self._guard = Guard()
        self._stack.callback(self._guard.stop)
        self._guard.start()
        for emulator in own:
            self._stack.callback(emulator.stop)
            os.environ[emulator.variable] = emulator.address
        return os.environ["FIRESTORE_EMULATOR_HOST"], os.environ["PUBSUB_EMULATOR_HOST"]

    def _environment(self, publish_at: str) -> dict[str, str]:
        """Of every function."""
        return {
            **os.environ,
            "SNAPKEEP_PROJECT": PROJECT,
            "SNAPKEEP_DATABASE": DATABASE,
            "SNAPKEEP_COMPUTE_ENDPOINT": str(self.addresses["compute"]),
            "SNAPKEEP_CLOCK": str(self.addresses["clock"]),
            "SNAPKEEP_GUESTS": str(self.addresses["sim"]),
            "PUBSUB_EMULATOR_HOST": publish_at,  # through the broker's front, so that it knows what is on its way
            "SNAPKEEP_SIGN_IN": "local",
            "WORKERS": str(WORKERS),
            "THREADS": str(THREADS),
        }

    def _programs(self, ports: Mapping[str, int]) -> list[Program]:
        folder = self._settings.folder.absolute()
        programs = []
        for function in schedule.processes():
            kind = "cloudevent" if isinstance(function, schedule.Function) else "http"
            said = folder / f"{function.name}.log"
            said.write_bytes(b"")
            arguments = ["--source", str(MAIN), "--target", function.entry_point, "--signature-type", kind]
            arguments += ["--host", HOST, "--port", str(ports[function.name])]
            programs.append(Program(f"function {function.name}", arguments, ports[function.name], said))
        return programs

    def _ports(self, broker: Broker) -> Ports:
        from snapkeep.gcp.firestore import GoogleDocuments

        clock = wiring.RemoteClock(str(self.addresses["clock"]))
        return Ports(GoogleDocuments(PROJECT, DATABASE), wiring.OutOfReach(), broker, clock)

    def _serve(self, app: flask.Flask, listening: socket.socket) -> None:
        server = make_server(HOST, 0, app, threaded=True, request_handler=Quiet, fd=listening.fileno())
        thread = threading.Thread(target=server.serve_forever, name="http", daemon=True)
        self._stack.callback(_stop_serving, server, thread)
        thread.start()


class Quiet(WSGIRequestHandler):
    """Connections that stay open, since Google's clients keep theirs, and no line for each request."""

    protocol_version = "HTTP/1.1"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


def _expect_answer(variable: str, address: str) -> None:
    """Raises CannotRun unless something listens where the environment says."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise CannotRun(f"{variable}: no emulator at {address!r} ({error}); unset it to have one started") from None


def _beginning(settings: Settings) -> datetime:
    """Where the time of a new cloud begins."""
    began = settings.start or datetime.now(UTC)
    return began.astimezone(UTC).replace(second=0, microsecond=0) if settings.clock == "simulated" else began


def _machine_time() -> datetime:
    return datetime.now(UTC)


def _stop_serving(server: BaseWSGIServer, thread: threading.Thread) -> None:
    server.shutdown()
    thread.join(SERVER_STOP_TIMEOUT_S)


def read_fleet(path: Path) -> fleet.Reading:
    """Raises CannotRun with every mistake: a local cloud of half a fleet would be a riddle."""
    if not path.exists():
        raise CannotRun(f"{path}: there is no such fleet file")
    reading = fleet.read(path)
    if reading.mistakes:
        raise CannotRun("\n".join(str(mistake) for mistake in reading.mistakes))
    return reading


def apply_file(ports: Ports, reading: fleet.Reading) -> None:
    """Apply the fleet file; one that gives points up of a cloud that is gone on with is left, since nobody is asked."""
    try:
        commands.apply_fleet(ports, reading, ACTOR)
    except commands.Clash as clash:
        log.error("not applied: %s (`snapkeep fleet apply --accept-deletions`)", clash)


@contextmanager
def listen(port: int) -> Iterator[socket.socket]:
    """A socket that listens on a port of this machine (0: on a free one). Raises CannotRun."""
    listening = socket.socket()
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen()
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise CannotRun(f"port {port} is in use: end what listens there, or take another with --port") from None
        raise CannotRun(f"port {port}: {error.strerror}") from None
    try:
        yield listening
    finally:
        listening.close()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """The folder, made if need be, for as long as nobody else runs in it. Raises CannotRun."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotRun(f"another `snapkeep up` runs in {folder}: stop it, or start this one elsewhere") from None
        yield


# --- controls -----------------------------------------------------------------------------------------------------


def add_controls(
    app: flask.Flask, time: Timekeeper, broker: Broker, processes: Processes, addresses: Mapping[str, Any]
) -> None:
    """The runner's own endpoints: the clock, where everything is, what was delivered, and the gateway of pushes."""

    @app.get("/_sim/clock")
    def clock() -> flask.Response:
        return flask.jsonify(time.status())

    @app.post("/_sim/clock")
    def move() -> tuple[flask.Response, int]:
        try:
            time.move(**_destination(flask.request.get_json(silent=True)))
        except CannotMove as refusal:
            return flask.jsonify({"error": str(refusal)}), 400
        return flask.jsonify(time.status()), 202

    @app.get("/_sim/scheduler")
    def scheduler() -> flask.Response:
        return flask.jsonify(time.scheduler.status())

    @app.post("/_sim/scheduler")
    def turn() -> flask.Response | tuple[flask.Response, int]:
        match flask.request.get_json(silent=True):
            case {"running": bool() as on}:
                time.scheduler.turn(on=on)
                return scheduler()
            case _:
                return flask.jsonify({"error": 'expected {"running": false}, or true'}), 400

    @app.post("/_sim/subscriptions")
    def mend() -> flask.Response | tuple[flask.Response, int]:
        try:
            return flask.jsonify({"mended": broker.mend()})
        except Transient as fault:
            return flask.jsonify({"error": str(fault)}), 503

    @app.get("/_sim/environment")
    def environment() -> flask.Response:
        return flask.jsonify(addresses)

    @app.get("/_sim/deliveries")
    def deliveries() -> flask.Response:
        of_function = zip(schedule.processes(), processes.all, strict=True)
        return flask.jsonify({f.name: _deliveries(broker, f) | _process(p) for f, p in of_function})

    @app.post("/_sim/deliveries")
    def lose_answers() -> flask.Response | tuple[flask.Response, int]:
        try:
            broker.lose_answers(*_to_lose(flask.request.get_json(silent=True)))
        except ValueError as refusal:
            return flask.jsonify({"error": str(refusal)}), 400
        return deliveries()

    @app.post("/_push/<function>/<path:topic>")
    def push(function: str, topic: str) -> tuple[str, int]:
        if function not in addresses["functions"]:
            return f"no function {function}", 404
        flask.request.max_content_length = PUSH_BYTES_MAX
        return "", broker.push(function, topic, flask.request.get_data())


def save_before_answers(app: flask.Flask, save: Callable[[], None]) -> None:
    """Have each change of the cloud saved before it is answered: what somebody was told is true in the next life."""

    @app.after_request
    def saved(response: flask.Response) -> flask.Response:
        if flask.request.method != "GET" and not flask.request.path.startswith("/_push/"):
            save()
        return response


def _deliveries(broker: Broker, function: schedule.Function | schedule.HttpFunction) -> dict[str, int | None]:
    """Messages are delivered to those that have a topic; to the others none are."""
    count = broker.ledger.count(function.topic) if isinstance(function, schedule.Function) else Count(0, 0, 0)
    return {
        "delivered": count.delivered,
        "failed": count.failed,
        "in_flight": count.in_flight,
        "unsettled": count.unsettled,
        "lose_answers": broker.losing(function.name),
    }


def _to_lose(body: Any) -> tuple[str, int]:
    """The function of whose answers so many are to be lost. Raises ValueError."""
    match body:
        case {"function": str() as function, "lose_answers": int() as number} if not isinstance(number, bool):
            return function, number
        case _:
            raise ValueError('expected {"function": "create", "lose_answers": 3}')


HANDED_ON: Final = frozenset(
    ("Accept", "Content-Type", "Cookie", "Host", "Idempotency-Key", "Origin", "Sec-Fetch-Site", "X-Snapkeep-Local-User")
)
"""What of a request's headers function `web` looks at."""


def add_pages(app: flask.Flask, port: int) -> None:
    """The dashboard and the API, at the same address as all else: handed on to the process of function `web`."""

    @app.get("/", defaults={"path": ""})
    @app.route("/<any('fleet', 'orphans', 'sign-in', 'sign-out'):path>", methods=["GET", "POST"])
    @app.route("/<any('assets', 'api', 'tenants'):path>/<path:rest>", methods=["GET", "POST"])
    def web(path: str, rest: str = "") -> flask.Response:
        target = flask.request.environ["RAW_URI"]  # as it was asked for: what is quoted in it stays so
        connection = http.client.HTTPConnection(HOST, port, timeout=WEB_TIMEOUT_S)
        flask.request.max_content_length = PAGE_BYTES_MAX
        try:
            sent = {name: value for name, value in flask.request.headers if name in HANDED_ON}
            connection.request(flask.request.method, target, flask.request.get_data() or None, sent)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as fault:
            # Its process has died, or is on its way back.
            detail = f"function web does not answer ({fault}); ask again"
            problem = {"type": "about:blank", "title": "Bad Gateway", "status": 502, "detail": detail}
            return flask.Response(json.dumps(problem), 502, mimetype="application/problem+json")
        finally:
            connection.close()
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP]
        return flask.Response(body, answer.status, headers)


def _process(process: Process) -> dict[str, int | None]:
    return {"pid": process.pid, "restarts": process.restarts}


def _destination(body: Any) -> dict[str, Any]:
    """`{"advance_seconds": n}` or `{"to": an RFC 3339 time}`, and whether with `ticks`, as Timekeeper.move takes it.

    Raises CannotMove.
    """
    match body:
        case {"ticks": bool() as ticks}:
            pass
        case {"ticks": other}:
            raise CannotMove(f"ticks: {other!r} is neither true nor false")
        case _:
            ticks = True
    match body:
        case {"advance_seconds": int() | float() as seconds} if not isinstance(seconds, bool) and 0 < seconds < 1e9:
            return {"by": timedelta(seconds=seconds), "ticks": ticks}
        case {"to": str() as text}:
            try:
                to = datetime.fromisoformat(text)
            except ValueError:
                raise CannotMove(f"to: {text!r} is not a time (2026-11-22T00:00:00Z)") from None
            if to.tzinfo is None:
                raise CannotMove(f"to: {text!r} has no time zone (2026-11-22T00:00:00Z)")
            return {"to": to.astimezone(UTC), "ticks": ticks}
        case _:
            raise CannotMove('expected {"advance_seconds": a positive number} or {"to": "2026-11-22T00:00:00Z"}')


# --- the command --------------------------------------------------------------------------------------------------


ENDS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopped(BaseException):
    """SIGTERM, Ctrl-C, or the terminal is gone. Like KeyboardInterrupt no Exception: logging would swallow that."""


def up(settings: Settings) -> None:
    """Run a local cloud until a signal ends it. One line of JSON on standard output says that it is ready, and where.

    Raises what LocalCloud raises.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="snapkeep up: %(message)s")
    logging.getLogger("snapkeep_local").setLevel(logging.INFO)
    ended = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        # Once: what is being stopped must not be interrupted by a second Ctrl-C.
        for end in ENDS:
            signal.signal(end, signal.SIG_IGN)
        ended.set()  # should whatever is interrupted swallow even this
        raise Stopped

    cloud = LocalCloud(settings)
    before = {number: signal.signal(number, stop) for number in ENDS}
    try:
        with suppress(Stopped), cloud:
            click.echo(json.dumps(cloud.addresses))
            sys.stdout.flush()
            try:
                url = cloud.addresses["sim"]
                log.info("ready; the dashboard is at %s/, where you choose who you are; Ctrl-C stops it", url)
                log.info("SNAPKEEP_API=%s leads the command line here", url)
                while not ended.is_set():
                    signal.pause()
            finally:
                log.info("stopping")
        log.info("stopped")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
