"""The fleet file: parse, validate, normalise, compare.

`read` takes a YAML file or a folder of them and never stops at a mistake: a Reading holds every valid tenant, and one
Mistake, naming file, path inside the file, value and what is expected, for everything that is wrong. Nothing here
knows the time or the cloud; what depends on the day (is `valid_until` over?) is decided where it is used.

What may stand in the file is said by tables (`TENANT` and the records below it). Their keys and defaults are those of
the structs in `documents`, so what is read and what is stored cannot drift apart.

YAML is read by the words of YAML 1.2: `02:30`, `2027-12-31`, `on` and `no` are text, `010` and `1_000` are no numbers.
A null is never a value: a key is left out to take its default.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import zoneinfo
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from snapkeep import cloud
from snapkeep.documents import (
    TENANT_ID_WORD,
    ByLabel,
    ByName,
    ClientBackup,
    CopyRetention,
    Entitlements,
    InterRegionBackup,
    MultiRegionDr,
    Probe,
    Recovery,
    RestoreTest,
    Retention,
    Schedule,
    Tenant,
)

SUFFIXES: Final = (".yaml", ".yml")
FILES_MAX: Final = 1_000
FOLDER_ENTRIES_MAX: Final = 20_000  # files and folders looked at below the given one
FILE_BYTES_MAX: Final = 4 * 1024 * 1024
FLEET_BYTES_MAX: Final = 32 * 1024 * 1024  # all files together
DEPTH_MAX: Final = 16  # nested lists and mappings in a file; its own form needs 6
VALUES_MAX: Final = 400_000  # keys and values in a file, each alias counted as all that it stands for
TENANTS_MAX: Final = 10_000  # in all files together
INSTANCES_PER_TENANT_MAX: Final = 200  # named one by one; a label selects any number
NETWORKS_MAX: Final = 100  # access_networks of one tenant
REGIONS_MAX: Final = 50  # keys of a map by region
NAME_CHARS_MAX: Final = 100
MISTAKES_MAX: Final = 1_000  # of one file; at more, the rest of the file is not looked at and nothing of it is used
SHOWN_CHARS_MAX: Final = 60  # of a value or key that a message repeats


# --- mistakes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong (or, among warnings, unwise); `str()` is its line.

    `path` leads to it inside the file; it is () where the file as a whole is meant, whose message then names the line
    if there is one. `also` holds the other entries (file and index) that it makes unusable, which the message names.
    """

    file: str
    path: tuple[str | int, ...]
    message: str
    also: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        return f"{self.file}: {place(self.path)}: {self.message}" if self.path else f"{self.file}: {self.message}"

    @property
    def entries(self) -> tuple[tuple[str, int], ...]:
        """The entries that cannot be used because of it, as file and index in `tenants`; none for a whole file."""
        match self.path:
            case ("tenants", int() as index, *_):
                return ((self.file, index), *self.also)
        return self.also


def place(path: Sequence[str | int]) -> str:
    """A path as it is printed: `tenants[3].schedule.daily_at`. Words that are no plain keys are quoted."""
    parts = [
        f"[{part}]" if isinstance(part, int) else f".{part}" if re.fullmatch(r"[\w-]+", part, re.A) else f"[{part!r}]"
        for part in (clip(part) if isinstance(part, str) else part for part in path)
    ]
    return "".join(parts).removeprefix(".")


