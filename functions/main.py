"""Every deployed entry point. Each only hands its delivery on; infra/functions.yaml lists them."""

import flask
import functions_framework
from cloudevents.http import CloudEvent
from werkzeug.wrappers import Response

from snapkeep import web as pages
from snapkeep import wiring
from snapkeep.entry import ENTRIES


@functions_framework.cloud_event
def discover(event: CloudEvent) -> None:
    ENTRIES["discover"](event.data, wiring.ports(compute=True))


@functions_framework.cloud_event
def plan(event: CloudEvent) -> None:
    ENTRIES["plan"](event.data, wiring.ports(compute=False))


@functions_framework.cloud_event
def create(event: CloudEvent) -> None:
    ENTRIES["create"](event.data, wiring.ports(compute=True))


@functions_framework.cloud_event
def reconcile(event: CloudEvent) -> None:
    ENTRIES["reconcile"](event.data, wiring.ports(compute=True))


@functions_framework.cloud_event
def audit(event: CloudEvent) -> None:
    ENTRIES["audit"](event.data, wiring.ports(compute=False))


@functions_framework.cloud_event
def health(event: CloudEvent) -> None:
    ENTRIES["health"](event.data, wiring.ports(compute=False))


@functions_framework.cloud_event
def retention(event: CloudEvent) -> None:
    ENTRIES["retention"](event.data, wiring.ports(compute=True))


@functions_framework.cloud_event
def expire(event: CloudEvent) -> None:
    ENTRIES["expire"](event.data, wiring.ports(compute=True))


@functions_framework.cloud_event
def copy(event: CloudEvent) -> None:
    ENTRIES["copy"](event.data, wiring.ports(compute=True))


@functions_framework.cloud_event
def entitlements(event: CloudEvent) -> None:
    ENTRIES["entitlements"](event.data, wiring.ports(compute=False))


@functions_framework.cloud_event
def restore(event: CloudEvent) -> None:
    ENTRIES["restore"](event.data, wiring.ports(compute=True))


@functions_framework.cloud_event
def restore_test(event: CloudEvent) -> None:
    ENTRIES["restore_test"](event.data, wiring.ports(compute=False))


@functions_framework.cloud_event
def dead_letters(event: CloudEvent) -> None:
    ENTRIES["dead_letters"](event.data, wiring.ports(compute=False))


@functions_framework.http
def web(request: flask.Request) -> Response:
    return pages.answer(request, wiring.ports(compute=False), wiring.identities())
