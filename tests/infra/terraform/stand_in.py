"""A stand-in for Google's Terraform provider: it has the provider's schema, and no Google behind it.

Terraform itself reads the configuration, resolves what it refers to and holds every resource, argument and block to the
schema that this program tells it (`schema.py`), over Terraform's own plugin protocol, version 6. What Google would
fill in is unknown in a plan, as with Google, and made up by `apply`, so that what is made of it can be looked at.

Runs in the environment of tests/infra/terraform/requirements.txt, as a program of its own:

    python -m tests.infra.terraform.stand_in BINDINGS SOCKET LOG FOLDER...

BINDINGS is the unpacked `lib` of the typed bindings, SOCKET the Unix socket to listen on, LOG the file to write a line
of JSON to for each resource and data source that was validated; the resources that .tf files in any FOLDER name are
served, since Terraform reads the whole schema for each command. Prints a line when it listens, and ends when its
standard input does, so that nothing of a killed test is left behind. On SOCKET.foresees the same is served, but a plan
already says what Google would fill in: to look at that, a plan is a quarter of the work of an apply.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent import futures
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc  # type: ignore[import-untyped]  # no py.typed
import msgpack
from tests.infra.terraform import schema
from tf.gen import tfplugin_pb2 as pb

UNKNOWN: Final = msgpack.ExtType(0, b"\0")
"""A value that is known after apply, as the protocol writes it."""
NESTING: Final = {
    "single": pb.Schema.NestedBlock.SINGLE,
    "list": pb.Schema.NestedBlock.LIST,
    "set": pb.Schema.NestedBlock.SET,
}
NUMBER: Final = "123456789012"
"""Every project's number."""
WORKERS: Final = 4

Values = dict[str, Any]

IDS: Final[Mapping[str, str]] = {
    "google_compute_network": "projects/{project}/global/networks/{name}",
    "google_compute_subnetwork": "projects/{project}/regions/{region}/subnetworks/{name}",
    "google_kms_crypto_key": "{key_ring}/cryptoKeys/{name}",
    "google_kms_key_ring": "projects/{project}/locations/{location}/keyRings/{name}",
    "google_monitoring_notification_channel": "projects/{project}/notificationChannels/{display_name}",
    "google_project_iam_custom_role": "projects/{project}/roles/{role_id}",
    "google_pubsub_subscription": "projects/{project}/subscriptions/{name}",
    "google_pubsub_topic": "projects/{project}/topics/{name}",
    "google_secret_manager_secret": "projects/{project}/secrets/{secret_id}",
    "google_service_account": "projects/{project}/serviceAccounts/{account_id}@{project}.iam.gserviceaccount.com",
}
"""What ids look like where something else is made of them. Any other id is the type and the name."""

NAMED_BY_ID: Final = (
    "google_monitoring_notification_channel",
    "google_project_iam_custom_role",
    "google_secret_manager_secret",
    "google_service_account",
)
"""Resources whose attribute `name` is their id."""