def clip(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS_MAX else text[: SHOWN_CHARS_MAX - 1] + "…"


RAW_KEY: Final = re.compile(r"[A-Za-z0-9+/]{43}=|[A-Za-z0-9+/]{342}==")  # 256 bits, or 2048 bits wrapped by RSA


def shown(value: object) -> str:
    """A value as a message repeats it: short, on one line, in the words of YAML, and never a secret."""
    match value:
        case str() if RAW_KEY.fullmatch(value):
            return "what looks like a raw key"
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case str():
            return repr(clip(value))
        case dict():
            return "a mapping"
        case _:
            return "a list"


class Bad(Enum):
    """Stands where a value was refused, so that rules over several fields stay silent about it."""

    BAD = "bad"


BAD: Final = Bad.BAD


class Unreadable(Exception):
    """The file cannot be read any further. The message says why, and on which line where there is one."""


@dataclass(frozen=True, slots=True)
class At:
    """A place in a file, and the list that takes what is wrong there."""

    file: str
    report: list[Mistake]
    path: tuple[str | int, ...] = ()

    def __truediv__(self, part: str | int) -> At:
        return replace(self, path=(*self.path, part))

    def wrong(self, message: str, *also: tuple[str, int]) -> Bad:
        """Report it. Raises Unreadable when the report is full."""
        if len(self.report) >= MISTAKES_MAX:
            raise Unreadable(f"more than {MISTAKES_MAX} mistakes; nothing of this file is used")
        self.report.append(Mistake(self.file, self.path, message, also))
        return BAD


# --- YAML --------------------------------------------------------------------------------------------------------

# libyaml where the wheel has it: about ten times as fast. Both give the same events.
LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
WORDS: Final[Mapping[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
PLAIN_TAGS: Final = (None, "!", *(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map")))


class Builder:
    """Builds plain maps, lists, text, whole numbers, booleans and nulls from the parser's events.

    An alias shares the value that it names (nothing changes values after they are built), but is counted as all of
    it, so a small file that stands for a huge one ends at VALUES_MAX. No tag constructs anything.
    """

    def __init__(self, text: str) -> None:
        self.events: Iterator[yaml.Event] = yaml.parse(text, Loader=LOADER)
        self.anchors: dict[str, tuple[object, int]] = {}
        self.values = 0

    def document(self, at: At) -> object:
        """The file's one document. Raises Unreadable; mistakes that leave the rest readable go to the report."""
        try:
            next(self.events)  # the stream's start
            if isinstance(next(self.events), yaml.StreamEndEvent):
                return None
            value = self.value(next(self.events), at, 0)
            next(self.events)  # the document's end
            more = next(self.events)
            if not isinstance(more, yaml.StreamEndEvent):
                raise Unreadable(f"line {line(more)}: a second document begins; a fleet file is one YAML document")
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
            why = ", ".join(part for part in (error.context, error.problem) if part)
            raise Unreadable(f"{where}not YAML: {why}") from None
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            raise Unreadable(f"not YAML: {' '.join(str(error).split())}") from None
        return value

    def value(self, event: yaml.Event, at: At, depth: int) -> object:
        before = self.values
        self.count(1, event)
        if depth > DEPTH_MAX:
            raise Unreadable(f"line {line(event)}: nested deeper than {DEPTH_MAX} levels")
        value: object
        match event:
            case yaml.AliasEvent():
                value, size = self.anchored(event)
                self.count(size, event)
                return value
            case yaml.SequenceStartEvent():
                value = self.sequence(at, depth)
            case yaml.MappingStartEvent():
                value = self.mapping(at, depth)
            case yaml.ScalarEvent():
                value = scalar(event)
            case _:
                raise Unreadable(f"line {line(event)}: not YAML: {event}")
        if event.tag not in PLAIN_TAGS:
            tag = clip(str(event.tag))
            value = at.wrong(f"the tag {tag!r} is not understood here; write plain values (line {line(event)})")
        self.remember(event, value, self.values - before)
        return value

    def sequence(self, at: At, depth: int) -> list[object]:
        items: list[object] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.value(event, at / len(items), depth + 1))
        return items

    def mapping(self, at: At, depth: int) -> dict[str, object]:
        own: dict[str, object] = {}
        lines: dict[str, int] = {}
        merged: dict[str, object] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self.value(event, at, depth + 1)
                self.value(next(self.events), at, depth + 1)
                at.wrong(f"a key must be a plain word (line {line(event)})")
                continue
            self.count(1, event)
            key = event.value
            self.remember(event, key, 1)
            value = self.value(next(self.events), at / key, depth + 1)
            if key in lines:
                # The first stays: which of the two was meant is not ours to guess, and the tenant is refused anyway.
                (at / key).wrong(f"given twice, on line {lines[key]} and on line {line(event)}; expected once")
            elif key == "<<" and event.implicit[0]:
                lines[key] = line(event)
                merged = merge(value, at / key)
            else:
                lines[key] = line(event)
                own[key] = value
        return {**merged, **own}

    def count(self, values: int, event: yaml.Event) -> None:
        self.values += values
        if self.values > VALUES_MAX:
            raise Unreadable(f"line {line(event)}: more than {VALUES_MAX} values, aliases counted as what they repeat")

    def remember(self, event: yaml.NodeEvent, value: object, size: int) -> None:
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, size)

    def anchored(self, event: yaml.AliasEvent) -> tuple[object, int]:
        # An anchor is known from its value's end on, so a value cannot contain itself.
        name = str(event.anchor)
        if name not in self.anchors:
            raise Unreadable(f"line {line(event)}: the alias *{clip(name)} names nothing before it")
        return self.anchors[name]


def line(event: yaml.Event) -> int:
    assert event.start_mark is not None  # the parser marks every event
    return event.start_mark.line + 1


def scalar(event: yaml.ScalarEvent) -> object:
    text = event.value
    if not event.implicit[0]:  # quoted, a block, or tagged: text
        return text
    if text in WORDS:
        return WORDS[text]
    return int(text) if INTEGER.fullmatch(text) else text


def merge(value: object, at: At) -> dict[str, object]:
    """What `<<: *template`, or a list of templates of which the first wins, brings in."""
    templates = value if isinstance(value, list) else [value]
    merged: dict[str, object] = {}
    for template in reversed(templates):
        if isinstance(template, dict):
            merged |= template
        else:
            at.wrong(f"{shown(template)} cannot be merged; expected an alias of a mapping")
    return merged


# --- checks ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """What a value should be, and how to tell."""

    expected: str
    judge: Callable[[object, At], Any]

    def take(self, value: object, at: At) -> Any:
        """The normal form of a value, or BAD, in which case what is wrong with it stands in the report."""
        return BAD if value is BAD else self.judge(value, at)


def leaf(expected: str, accept: Callable[[Any], object]) -> Check:
    """A check of one value: `accept` gives its normal form, or None to refuse it."""

    def judge(value: object, at: At) -> object:
        taken = accept(value)
        return at.wrong(f"{shown(value)} is not {expected}") if taken is None else taken

    return Check(expected, judge)


def text(expected: str, pattern: str) -> Check:
    compiled = re.compile(pattern)
    return leaf(expected, lambda value: value if isinstance(value, str) and compiled.fullmatch(value) else None)


def whole(least: int, most: int, unit: str = "") -> Check:
    expected = f"a whole number{f' of {unit}' if unit else ''} from {least} to {most}"
    # Not isinstance: True is an int to Python.
    return leaf(expected, lambda value: value if type(value) is int and least <= value <= most else None)


def choice(*words: str) -> Check:
    return leaf(
        f"one of {', '.join(words)}", lambda value: value if isinstance(value, str) and value in words else None
    )


def link(what: str, pattern: str, example: str) -> Check:
    """A resource link. Google's full URLs are taken too; the normal form is the partial one."""
    compiled = re.compile(pattern)

    def accept(value: object) -> str | None:
        if not isinstance(value, str):
            return None
        partial = FULL_URL.sub("", value, count=1)
        return partial if compiled.fullmatch(partial) else None

    return leaf(f"the link of a {what} ({example})", accept)


def records(item: Check, *, most: int, key: Callable[[Any], object]) -> Check:
    """A list of which no two items may have the same key; its normal form is sorted by it."""
    expected = f"a list of {item.expected}"

    def judge(value: object, at: At) -> object:
        if not isinstance(value, list):
            return at.wrong(f"{shown(value)} is not {expected}")
        if len(value) > most:
            return at.wrong(f"{len(value)} items are more than {most}")
        taken: dict[object, Any] = {}
        for index, raw in enumerate(value):
            one = item.take(raw, at / index)
            if one is BAD or (isinstance(one, dict) and BAD in one.values()):
                continue
            if (name := key(one)) in taken:
                words = " in ".join(name) if isinstance(name, tuple) else name
                (at / index).wrong(f"{shown(words)} is given twice; expected once")
            taken.setdefault(name, one)
        return [taken[name] for name in sorted(taken, key=str)]

    return Check(expected, judge)


def by_region(value: Check) -> Check:
    """A map whose keys are regions."""
    expected = f"a mapping from region to {value.expected}"

    def judge(raw: object, at: At) -> object:
        if not isinstance(raw, dict):
            return at.wrong(f"{shown(raw)} is not {expected}")
        if len(raw) > REGIONS_MAX:
            return at.wrong(f"{len(raw)} regions are more than {REGIONS_MAX}")
        taken: dict[str, object] = {}
        for key, one in raw.items():
            if is_csek(key):
                (at / key).wrong(NO_CSEK)
            elif REGION.take(key, at / key) is not BAD:
                taken[key] = value.take(one, at / key)
        return taken

    return Check(expected, judge)


Rule = Callable[[Mapping[str, Any], At], None]
"""Looks at several fields of a checked record and reports what does not go together. A refused field is BAD."""


def record(
    kind: type[msgspec.Struct],
    checks: Mapping[str, Check],
    *,
    rules: Iterable[Rule] = (),
    optional: Iterable[str] = (),
    expected: str = "",
) -> Check:
    """A mapping of these keys. Required are those for which `kind` has no default, but for the `optional` ones.

    The normal form has every default written out; what has none and may be left out stays left out.
    """
    expected = expected or f"a mapping of {', '.join(checks)}"
    fields = {one.name: one for one in msgspec.structs.fields(kind)}
    required = {name for name in checks if fields[name].required} - set(optional)
    defaults = {name: default_of(fields[name]) for name in checks if not fields[name].required}

    def judge(value: object, at: At) -> object:
        if not isinstance(value, dict):
            return at.wrong(f"{shown(value)} is not {expected}")
        for key in value:
            if key not in checks:
                (at / key).wrong(unknown(key, checks))
        taken: dict[str, Any] = {}
        for name, check in checks.items():
            if name in value:
                taken[name] = check.take(value[name], at / name)
            elif name in required:
                taken[name] = (at / name).wrong(f"is missing; expected {check.expected}")
            elif defaults.get(name) is not None:
                taken[name] = defaults[name]
        for rule in rules:
            rule(taken, at)
        return taken

    return Check(expected, judge)


def default_of(one: msgspec.structs.FieldInfo) -> object:
    """A struct field's default as it would stand in the file; None for what is then left out."""
    default = one.default if one.default is not msgspec.NODEFAULT else one.default_factory()
    return without_nulls(msgspec.to_builtins(default))


def without_nulls(value: object) -> object:
    if not isinstance(value, dict):
        return value
    return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}


def unknown(key: str, known: Iterable[str]) -> str:
    if is_csek(key):
        return NO_CSEK
    near = difflib.get_close_matches(clip(key).lower().replace("-", "_"), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
    return f"unknown key; {hint}"


# --- what single values may be -----------------------------------------------------------------------------------

REGION_WORD: Final = r"[a-z]{2,}(-[a-z]+)+[0-9]{1,2}"
PROJECT_WORD: Final = r"[a-z][a-z0-9-]{4,28}[a-z0-9]"
NAME_WORD: Final = r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"
FULL_URL: Final = re.compile(r"https://(www|compute)\.googleapis\.com/compute/v1/")
SYSTEM: Final = "_system"

PROJECT: Final = text("a project id (6 to 30 of a-z, 0-9 and -, a letter first)", PROJECT_WORD)
REGION: Final = text("a region (such as us-east1)", REGION_WORD)
ZONE: Final = text("a zone (such as us-east1-b)", REGION_WORD + r"-[a-z][a-z0-9]{0,5}")
INSTANCE: Final = text("an instance name (1 to 63 of a-z, 0-9 and -, a letter first)", cloud.NAME.pattern)
LABEL: Final = text(
    "a label (key=value: a letter first in the key, both of a-z, 0-9, _ and -, at most 63 characters each)",
    r"[a-z][a-z0-9_-]{0,62}=[a-z0-9_-]{1,63}",
)
TIME_OF_DAY: Final = text("a time of day (HH:MM)", r"([01][0-9]|2[0-3]):[0-5][0-9]")
NETWORK: Final = link(
    "network", f"projects/{PROJECT_WORD}/global/networks/{NAME_WORD}", "projects/PROJECT/global/networks/NAME"
)
SUBNETWORK: Final = link(
    "subnetwork",
    f"projects/{PROJECT_WORD}/regions/{REGION_WORD}/subnetworks/{NAME_WORD}",
    "projects/PROJECT/regions/REGION/subnetworks/NAME",
)
URL_PATH: Final = text(
    "a path (/, then up to 199 letters, digits and -._~!$&'()*+,;=:@%/?)", r"/[A-Za-z0-9\-._~!$&'()*+,;=:@%/?]{0,199}"
)
SERVICE_ACCOUNT: Final = text(
    "a service account's address (NAME@PROJECT.iam.gserviceaccount.com)",
    rf"[a-z0-9][a-z0-9-]{{0,62}}@({PROJECT_WORD}\.iam|developer)\.gserviceaccount\.com",
)


def accept_day(value: object) -> str | None:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value, re.A):
        return None
    try:
        return date.fromisoformat(value).isoformat()
    except ValueError:
        return None


DAY: Final = leaf("a day of the calendar (YYYY-MM-DD)", accept_day)


def accept_network(value: object) -> str | None:
    if not isinstance(value, str):  # ip_network would take a number as an address
        return None
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        return None


ADDRESSES: Final = leaf("a network (CIDR with no host bits set, such as 203.0.113.0/24)", accept_network)


def accept_name(value: object) -> str | None:
    fits = (
        isinstance(value, str) and value.isprintable() and value == value.strip() and 0 < len(value) <= NAME_CHARS_MAX
    )
    return str(value) if fits else None


TENANT_NAME: Final = leaf(f"a name (1 to {NAME_CHARS_MAX} printable characters on one line)", accept_name)


def judge_tenant_id(value: object, at: At) -> object:
    if value == SYSTEM:
        return at.wrong(f"{SYSTEM!r} is reserved for the acts of no tenant; expected {TENANT_ID_EXPECTED}")
    if isinstance(value, str) and re.fullmatch(TENANT_ID_WORD, value):
        return value
    return at.wrong(f"{shown(value)} is not {TENANT_ID_EXPECTED}")


TENANT_ID_EXPECTED: Final = "a tenant id (2 to 30 of a-z, 0-9 and -, a letter first)"
TENANT_ID: Final = Check(TENANT_ID_EXPECTED, judge_tenant_id)


@cache
def time_zones() -> frozenset[str]:
    # These two mean something else on every machine, or nothing.
    return frozenset(zoneinfo.available_timezones() - {"localtime", "Factory"})


def judge_time_zone(value: object, at: At) -> object:
    if isinstance(value, str) and value in time_zones():
        return value
    near = (
        difflib.get_close_matches(value[:NAME_CHARS_MAX], sorted(time_zones()), n=1) if isinstance(value, str) else []
    )
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return at.wrong(f"{shown(value)} is not {TIME_ZONE.expected}{hint}")


TIME_ZONE: Final = Check("a time zone (an IANA name such as America/Sao_Paulo)", judge_time_zone)

# Google's names for customer-supplied encryption keys, in its API (rawKey), its tools (csek) and as people write them.
CSEK_WORDS: Final = ("rawkey", "rsaencryptedkey", "csek", "customersupplied", "diskencryptionkey")
NO_CSEK: Final = (
    "customer-supplied encryption keys (CSEK) are refused: Google does not keep them, so nobody could restore from the"
    " points without the customer; expected a Cloud KMS key under kms_keys (the value is not repeated here)"
)
KMS_KEY: Final = re.compile(
    rf"projects/{PROJECT_WORD}/locations/(?P<location>[a-z0-9-]{{2,40}})/keyRings/[\w-]{{1,63}}/cryptoKeys/[\w-]{{1,63}}",
    re.ASCII,
)


def is_csek(key: str) -> bool:
    word = re.sub(r"[^a-z]", "", key.lower())
    return any(each in word for each in CSEK_WORDS)


def judge_kms_key(value: object, at: At) -> object:
    if isinstance(value, dict) and any(is_csek(key) for key in value):
        return at.wrong(NO_CSEK)
    if isinstance(value, str):
        if KMS_KEY.fullmatch(value):
            return value
        if RAW_KEY.fullmatch(value):
            return at.wrong(NO_CSEK)
    return at.wrong(f"{shown(value)} is not {KMS_KEY_CHECK.expected}")


KMS_KEY_CHECK: Final = Check(
    "a Cloud KMS key without version (projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY)", judge_kms_key
)


# --- what goes together ------------------------------------------------------------------------------------------


def picked(record: Mapping[str, Any], *path: str) -> Any:
    """The value at a path of a checked record; None where it is left out or was refused."""
    value: Any = record
    for part in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return None if value is BAD else value


def keeps_something(retention: Mapping[str, Any], at: At) -> None:
    if all(value == 0 for name, value in retention.items() if name in KEEPERS):
        at.wrong(f"keeps nothing; expected at least one of {', '.join(KEEPERS)} above 0")


KEEPERS: Final = tuple(name for name in CopyRetention.__struct_fields__ if name.startswith("keep_"))  # a lock delays


def guest_flush_is_not_copied(tenant: Mapping[str, Any], at: At) -> None:
    if tenant.get("consistency") == "guest_flush" and picked(tenant, "entitlements", "inter_region_backup") is not None:
        (at / "consistency").wrong(
            "'guest_flush' does not go with entitlements.inter_region_backup: copies are made from an instant snapshot,"
            " which knows no guest flush; expected crash or group"
        )


def dr_needs_copies(tenant: Mapping[str, Any], at: At) -> None:
    entitlements = picked(tenant, "entitlements") or {}
    at = at / "entitlements" / "multi_region_dr"
    if "multi_region_dr" in entitlements and "inter_region_backup" not in entitlements:
        at.wrong("needs inter_region_backup: without it there are no copies in the second region to restore from")
    region = picked(entitlements, "multi_region_dr", "region")
    copies = picked(entitlements, "inter_region_backup", "region")
    if region and copies and region != copies:
        (at / "region").wrong(
            f"{region!r} is not the region of inter_region_backup; expected {copies!r}: the copies are there"
        )


def copies_leave_home(tenant: Mapping[str, Any], at: At) -> None:
    region = picked(tenant, "entitlements", "inter_region_backup", "region")
    for zone in sorted(zones(tenant)):
        if cloud.region_of(zone) == region:
            (at / "entitlements" / "inter_region_backup" / "region").wrong(
                f"{region!r} is the home region of instances in {zone}: a copy there would be lost with the point;"
                " expected another region"
            )
            return


def keys_lie_in_their_region(tenant: Mapping[str, Any], at: At) -> None:
    for region, key in (picked(tenant, "kms_keys") or {}).items():
        found = None if key is BAD else KMS_KEY.fullmatch(key)
        # Keys of a multi-region or of `global` may serve; a key of another region never does.
        if found and found["location"] != region and re.fullmatch(REGION_WORD, found["location"]):
            (at / "kms_keys" / region).wrong(
                f"{shown(key)} lies in {found['location']}; expected a key in {region}, where it is to be used"
            )


def subnetworks_lie_in_their_region(recovery: Mapping[str, Any], at: At) -> None:
    for region, subnetwork in (picked(recovery, "subnetworks") or {}).items():
        if subnetwork is not BAD and f"/regions/{region}/" not in subnetwork:
            (at / "subnetworks" / region).wrong(
                f"{shown(subnetwork)} lies elsewhere; expected a subnetwork in {region}"
            )


def zones(tenant: Mapping[str, Any]) -> set[str]:
    """The zones of the instances that are selected by name and fit."""
    return {one["zone"] for one in picked(tenant, "instances") or () if "zone" in one}


# --- the form of the file ----------------------------------------------------------------------------------------

BY_NAME: Final = record(ByName, {"name": INSTANCE, "zone": ZONE})
BY_LABEL: Final = record(ByLabel, {"label": LABEL})


def judge_selector(value: object, at: At) -> object:
    return (BY_LABEL if isinstance(value, dict) and "label" in value else BY_NAME).take(value, at)


SELECTORS: Final = records(
    Check("{name: …, zone: …}, or one {label: key=value}", judge_selector),
    most=INSTANCES_PER_TENANT_MAX,
    key=lambda one: one["label"] if "label" in one else (one["name"], one["zone"]),
)


def judge_instances(value: object, at: At) -> object:
    """A list of instances by name, or one label: as a mapping, or as the only item of a list."""
    if isinstance(value, dict):
        one = BY_LABEL.take(value, at)
        return BAD if BAD in one.values() else [one]
    if value == []:
        return at.wrong(f"selects nothing; expected {SELECTORS.expected}")
    taken = SELECTORS.take(value, at)
    if taken is not BAD and len(taken) > 1 and any("label" in one for one in taken):
        return at.wrong("a label stands with other selectors; expected instances by name, or one label alone")
    return taken


RETENTION_BOUNDS: Final = {
    "keep_last": whole(0, 1_000),
    "keep_daily": whole(0, 3_660),
    "keep_weekly": whole(0, 520),
    "keep_monthly": whole(0, 120),
    "keep_yearly": whole(0, 100),
    "keep_within_days": whole(0, 3_660, "days"),
    "lock_days": whole(0, 3_660, "days"),
}

POLICY: Final = record(
    Retention, {**RETENTION_BOUNDS, "keep_after_gone_days": whole(0, 3_660, "days")}, rules=(keeps_something,)
)

ENTITLEMENTS: Final = record(
    Entitlements,
    {
        "inter_region_backup": record(
            InterRegionBackup,
            {
                "region": REGION,
                "valid_until": DAY,
                "retention": record(CopyRetention, RETENTION_BOUNDS, rules=(keeps_something,)),
            },
        ),
        "multi_region_dr": record(MultiRegionDr, {"region": REGION, "valid_until": DAY}),
    },
)

TENANT: Final = record(
    Tenant,
    {
        "id": TENANT_ID,
        "name": TENANT_NAME,
        "deployment": choice("saas", "private_saas"),
        "project": PROJECT,
        "vault_project": PROJECT,
        "instances": Check(SELECTORS.expected, judge_instances),
        "timezone": TIME_ZONE,
        "schedule": record(
            Schedule,
            {
                "daily_at": TIME_OF_DAY,
                "spread_minutes": whole(0, 240, "minutes"),
                "catch_up_hours": whole(1, 23, "hours"),
            },
        ),
        "consistency": choice("crash", "guest_flush", "group"),
        "retention": POLICY,
        "rpo_hours": whole(1, 8_784, "hours"),
        "kms_keys": by_region(KMS_KEY_CHECK),
        "entitlements": ENTITLEMENTS,
        "recovery": record(
            Recovery,
            {"network": NETWORK, "subnetworks": by_region(SUBNETWORK), "service_account": SERVICE_ACCOUNT},
            rules=(subnetworks_lie_in_their_region,),
        ),
        "client_backups": records(
            record(ClientBackup, {"kind": choice("credentials", "videos"), "every_hours": whole(1, 8_784, "hours")}),
            most=2,
            key=lambda one: one["kind"],
        ),
        "access_networks": records(ADDRESSES, most=NETWORKS_MAX, key=lambda one: one),
        "restore_test": record(
            RestoreTest,
            {"every_days": whole(1, 366, "days"), "network": NETWORK, "subnetworks": by_region(SUBNETWORK)},
            rules=(subnetworks_lie_in_their_region,),
        ),
        "probe": record(Probe, {"kind": choice("tcp", "http"), "port": whole(1, 65_535), "path": URL_PATH}),
    },
    rules=(guest_flush_is_not_copied, dr_needs_copies, copies_leave_home, keys_lie_in_their_region),
    optional=("vault_project",),
    expected="a tenant (a mapping)",
)


# --- warnings: valid, but likely not what is wanted --------------------------------------------------------------


def rpo_covers_a_day(tenant: Mapping[str, Any], at: At) -> None:
    spread = tenant["schedule"]["spread_minutes"]
    if tenant["deployment"] == "saas" and tenant["rpo_hours"] * 60 < 24 * 60 + spread:
        (at / "rpo_hours").wrong(
            f"{tenant['rpo_hours']} is less than a day and the spread of {spread} minutes:"
            " with one point a day the tenant may be in breach every day"
        )


def keys_cover_regions(tenant: Mapping[str, Any], at: At) -> None:
    keys = tenant["kms_keys"]
    copies = picked(tenant, "entitlements", "inter_region_backup", "region")
    regions = {cloud.region_of(zone) for zone in zones(tenant)} | ({copies} if copies else set())
    for region in sorted(regions - set(keys)) if keys else ():
        if region == copies:
            left = "what is encrypted with a customer's key at home is not copied there (no_kms_key)"
        else:
            left = "what is stored there is encrypted with Google's own keys"
        (at / "kms_keys").wrong(f"no key for {region}: {left}")


def dr_has_a_place(tenant: Mapping[str, Any], at: At) -> None:
    region = picked(tenant, "entitlements", "multi_region_dr", "region")
    if region and region not in (picked(tenant, "recovery", "subnetworks") or {}):
        (at / "entitlements" / "multi_region_dr").wrong(
            f"restores into {region} will need recovery.subnetworks.{region}"
        )


def dr_ends_with_copies(tenant: Mapping[str, Any], at: At) -> None:
    last = picked(tenant, "entitlements", "multi_region_dr", "valid_until")
    copies = picked(tenant, "entitlements", "inter_region_backup", "valid_until")
    if last and last > copies:
        (at / "entitlements" / "multi_region_dr" / "valid_until").wrong(
            f"{last!r} is after {copies!r}, when inter_region_backup ends: from then on there are no new copies"
        )


def tests_are_isolated(tenant: Mapping[str, Any], at: At) -> None:
    network = picked(tenant, "restore_test", "network")
    if network and network == picked(tenant, "recovery", "network"):
        (at / "restore_test" / "network").wrong(
            f"{shown(network)} is also recovery.network: restore tests will not be isolated from it"
        )


def access_is_limited(tenant: Mapping[str, Any], at: At) -> None:
    for index, network in enumerate(tenant["access_networks"]):
        if network.endswith("/0"):
            (at / "access_networks" / index).wrong(f"{network!r} is every address: access is not limited")


WARNINGS: Final[tuple[Rule, ...]] = (
    rpo_covers_a_day,
    keys_cover_regions,
    dr_has_a_place,
    dr_ends_with_copies,
    tests_are_isolated,
    access_is_limited,
)


# --- reading -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One valid tenant of the fleet file. `normal` is its entry, in the file's own form, every default written out."""

    file: str
    index: int  # in the file's `tenants`
    normal: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.normal["id"])

    def tenant(self, *, applied_at: datetime, applied_by: str, before: Tenant | None = None) -> Tenant:
        """The document to store. What no fleet file says of the tenant is taken over from `before`, the stored one."""
        selectors = self.normal["instances"]
        labels = [one for one in selectors if "label" in one]
        tenant = msgspec.convert(
            {
                **self.normal,
                "instances": {
                    "by_name": [one for one in selectors if "name" in one],
                    "by_label": labels[0] if labels else None,
                },
                "updated_at": applied_at,
                "applied_at": applied_at,
                "applied_by": applied_by,
            },
            Tenant,
        )
        if before is None:
            return tenant
        return msgspec.structs.replace(tenant, **{name: getattr(before, name) for name in (*KEPT, *DECIDED)})


@dataclass(frozen=True, slots=True)
class Reading:
    """What a file or folder says: its valid tenants, in the order of files and of places in them, and its mistakes."""

    files: tuple[str, ...]
    valid: tuple[Entry, ...]  # every tenant without a mistake: what --keep-going applies
    mistakes: tuple[Mistake, ...]
    warnings: tuple[Mistake, ...]
    ids: Mapping[tuple[str, int], str] = field(default_factory=dict)  # file and index -> the id written there

    @property
    def clean(self) -> tuple[Entry, ...]:
        """The tenants of files without any mistake: what is applied unless told to keep going."""
        refused = {mistake.file for mistake in self.mistakes}
        refused |= {file for mistake in self.mistakes for file, _ in mistake.also}
        return tuple(entry for entry in self.valid if entry.file not in refused)

    @property
    def by_tenant(self) -> dict[str, tuple[Mistake, ...]]:
        """The mistakes of each tenant that is not valid; those of no tenant, or of one without an id, are left out."""
        found: dict[str, tuple[Mistake, ...]] = {}
        for mistake in self.mistakes:
            for tenant in {self.ids[entry]: None for entry in mistake.entries if entry in self.ids}:
                found[tenant] = (*found.get(tenant, ()), mistake)
        return found


def read(path: Path) -> Reading:
    """Read a fleet file, or every `*.yaml` and `*.yml` in a folder and the folders below it, in the order of paths.

    Hidden files and folders (`.git`) are left out, and linked folders are not entered. Never raises for what it finds:
    a path that cannot be read is a Mistake like any other. Messages name files as `path` leads to them.
    """
    report: list[Mistake] = []
    contents: dict[str, bytes] = {}
    room = FLEET_BYTES_MAX
    for file in files_of(path, report):
        at = At(str(file), report)
        content = content_of(file, at)
        if content is None:
            continue
        room -= len(content)
        if room < 0:
            at.wrong(f"not read, nor any file after it: the files together are larger than {FLEET_BYTES_MAX} bytes")
            break
        contents[str(file)] = content
    reading = parse(contents)
    unread = tuple(mistake.file for mistake in report)
    return replace(reading, files=(*unread, *reading.files), mistakes=(*report, *reading.mistakes))


def files_of(path: Path, report: list[Mistake]) -> list[Path]:
    """The files to read. A path that cannot be looked at is reported."""
    at = At(str(path), report)
    if not path.is_dir():
        return [path]
    found: list[Path] = []
    looked_at = 0
    try:
        for folder, folders, names in os.walk(path, onerror=raise_it):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            looked_at += len(folders) + len(names)
            if looked_at > FOLDER_ENTRIES_MAX:
                at.wrong(f"holds more than {FOLDER_ENTRIES_MAX} files and folders; expected a folder of fleet files")
                return []
            found += [Path(folder, name) for name in names if name.endswith(SUFFIXES) and not name.startswith(".")]
    except OSError as error:
        at.wrong(f"cannot be read: {error.strerror}")
        return []
    if not found:
        at.wrong(f"holds no fleet file; expected files named *{' or *'.join(SUFFIXES)}")
    if len(found) > FILES_MAX:
        at.wrong(f"holds {len(found)} files, more than {FILES_MAX}")
        return []
    return sorted(found)


def raise_it(error: OSError) -> None:
    raise error


def content_of(file: Path, at: At) -> bytes | None:
    try:
        if file.exists() and not file.is_file():
            at.wrong("is neither a file nor a folder")
            return None
        with file.open("rb") as stream:
            content = stream.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        at.wrong(f"cannot be read: {getattr(error, 'strerror', None) or error}")
        return None
    if len(content) > FILE_BYTES_MAX:
        at.wrong(f"is larger than {FILE_BYTES_MAX} bytes; expected the fleet in several files")
        return None
    return content


def read_policy(path: Path, tenant: str) -> tuple[Retention | None, tuple[Mistake, ...]]:
    """A policy to try out on a tenant, or else what is wrong: of a fleet file, or of a mapping of its parts alone.

    Never raises for what it finds.
    """
    at = At(str(path), [])
    content = content_of(path, at)
    if content is None:
        return None, tuple(at.report)
    if (reading := parse({str(path): content})).valid or reading.ids:
        found = [entry for entry in reading.valid if entry.id == tenant]
        if found and not reading.mistakes:
            return msgspec.convert(found[0].normal["retention"], Retention), ()
        if not reading.mistakes:
            at.wrong(f"names no tenant {tenant}; expected its entry, or a mapping such as keep_daily: 7")
        return None, (*at.report, *reading.mistakes)
    try:
        whole_file = Builder(content.decode("utf-8-sig")).document(at)
        given = whole_file["retention"] if isinstance(whole_file, dict) and "retention" in whole_file else whole_file
        taken = POLICY.take(given, at)
    except (Unreadable, UnicodeDecodeError) as error:
        at.wrong(f"cannot be read: {error}")
    return (None if at.report else msgspec.convert(taken, Retention)), tuple(at.report)


def policy_of(given: object, file: str) -> tuple[Retention | None, tuple[Mistake, ...]]:
    """A policy as the fleet file writes `retention`, already parsed, or else what is wrong with it."""
    at = At(file, [])
    taken = POLICY.take(given, at / "retention")
    return (None if at.report else msgspec.convert(taken, Retention)), tuple(at.report)


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry as read, valid or not: refused values are BAD."""

    at: At
    index: int
    fields: Mapping[str, Any]

    @property
    def place(self) -> tuple[str, int]:
        return (self.at.file, self.index)


def parse(contents: Mapping[str, bytes]) -> Reading:
    """The same for files at hand: name -> content."""
    report: list[Mistake] = []
    drafts: list[Draft] = []
    for file, content in contents.items():
        at = At(file, [])
        try:
            drafts += drafts_of(content, at, room=TENANTS_MAX - len(drafts))
        except Unreadable as error:
            report.append(Mistake(file, (), str(error)))
        report += at.report
    report += shared(drafts, "id", lambda draft: [picked(draft.fields, "id")])
    report += shared(drafts, "instances", claims)

    order = {file: number for number, file in enumerate(contents)}
    report.sort(key=lambda mistake: (order[mistake.file], *(entry[1] for entry in mistake.entries[:1])))
    unusable = {entry for mistake in report for entry in mistake.entries}
    warnings: list[Mistake] = []
    valid: list[Entry] = []
    for draft in drafts:
        if draft.place in unusable:
            continue
        normal = {"vault_project": draft.fields["project"], **draft.fields}
        valid.append(Entry(draft.at.file, draft.index, normal))
        at = replace(draft.at, report=[])
        for rule in WARNINGS:
            rule(normal, at)
        warnings += at.report
    ids = {draft.place: picked(draft.fields, "id") for draft in drafts}
    return Reading(
        tuple(contents),
        tuple(valid),
        tuple(report),
        tuple(warnings),
        {entry: tenant for entry, tenant in ids.items() if tenant is not None},
    )


def drafts_of(content: bytes, at: At, *, room: int) -> list[Draft]:
    """The tenants of one file, at most `room` of them. Raises Unreadable."""
    try:
        whole_file = Builder(content.decode("utf-8-sig")).document(at)
    except UnicodeDecodeError as error:
        at.wrong(f"byte {error.start} is not UTF-8; expected a text file in UTF-8")
        return []
    if whole_file is BAD:
        return []
    if whole_file is None:
        at.wrong("is empty; expected a mapping with the key tenants")
        return []
    if not isinstance(whole_file, dict):
        at.wrong(f"{shown(whole_file)} is not a mapping with the key tenants")
        return []
    for key in whole_file:
        if key != "tenants":
            (at / key).wrong(unknown(key, ("tenants",)))
    at = at / "tenants"
    if "tenants" not in whole_file:
        at.wrong("is missing; expected a list of tenants")
        return []
    tenants = whole_file["tenants"]
    if tenants is BAD:
        return []
    if not isinstance(tenants, list) or not tenants:
        at.wrong(f"{shown(tenants) if tenants != [] else 'an empty list'} is not a list of one or more tenants")
        return []
    if len(tenants) > room:
        at.wrong(f"with these {len(tenants)} the fleet has more than {TENANTS_MAX} tenants")
        return []
    return [
        Draft(at / index, index, fields)
        for index, tenant in enumerate(tenants)
        if (fields := TENANT.take(tenant, at / index)) is not BAD
    ]


def claims(draft: Draft) -> list[str]:
    """What a tenant selects, in words that two tenants must not share."""
    project = picked(draft.fields, "project")
    if project is None:
        return []
    return [
        f"{one['name']} in {project}, {one['zone']}" if "name" in one else f"{one['label']} in {project}"
        for one in picked(draft.fields, "instances") or ()
    ]


def shared(drafts: Iterable[Draft], what: str, keys: Callable[[Draft], Iterable[str | None]]) -> Iterator[Mistake]:
    """A mistake for each key that a second tenant has too, at the second, naming the first. Neither can be used."""
    first: dict[str, Draft] = {}
    for draft in drafts:
        for key in keys(draft):
            if key is None or (other := first.setdefault(key, draft)) is draft:
                continue
            tenant, others = picked(draft.fields, "id"), picked(other.fields, "id")
            if what != "id" and tenant == others:
                continue  # one tenant written twice: said of its id
            where = f"{other.at.file}: {place(other.at.path)}"
            also = f"the id of {where}" if what == "id" else f"selected by {others or 'a tenant'} ({where})"
            message = f"{key!r} is also {also}; expected one tenant only"
            yield Mistake(draft.at.file, (*draft.at.path, what), message, (other.place,))


# --- comparing ---------------------------------------------------------------------------------------------------

KEPT: Final = (
    "discover_at", "unmatched", "discovery_failure", "entitlements_at", "copies_ended", "restore_test_at",
    "restore_tested", "restore_testing",
)  # fmt: skip
"""What discovery, `entitlements` and `restore_test` keep about a tenant."""

DECIDED: Final = ("holds", "held", "offboarding", "schedule_switch")
"""What people have decided about it, command by command."""

NOT_WRITTEN: Final = frozenset(("schema", "updated_at", "applied_at", "applied_by", *KEPT, *DECIDED))
"""Fields of a tenant's document that do not come from the fleet file."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that applying changes; `str()` is its line. `path` is () for a tenant that is new as a whole."""

    tenant: str
    path: tuple[str, ...]
    old: object  # None: it was not there
    new: object  # None: it is gone

    @property
    def field(self) -> str:
        return ".".join(self.path)

    def __str__(self) -> str:
        if not self.path:
            return f"{self.tenant}: new"
        return f"{self.tenant}: {self.field}: {side(self.old)} -> {side(self.new)}"


def side(value: object) -> str:
    return "none" if value is None else str(value)


def written(tenant: Tenant) -> dict[str, Any]:
    """The fleet file's entry, every default written out, that this tenant's document was made from."""
    data = msgspec.to_builtins(tenant)
    selected = data.pop("instances")
    selectors = [*selected["by_name"], *([selected["by_label"]] if selected["by_label"] else [])]
    written = {
        name: without_nulls(value) for name, value in data.items() if name not in NOT_WRITTEN and value is not None
    }
    return {**written, "instances": selectors}


def diff(before: Tenant | None, after: Tenant) -> list[Difference]:
    """What applying `after` changes of the fleet file's part of a tenant, in the order of paths; [] if nothing.

    When and by whom it was applied, what discovery keeps and what people have decided is no difference.
    """
    if before is None:
        return [Difference(after.id, (), None, after.id)]
    old, new = dict(flat(written(before))), dict(flat(written(after)))
    return [
        Difference(after.id, path, old.get(path), new.get(path))
        for path in sorted({*old, *new})
        if old.get(path) != new.get(path)
    ]


def flat(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every single value with its path. Items of lists go by what they are, so that order and place say nothing."""
    match value:
        case dict():
            for key, inner in value.items():
                yield from flat(inner, (*path, key))
        case list():
            for item in value:
                match item:
                    case {"name": name, "zone": zone}:
                        yield (*path, f"{name} in {zone}"), "selected"
                    case {"label": label}:
                        yield (*path, label), "selected"
                    case {"kind": kind, "every_hours": hours}:
                        yield (*path, kind, "every_hours"), hours
                    case _:
                        yield (*path, str(item)), "listed"
        case _:
            yield path, value
