"""The schema of Google's Terraform provider, read from its typed bindings (`cdktf-cdktf-provider-google`, from PyPI).

The provider itself is a program that Terraform downloads. Its bindings are generated from that program's own schema
and say of every resource and data source which arguments and blocks there are, of which type, which of them must be
given, and which attributes only Google fills in. A folder of the bindings is one resource (`pubsub-subscription`) or
one data source (`data-google-project`): `index.js` names arguments, blocks and attributes, `index.d.ts` says which
arguments must be given.

What the bindings do not say, so that nothing here can hold a configuration to it: which values an argument takes,
which arguments exclude one another, and which optional arguments Google fills in when they are left out.

Nothing but Python's own library is imported: the stand-in provider (`stand_in.py`) runs in another environment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

Nesting = Literal["single", "list", "set"]

Type = Any
"""A type as Terraform's protocol has it in JSON: `"string"`, `["list", "string"]`, `["object", {"uri": "string"}]`."""


@dataclass(frozen=True)
class Attribute:
    type: Type
    required: bool = False
    optional: bool = False
    computed: bool = False


@dataclass(frozen=True)
class Nested:
    """A block within another one: how many of it there may be; `at_most` 0 is any number."""

    nesting: Nesting
    at_least: int
    at_most: int
    block: Block


@dataclass(frozen=True)
class Block:
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    blocks: Mapping[str, Nested] = field(default_factory=dict)


class Unreadable(Exception):
    """The bindings are not written as this module reads them: another release of them, or none at all."""


SIMPLE: Final = {"string": "string", "number": "number", "boolean": "bool"}
COLLECTED: Final = {"stringList": "string", "numberList": "number", "stringMap": "string", "numberMap": "number"}
GETTERS: Final[Mapping[str, Type]] = {
    "String": "string",
    "Number": "number",
    "Boolean": "bool",
    "List": ["list", "string"],
    "NumberList": ["list", "number"],
    "StringMap": ["map", "string"],
}

_ARGUMENT: Final = re.compile(
    r"^ +(?P<name>\w+): \{\n"
    r" +value: (?P<value>.*),\n"
    r" +isBlock: (?P<block>true|false),\n"
    r' +type: "(?P<type>\w+)",\n'
    r' +storageClassType: "(?P<storage>\w+)",\n',
    re.MULTILINE,
)
_GETTER: Final = re.compile(r"return (?P<set>cdktf\.Fn\.tolist\()?this\.get(?P<kind>\w+)Attribute\('(?P<name>\w+)'\)")
_MADE: Final = re.compile(
    r"this\._\w+ = new (?:\w+\.)?(?P<of>\w+?)(?P<kind>OutputReference|MapList|List|Map)"
    r'\(this, "(?P<name>\w+)"(?:, (?P<set>true|false))?\)'
)
_COMMENT: Final = re.compile(r"/\*\*.*?\*/", re.DOTALL)
_FIELD: Final = re.compile(r"^ +readonly (?P<name>\w+)(?P<optional>\??):", re.MULTILINE)