class StandIn:
    """`foresees`: a plan already says what an apply would make up."""

    def __init__(self, bindings: Path, log: Path, folders: list[Path], *, foresees: bool) -> None:
        text = "\n".join(path.read_text() for folder in folders for path in sorted(folder.rglob("*.tf")))
        named = {
            kind: set(re.findall(rf'^\s*{kind} "(google_\w+)"', text, re.MULTILINE)) for kind in ("resource", "data")
        }
        resources = {name: schema.resource(bindings, name) for name in named["resource"]}
        data_sources = {name: schema.data_source(bindings, name) for name in named["data"]}
        self.provider = schema.provider(bindings)
        self.resources = {name: block for name, block in resources.items() if block is not None}
        self.data_sources = {name: block for name, block in data_sources.items() if block is not None}
        self.log = log
        self.foresees = foresees
        self.writing = threading.Lock()
        self.defaults: Values = {}

    def get_provider_schema(self, _: Any) -> Any:
        return pb.GetProviderSchema.Response(
            provider=_schema(self.provider),
            resource_schemas={name: _schema(block) for name, block in self.resources.items()},
            data_source_schemas={name: _schema(block) for name, block in self.data_sources.items()},
        )

    def validate_provider_config(self, request: Any) -> Any:
        return pb.ValidateProviderConfig.Response()

    def configure_provider(self, request: Any) -> Any:
        config = _read(request.config)
        self.defaults = {
            name: config[name]
            for name in ("project", "region", "zone")
            if config[name] is not None and config[name] != UNKNOWN
        }
        return pb.ConfigureProvider.Response()

    def validate_resource_config(self, request: Any) -> Any:
        self._note("resource", request.type_name, self.resources[request.type_name], _read(request.config))
        return pb.ValidateResourceConfig.Response()

    def validate_data_resource_config(self, request: Any) -> Any:
        self._note("data", request.type_name, self.data_sources[request.type_name], _read(request.config))
        return pb.ValidateDataResourceConfig.Response()

    def upgrade_resource_state(self, request: Any) -> Any:
        return pb.UpgradeResourceState.Response(upgraded_state=pb.DynamicValue(json=request.raw_state.json))

    def read_resource(self, request: Any) -> Any:
        return pb.ReadResource.Response(new_state=request.current_state)

    def read_data_source(self, request: Any) -> Any:
        block = self.data_sources[request.type_name]
        planned = self._planned(request.type_name, block, _read(request.config), whole=True)
        return pb.ReadDataSource.Response(state=_write(_made_up(request.type_name, block, planned, planned)))

    def plan_resource_change(self, request: Any) -> Any:
        proposed = _read(request.proposed_new_state)
        if proposed is not None and _read(request.prior_state) is None:
            block = self.resources[request.type_name]
            proposed = self._planned(request.type_name, block, proposed, whole=True)
            if self.foresees:
                proposed = _made_up(request.type_name, block, proposed, proposed)
        # As with Google's own provider, which was made for Terraform 0.11: Terraform forgives what it did then.
        return pb.PlanResourceChange.Response(planned_state=_write(proposed), legacy_type_system=True)

    def apply_resource_change(self, request: Any) -> Any:
        planned = _read(request.planned_state)
        if planned is not None:
            planned = _made_up(request.type_name, self.resources[request.type_name], planned, planned)
        return pb.ApplyResourceChange.Response(new_state=_write(planned), legacy_type_system=True)

    def stop_provider(self, _: Any) -> Any:
        return pb.StopProvider.Response()

    def _note(self, kind: str, name: str, block: schema.Block, config: Values) -> None:
        arguments, blocks = _count(block, config)
        line = json.dumps({"kind": kind, "type": name, "arguments": arguments, "blocks": blocks})
        with self.writing, self.log.open("a") as file:
            file.write(line + "\n")

    def _planned(self, name: str, block: schema.Block, values: Values, whole: bool = False) -> Values:
        """What is known before Google was asked: what was given, the provider's project and region, and an e-mail."""
        known = dict(values)
        if whole:
            for default, value in self.defaults.items():
                if default in known and known[default] is None:
                    known[default] = value
            if name == "google_service_account" and UNKNOWN not in (known["project"], known["account_id"]):
                known["email"] = f"{known['account_id']}@{known['project']}.iam.gserviceaccount.com"
                known["member"] = f"serviceAccount:{known['email']}"
        for attribute, of in block.attributes.items():
            filled_in = of.computed and (not of.optional or (whole and attribute == "id"))
            if filled_in and known[attribute] is None:
                known[attribute] = UNKNOWN
        for nested, of_block in block.blocks.items():
            known[nested] = _each(known[nested], partial(self._planned, name, of_block.block))
        return known


def _each(value: Any, do: Callable[[Values], Values]) -> Any:
    """The blocks of one name: a list of them, one, none, or what is not known yet."""
    if isinstance(value, list):
        return [do(inner) if isinstance(inner, dict) else inner for inner in value]
    return do(value) if isinstance(value, dict) else value


def _count(block: schema.Block, config: Values) -> tuple[int, int]:
    """How many arguments are given in a configuration and in all its blocks, and how many blocks there are."""
    arguments = sum(config[name] is not None for name in block.attributes)
    blocks = 0
    for name, nested in block.blocks.items():
        inner = config[name]
        for one in inner if isinstance(inner, list) else [inner]:
            if one is not None:
                blocks += 1
            if isinstance(one, dict):
                more = _count(nested.block, one)
                arguments, blocks = arguments + more[0], blocks + more[1]
    return arguments, blocks


def _made_up(name: str, block: schema.Block, values: Values, whole: Values) -> Values:
    """Values that Google might have filled in where nothing is known. `whole` is the resource that this is part of."""
    known = dict(values)
    for attribute, of in block.attributes.items():
        if isinstance(known[attribute], msgpack.ExtType) or (known[attribute] is None and not of.optional):
            known[attribute] = _value(name, attribute, of.type, whole)
    for nested, of_block in block.blocks.items():
        known[nested] = _each(known[nested], partial(_made_up, name, of_block.block, whole=whole))
    return known


