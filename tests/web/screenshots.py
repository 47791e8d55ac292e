"""Makes the pictures of the README: `python -m tests.web.screenshots`.

The example fleet with a fixed seed: a month with two incidents that are over, then a day and a half with three that are
not.
The fonts are the machine's own; the pictures that are kept were made with Inter (Debian: fonts-inter).
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Final, Literal

from playwright.sync_api import FloatRect
from tests.web.chromium import browser
from tests.web.figures import Site

from snapkeep import documents as d
from snapkeep import fleet
from snapkeep.store import Fleet, put
from snapkeep_local import demo, faults
from snapkeep_local.people import invite
from snapkeep_local.sim import System

DOCS: Final = Path(__file__).parents[2] / "docs"
WIDTH: Final = 1440
HEIGHT: Final = 900
MARGIN: Final = 32
SEED: Final = 1
SHOWN: Final = "acme"
"""The tenant whose page is shown, as far down as TENANT_HEIGHT."""
TENANT_HEIGHT: Final = 1150
REJECTED: Final = (
    b'{"schema":1,"type":"create.requested","id":"ci-7781","tenant":"acme","claimed_actor":"ci@vendor.example",'
    b'"reason":"before import","data":{"instance":"acme-pam-9"}}'
)
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")


def troubled() -> System:
    """The example fleet, with something to see."""
    system = System(seed=SEED, start=demo.START)
    system.apply(fleet.read(demo.EXAMPLE))
    system.run(timedelta(days=21))
    refused = refuse(system, "harbourlight")
    system.run(timedelta(days=1, hours=4))
    system.cloud.clear_faults(refused)
    system.run(timedelta(days=5))
    pause(system, "ginkgoya")
    system.run(timedelta(days=1, hours=16))
    pause(system)
    system.run(timedelta(days=10, hours=8))
    refuse(system, "dunaria")
    gone = next(i for i in system.cloud.instances() if i.name == "booking-2")
    system.cloud.remove_instance(gone.link)
    system.run(timedelta(hours=33))
    system.bus.publish("snapkeep-create", REJECTED)
    system.run(timedelta(hours=3, minutes=4))
    return system


def refuse(system: System, tenant: str) -> int:
    """From now on Compute Engine refuses every snapshot of a tenant; the fault's number."""
    found = Fleet(system.documents).tenants_by_id([tenant])[tenant].value
    where = f"projects/{found.project}/|projects/{found.vault_project}/"
    effect = faults.ErrorBefore(status=503, reason="backendError")
    return system.cloud.add_fault(faults.Fault(effect=effect, method="snapshots.insert", resource=where))


def pause(system: System, *tenants: str) -> None:
    """Creation is paused for these tenants and for no other."""
    path = "system/controls"
    paused = d.PausedKinds(creation=d.Paused(tenants=[*tenants]))
    (seen,) = system.documents.get(path)
    put(system.documents, path, seen, d.Controls(updated_at=system.clock.now(), paused=paused))


def main() -> None:
    system = troubled()
    invite(system.documents, (tenant.value for tenant in Fleet(system.documents).tenants()), system.clock.now())
    site = Site(system.ports)
    with browser() as chromium:
        for scheme in SCHEMES:
            page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
            page.goto(site.url)
            page.locator("#live").wait_for()
            table = page.locator(".tenants").bounding_box()
            assert table is not None
            down_to = table["y"] + table["height"] + MARGIN
            clip: FloatRect = {"x": 0, "y": 0, "width": WIDTH, "height": down_to}
            page.screenshot(path=DOCS / f"fleet-{scheme}.png", clip=clip, full_page=True)
            page.goto(f"{site.url}tenants/{SHOWN}")
            page.screenshot(path=DOCS / f"tenant-{scheme}.png", clip=clip | {"height": TENANT_HEIGHT}, full_page=True)
    site.stop()


if __name__ == "__main__":
    main()