class _Folder:
    """One resource, data source or the provider itself, as the bindings have it."""

    def __init__(self, folder: Path) -> None:
        code = "\n".join(path.read_text() for path in sorted(folder.rglob("*.js")))
        types = _COMMENT.sub("", "\n".join(path.read_text() for path in sorted(folder.rglob("*.d.ts"))))
        self.folder = folder
        self.classes = dict(re.findall(r"^class (\w+) extends (.*?)^}", code, re.MULTILINE | re.DOTALL))
        self.writers = dict(
            re.findall(r"^function (\w+)ToHclTerraform\(struct\) \{\n(.*?)^}", code, re.MULTILINE | re.DOTALL)
        )
        self.interfaces = dict(re.findall(r"^export interface (\w+)[^{]*\{\n(.*?)^}", types, re.MULTILINE | re.DOTALL))

    def top(self) -> tuple[str, Block]:
        """The type's name (`google_pubsub_subscription`) and its schema."""
        for body in self.classes.values():
            kind = re.search(r"terraformResourceType: '(\w+)'", body)
            options = re.search(r"@param options (\w+)", body)
            if kind and options and "synthesizeHclAttributes" in body:
                _, written = body.split("synthesizeHclAttributes", 1)
                return kind[1], self._block(body, written, options[1])
        raise Unreadable(f"{self.folder}: no class of a resource, data source or provider in it")

    def _block(self, body: str, written: str, interface: str) -> Block:
        needed = self._required(interface)
        attributes: dict[str, Attribute] = {}
        blocks: dict[str, Nested] = {}
        one = {made["name"] for made in _MADE.finditer(body) if made["kind"] == "OutputReference"}
        for argument in _ARGUMENT.finditer(written):
            name, value = argument["name"], argument["value"]
            member = re.search(r"(?:this\._|struct\.)(\w+)", value)
            if member is None:
                raise Unreadable(f"{self.folder}: {name}: no member of {interface} in {value}")
            required = member[1] in needed
            writer = re.search(r"(\w+)ToHclTerraform\b", value)
            if argument["block"] == "false":
                attributes[name] = Attribute(
                    _type(argument["type"], argument["storage"]), required, not required, computed=not required
                )
            elif writer is None or writer[1] not in self.writers:
                raise Unreadable(f"{self.folder}: {name}: what the block holds is not said in {value}")
            else:
                blocks[name] = self._nested(writer[1], argument["type"], required, name in one)
        for name, kind in self._told(body):
            if name not in attributes and name not in blocks:
                attributes[name] = Attribute(kind, computed=True)
        return Block(attributes, blocks)

    def _nested(self, writer: str, kind: str, required: bool, one: bool) -> Nested:
        struct = writer[0].upper() + writer[1:]
        block = self._block(self.classes.get(f"{struct}OutputReference", ""), self.writers[writer], struct)
        if kind == "struct":
            return Nested("single", 0, 0, block)
        return Nested("set" if kind == "set" else "list", int(required), int(one), block)

    def _required(self, interface: str) -> set[str]:
        if interface not in self.interfaces:
            raise Unreadable(f"{self.folder}: index.d.ts has no interface {interface}")
        return {name for name, optional in _FIELD.findall(self.interfaces[interface]) if not optional}

    def _told(self, body: str) -> list[tuple[str, Type]]:
        """Every attribute that can be referred to, with its type."""
        told: list[tuple[str, Type]] = []
        for getter in _GETTER.finditer(body):
            kind = GETTERS[getter["kind"]]
            told.append((getter["name"], ["set", *kind[1:]] if getter["set"] else kind))
        for made in _MADE.finditer(body):
            if made["kind"] == "Map":
                told.append((made["name"], ["map", made["of"].lower()]))
            elif made["kind"] == "MapList":
                told.append((made["name"], ["list", ["map", made["of"].removesuffix("Map").lower()]]))
            else:
                inner = self.classes.get(f"{made['of']}OutputReference")
                if inner is None:
                    raise Unreadable(f"{self.folder}: {made['name']}: no class {made['of']}OutputReference")
                told.append(
                    (made["name"], ["set" if made["set"] == "true" else "list", ["object", dict(self._told(inner))]])
                )
        return told


def _type(kind: str, storage: str) -> Type:
    if kind == "simple":
        return SIMPLE[storage]
    return [kind, COLLECTED[storage]] if storage in COLLECTED else [kind, SIMPLE[storage.removesuffix("List")]]


def version(bindings: Path) -> str:
    """Of the provider that the bindings were generated from: `6.50.0`."""
    found = re.search(r"providerVersion: '([0-9.]+)'", (bindings / "provider" / "index.js").read_text())
    if found is None:
        raise Unreadable(f"{bindings}/provider/index.js does not say of which version of the provider it is")
    return found[1]


def provider(bindings: Path) -> Block:
    return _Folder(bindings / "provider").top()[1]


def resource(bindings: Path, name: str) -> Block | None:
    """None: the provider has no such resource."""
    return _named(bindings / name.removeprefix("google_").replace("_", "-"), name)


def data_source(bindings: Path, name: str) -> Block | None:
    """None: the provider has no such data source."""
    return _named(bindings / f"data-{name.replace('_', '-')}", name)


def _named(folder: Path, name: str) -> Block | None:
    if not (folder / "index.js").is_file():
        return None
    told, block = _Folder(folder).top()
    if told != name:
        raise Unreadable(f"{folder}: is {told}, and was looked up as {name}")
    return block