def _value(name: str, attribute: str, kind: schema.Type, whole: Values) -> Any:
    if kind == "string":
        return _string(name, attribute, {key: value for key, value in whole.items() if isinstance(value, str)})
    if kind in ("number", "bool"):
        return 1 if kind == "number" else False
    if kind[0] == "object":
        return {key: _value(name, key, inner, whole) for key, inner in kind[1].items()}
    if kind[0] == "map":
        return {}
    return [_value(name, attribute, kind[1], whole)] if isinstance(kind[1], list) else []


def _string(name: str, attribute: str, whole: Mapping[str, str]) -> str:
    own = next(
        (whole[key] for key in ("name", "account_id", "role_id", "secret_id", "display_name") if key in whole), name
    )
    if attribute == "id" or (attribute == "name" and name in NAMED_BY_ID):
        return IDS.get(name, f"{name.removeprefix('google_')}/{own}").format_map(_Partly(whole))
    if attribute == "number" or attribute.endswith("project_number"):
        return NUMBER
    if attribute in ("project", "project_id"):
        return whole.get("project") or whole.get("project_id") or "a-project"
    if attribute in ("uri", "url", "gcf_uri"):
        return f"https://{own}-abcdefghij-ew.a.run.app"
    if attribute == "service" and name == "google_cloudfunctions2_function":
        return f"projects/{whole.get('project')}/locations/{whole.get('location')}/services/{own}"
    if attribute == "self_link":
        return f"https://www.googleapis.com/{name.removeprefix('google_')}/{own}"
    if attribute == "policy_data":
        return "{}"
    return f"{attribute}-of-{own}"


class _Partly(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return f"a-{key}"


def _schema(block: schema.Block) -> Any:
    return pb.Schema(version=0, block=_block(block))


def _block(block: schema.Block) -> Any:
    return pb.Schema.Block(
        attributes=[
            pb.Schema.Attribute(
                name=name,
                type=json.dumps(of.type).encode(),
                required=of.required,
                optional=of.optional,
                computed=of.computed,
            )
            for name, of in block.attributes.items()
        ],
        block_types=[
            pb.Schema.NestedBlock(
                type_name=name,
                nesting=NESTING[nested.nesting],
                min_items=nested.at_least,
                max_items=nested.at_most,
                block=_block(nested.block),
            )
            for name, nested in block.blocks.items()
        ],
    )


def _read(value: Any) -> Any:
    return msgpack.unpackb(value.msgpack, strict_map_key=False)


def _write(value: Any) -> Any:
    return pb.DynamicValue(msgpack=msgpack.packb(value))


def serve(stand_in: StandIn, socket: Path) -> Any:
    calls = {
        "GetProviderSchema": stand_in.get_provider_schema,
        "ValidateProviderConfig": stand_in.validate_provider_config,
        "ValidateResourceConfig": stand_in.validate_resource_config,
        "ValidateDataResourceConfig": stand_in.validate_data_resource_config,
        "UpgradeResourceState": stand_in.upgrade_resource_state,
        "ConfigureProvider": stand_in.configure_provider,
        "ReadResource": stand_in.read_resource,
        "PlanResourceChange": stand_in.plan_resource_change,
        "ApplyResourceChange": stand_in.apply_resource_change,
        "ReadDataSource": stand_in.read_data_source,
        "StopProvider": stand_in.stop_provider,
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=WORKERS))
    handlers = {
        call: grpc.unary_unary_rpc_method_handler(
            lambda request, _, answer=answer: answer(request),
            request_deserializer=getattr(pb, call).Request.FromString,
            response_serializer=getattr(pb, call).Response.SerializeToString,
        )
        for call, answer in calls.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tfplugin6.Provider", handlers),))
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    return server


def main() -> None:
    bindings, socket, log, *folders = map(Path, sys.argv[1:])
    plain = StandIn(bindings, log, folders, foresees=False)
    foreseeing = StandIn(bindings, log, folders, foresees=True)
    servers = [serve(plain, socket), serve(foreseeing, socket.with_name(f"{socket.name}.foresees"))]
    sys.stdout.write(f"{len(plain.resources)} resources and {len(plain.data_sources)} data sources\n")
    sys.stdout.flush()
    sys.stdin.read()
    for server in servers:
        server.stop(grace=None)


if __name__ == "__main__":
    main()
