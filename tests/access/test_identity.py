"""Who comes in: IAP's signed header, verified with real keys; and a local cloud's word, which is believed."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import flask
import pytest
from tests.access.iap import AUDIENCE, KEY_ID, KEYS, bad, claims, curve_key, public, token
from tests.cli.typing_in import serving
from tests.makers import THEN, HandClock

from snapkeep import config, wiring
from snapkeep.gcp import identity
from snapkeep.gcp.identity import FAILED_PAUSE, HEADER, KEYS_KEPT, UNKNOWN_KEY_PAUSE, IapIdentities
from snapkeep.local_sign_in import COOKIE, LocalSignIn
from snapkeep.local_sign_in import HEADER as LOCAL_HEADER
from snapkeep.ports import Transient, Unidentified

BAD: Final = bad()


class Google:
    """Where keys are published, and how often it was asked."""

    def __init__(self, keys: Mapping[str, str] = KEYS) -> None:
        self.keys = dict(keys)
        self.asked = 0
        self.away = False

    def __call__(self) -> Mapping[str, str]:
        self.asked += 1
        if self.away:
            raise Transient("no answer")
        return dict(self.keys)


@pytest.fixture
def google() -> Google:
    return Google()


@pytest.fixture
def clock() -> HandClock:
    return HandClock(THEN)


@pytest.fixture
def iap(google: Google, clock: HandClock) -> IapIdentities:
    return IapIdentities(AUDIENCE, clock, google)


def nothing(name: str) -> str | None:
    """What was sent by whoever sent nothing."""
    return None


def who(iap: IapIdentities, said: str | None) -> str:
    return iap.who({HEADER: said}.get, nothing)


# --- IAP ----------------------------------------------------------------------------------------------------------


def test_whom_iap_has_signed_for_is_known_by_his_address_in_lower_case(iap: IapIdentities) -> None:
    assert who(iap, token(claims())) == "admin@vendor.example"
    assert who(iap, token(claims(email="Anna.Maria+x@Vendor.Example"))) == "anna.maria+x@vendor.example"


@pytest.mark.parametrize("what", BAD)
def test_whatever_iap_has_not_signed_so_is_refused_and_said_in_few_words(iap: IapIdentities, what: str) -> None:
    said, reason = BAD[what]
    with pytest.raises(Unidentified) as refused:
        who(iap, said)
    assert refused.value.reason == reason


def test_a_letter_that_is_lower_case_of_another_makes_nobody_somebody_else(iap: IapIdentities) -> None:
    assert "\u212a".lower() == "k"  # the Kelvin sign
    for email in ("\u212aim@vendor.example", "kim@\u212aendor.example"):
        with pytest.raises(Unidentified, match="no email address"):
            who(iap, token(claims(email=email)))


def test_a_local_clouds_header_means_nothing_to_iap(iap: IapIdentities) -> None:
    with pytest.raises(Unidentified, match="no identity"):
        iap.who({LOCAL_HEADER: "admin@vendor.example"}.get, {COOKIE: "admin@vendor.example"}.get)


# --- keys ---------------------------------------------------------------------------------------------------------


def test_keys_are_asked_for_once_a_day(iap: IapIdentities, google: Google, clock: HandClock) -> None:
    for _ in range(3):
        who(iap, token(claims()))
    assert google.asked == 1
    clock.at += KEYS_KEPT
    who(iap, token(claims()))
    assert google.asked == 2


def test_a_new_key_is_asked_for_when_it_is_first_met(iap: IapIdentities, google: Google, clock: HandClock) -> None:
    who(iap, token(claims()))
    new = curve_key()
    google.keys["new"] = public(new)
    clock.at += UNKNOWN_KEY_PAUSE
    assert who(iap, token(claims(), key=new, key_id="new")) == "admin@vendor.example"
    assert google.asked == 2


def test_invented_key_ids_cost_one_question_a_minute(iap: IapIdentities, google: Google, clock: HandClock) -> None:
    for number in range(20):
        with pytest.raises(Unidentified):
            who(iap, token(claims(), key_id=f"invented-{number}"))
    assert google.asked == 1
    clock.at += UNKNOWN_KEY_PAUSE
    with pytest.raises(Unidentified):
        who(iap, token(claims(), key_id="invented"))
    assert google.asked == 2


def test_a_key_that_google_has_withdrawn_is_believed_for_a_day_at_the_most(
    iap: IapIdentities, google: Google, clock: HandClock
) -> None:
    who(iap, token(claims()))
    del google.keys[KEY_ID]
    who(iap, token(claims()))
    clock.at += KEYS_KEPT
    with pytest.raises(Unidentified, match="forged"):
        who(iap, token(claims()))


def test_without_keys_nobody_is_refused_and_nobody_comes_in(
    iap: IapIdentities, google: Google, clock: HandClock
) -> None:
    google.away = True
    for _ in range(3):
        with pytest.raises(Transient):
            who(iap, token(claims()))
    assert google.asked == 1
    google.away = False
    clock.at += FAILED_PAUSE
    assert who(iap, token(claims())) == "admin@vendor.example"


def test_keys_that_are_known_serve_while_google_is_away(iap: IapIdentities, google: Google, clock: HandClock) -> None:
    who(iap, token(claims()))
    google.away = True
    clock.at += UNKNOWN_KEY_PAUSE
    with pytest.raises(Transient):
        who(iap, token(claims(), key_id="new"))
    assert who(iap, token(claims())) == "admin@vendor.example"


@contextmanager
def keys_page(status: int, body: bytes) -> Iterator[str]:
    """A server that answers every request so, where Google would publish its keys."""
    app = flask.Flask("keys")
    app.add_url_rule("/", "keys", lambda: (body, status))
    with serving(app) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.mark.parametrize(("status", "body"), [(500, b""), (200, b"<html>"), (200, b"[]"), (200, b'{"a": 1}')])
def test_what_is_no_keys_is_a_fault_that_may_pass(status: int, body: bytes) -> None:
    with keys_page(status, body) as url, pytest.raises(Transient, match=re.escape(url)):
        identity.fetch_keys(url)


def test_keys_are_read_from_where_they_are_published() -> None:
    with keys_page(200, b'{"a": "PEM"}') as url:
        assert identity.fetch_keys(url) == {"a": "PEM"}


def test_keys_that_do_not_come_in_time_are_a_fault_that_may_pass() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes a connection, and says nothing
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(Transient, match=f"{re.escape(url)}: .*timed out"):
            identity.fetch_keys(url, timeout_s=0.05)


def test_unless_told_otherwise_keys_are_googles_and_waited_for_for_five_seconds() -> None:
    assert identity.fetch_keys.__defaults__ == ("https://www.gstatic.com/iap/verify/public_key", 5)


# --- a local cloud ------------------------------------------------------------------------------------------------


def test_a_local_cloud_believes_header_and_cookie_and_says_that_it_verifies_nothing() -> None:
    local = LocalSignIn()
    assert not local.verified
    assert local.who({LOCAL_HEADER: " Admin@vendor.example "}.get, nothing) == "admin@vendor.example"
    assert local.who(nothing, {COOKIE: "viewer@vendor.example"}.get) == "viewer@vendor.example"


@pytest.mark.parametrize(
    "said", ["", "nobody", "a/b@vendor.example", "a@b@c", "x" * 300 + "@vendor.example", "\xfc@x.example"]
)
def test_a_local_cloud_takes_no_word_that_is_no_address(said: str) -> None:
    with pytest.raises(Unidentified):
        LocalSignIn().who({LOCAL_HEADER: said}.get, nothing)


# --- which of them ------------------------------------------------------------------------------------------------

PROJECT: Final = {"SNAPKEEP_PROJECT": "p"}


def test_the_local_sign_in_is_refused_beside_any_firestore_but_an_emulator() -> None:
    with pytest.raises(config.ConfigError, match="refused without FIRESTORE_EMULATOR_HOST"):
        config.read(PROJECT | {"SNAPKEEP_SIGN_IN": "local"})
    told = config.read(PROJECT | {"SNAPKEEP_SIGN_IN": "local", "FIRESTORE_EMULATOR_HOST": "127.0.0.1:1"})
    assert told.sign_in == "local"


def test_another_word_for_the_sign_in_is_refused() -> None:
    with pytest.raises(config.ConfigError, match="'none' is not one of iap, local"):
        config.read(PROJECT | {"SNAPKEEP_SIGN_IN": "none"})


def wired(**variables: str) -> object:
    return wiring.identities_of(config.read(PROJECT | variables))


def test_iap_is_what_is_wired_unless_told_otherwise_and_needs_an_audience() -> None:
    with pytest.raises(config.ConfigError, match="SNAPKEEP_IAP_AUDIENCE: not set"):
        wired()
    assert isinstance(wired(SNAPKEEP_IAP_AUDIENCE=AUDIENCE), IapIdentities)
    local = wired(SNAPKEEP_SIGN_IN="local", FIRESTORE_EMULATOR_HOST="127.0.0.1:1")
    assert isinstance(local, LocalSignIn)
