"""Fleets as the page may meet them: figures put straight into the documents it reads; and a server to show them."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from msgspec.structs import replace
from tests.cli.typing_in import STOPS_WITHIN_S
from tests.makers import World
from tests.web.people import Somebody, put_people
from werkzeug.serving import WSGIRequestHandler, make_server

from snapkeep import documents as d
from snapkeep import health, views
from snapkeep.ports import Ports
from snapkeep.web import create_app

NOW: Final = datetime(2026, 11, 22, 3, 5, tzinfo=UTC)
LONG_NAME: Final = "The Long-Named Savings and Cooperative Credit Association of Northern Rivers and Highlands"
HOSTILE: Final = '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'
MANY: Final = [
    f"northern-rivers-app-{n:02}-with-a-rather-long-name in southamerica-east1-{'abc'[n % 3]}" for n in range(30)
]


def days(**otherwise: str) -> dict[str, str]:
    """34 days up to yesterday, all verified but for these: `d3="missed"` is the third last, `none` had no slot."""
    ended = {back: otherwise.get(f"d{back}", "verified") for back in range(34, 0, -1)}
    return {(NOW.date() - timedelta(days=back)).isoformat(): how for back, how in ended.items() if how != "none"}


def put_figures(world: World, id: str, **changes: Any) -> None:
    """A tenant's health; a protected one but for the changes."""
    fields: dict[str, Any] = {
        "updated_at": world.clock.now(),
        "worst_first": "",
        "name": id.replace("-", " ").title(),
        "deployment": "saas",
        "newest_verified_at": NOW - timedelta(hours=21, minutes=4),
        "breach_at": None,
        "unprotected": [],
        "days": days(),
        "counts": {"instances": 4, "lost": 0, "verified": 136, "failed": 0, "missed": 0},
        "bytes": 412 << 30,
        "copies": {},
        "running": 0,
        "computed_at": NOW,
    }
    figures = d.TenantHealth(**fields | changes)
    rank = health.RANKS.index(health.state(figures))
    world.put((f"health/{id}", replace(figures, worst_first=f"{rank}|{id}")))


def put_ticks(world: World, **silent_for: timedelta) -> None:
    """Every function has just ticked, but for these."""
    for function in views.PERIODS:
        at = NOW - silent_for.get(function, timedelta(minutes=2))
        world.put((f"system/tick-{function}", d.Tick(updated_at=at, at=at)))


def put_rejected(world: World, number: int, **changes: Any) -> None:
    fields: dict[str, Any] = {
        "updated_at": NOW,
        "kind": "dead_letter",
        "function": "snapkeep-reconcile",
        "reason": "snapkeep-reconcile did not handle it in all its deliveries",
        "excerpt": '{"schema":1,"type":"tick"}',
        "at": NOW - timedelta(hours=2 + number),
        "expire_at": NOW + timedelta(days=30),
    }
    world.put((f"rejected/{number}", d.Rejected(**fields | changes)))


def sum_up(world: World, *, rejected: int = 0, dead_letters: int = 0) -> None:
    """The totals, as function `health` would compute them now."""
    lines = [d.from_data(d.TenantHealth, doc) for path, doc in world.documents_in("health/") if path != "health/_fleet"]
    totals = replace(health.summarise(lines, world.clock.now()), rejected=rejected, dead_letters=dead_letters)
    world.put(("health/_fleet", totals))


def empty() -> World:
    world = World(NOW)
    put_people(world)
    return world


def healthy(names: Iterable[str] = ("acme", "brightwater", "cobaltine", "dunaria")) -> World:
    world = empty()
    for name in names:
        put_figures(world, name)
    put_figures(world, "estrelinha", deployment="private_saas")
    put_ticks(world)
    sum_up(world)
    return world


def troubled() -> World:
    """Breaches, tenants at risk, a silent function, dead letters, long names and hostile ones."""
    world = healthy()
    put_figures(
        world,
        "a-tenant-whose-id-takes-thirty",
        name=LONG_NAME,
        breach_at=NOW - timedelta(hours=9),
        newest_verified_at=NOW - timedelta(hours=35),
        unprotected=MANY,
        days=days(d1="missed", d2="failed", d5="missed", d12="none", d13="none"),
        counts={"instances": 34, "lost": 2, "verified": 1138, "failed": 12, "missed": 7},
        running=3,
        bytes=31 << 40,
    )
    put_figures(world, "mirabellis", breach_at=NOW - timedelta(days=2, hours=3), days=days(d1="failed", d2="failed"))
    put_figures(world, "nordlicht", newest_verified_at=None, unprotected=["nordlicht-db-2 in europe-west3-a"])
    put_figures(world, "ostrava", name=f"Ostrava {HOSTILE}", days=days(d1="missed"))
    put_ticks(world, plan=timedelta(minutes=41))
    for number in range(3):
        put_rejected(world, number)
    put_rejected(world, 4, kind="rejected", function="create", reason=HOSTILE, excerpt=HOSTILE)
    sum_up(world, rejected=1, dead_letters=3)
    return world


class _Quiet(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


class Site:
    """The real application on these ports, at an address that stays when it is stopped and started again."""

    def __init__(self, ports: Ports) -> None:
        self._app = create_app(ports, Somebody())
        self._port = 0
        self.start()

    def start(self) -> None:
        self._server = make_server("127.0.0.1", self._port, self._app, threaded=True, request_handler=_Quiet)
        self._port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(STOPS_WITHIN_S,), name="site", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/"
