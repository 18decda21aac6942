# SPDX-License-Identifier: Apache-2.0
"""Where images are served: what the parts of a location are, also of a broken one, and that none of it is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bareon.model.location import Location

SECRET = "https://m%40e:w%3Ard@Server:8443/a%20b/c.img.gz?temp_url_sig=s1g#part"


def test_the_parts_of_a_url() -> None:
    location = Location(SECRET)
    assert (location.scheme, location.authority) == ("https", "m%40e:w%3Ard@Server:8443")
    assert (location.host, location.port, location.account) == ("server", 8443, ("m@e", "w:rd"))
    assert (location.path, location.name, location.query) == ("/a b/c.img.gz", "c.img.gz", "temp_url_sig=s1g")
    assert location.sound and location.reveal() == SECRET
    assert location.without_account().reveal() == "https://Server:8443/a%20b/c.img.gz?temp_url_sig=s1g#part"
    assert location.sibling(".yaml") == Location("https://m%40e:w%3Ard@Server:8443/a%20b/c.yaml")


def test_nothing_secret_is_shown() -> None:
    location = Location(SECRET)
    for text in (str(location), repr(location), f"{location}", f"{location!r}"):
        assert "w%3Ard" not in text and "s1g" not in text and "***@Server:8443/a%20b/c.img.gz" in text


def test_it_is_a_value() -> None:
    assert Location(SECRET) == Location(SECRET) != Location(SECRET + "2")
    assert len({Location(SECRET), Location(SECRET)}) == 1
    with pytest.raises(AttributeError):
        Location(SECRET)._whole = "http://server/"  # type: ignore[misc]


def test_a_module_of_an_rsync_daemon() -> None:
    location = Location("me@server::module/path")
    assert (location.scheme, location.host, location.path) == ("rsync", "server", "/module/path")
    assert str(location) == "***@server::module/path" and location.sound
    assert Location("rsync://server:873/module").scheme == "rsync"


@pytest.mark.parametrize(
    ("text", "scheme", "authority", "sound"),
    [
        ("file:///srv/a", "file", "", True),
        ("file:/srv/a", "file", None, True),
        ("FILE://localhost/a", "file", "localhost", True),
        ("http:///a", "http", "", True),
        ("http://server:port/a", "http", "server:port", False),
        ("http://server:99999/a", "http", "server:99999", False),
        ("http://[::1/a", "", None, False),
        ("http://ours\\.evil/a", "http", "ours\\.evil", False),
        ("http://evil\\@ours/a", "http", "evil\\@ours", False),
        (" http://server/a", "", None, False),
        (f"http://{'a.' * 126}a/", "http", f"{'a.' * 126}a", True),
        (f"http://{'a.' * 127}a/", "http", f"{'a.' * 127}a", False),
        ("file::module", "rsync", "file", True),
        ("/srv/a", "", None, True),
        ("", "", None, False),
    ],
)
def test_odd_ones(text: str, scheme: str, authority: str | None, sound: bool) -> None:
    location = Location(text)
    assert (location.scheme, location.authority, location.sound) == (scheme, authority, sound)


@pytest.mark.parametrize(
    ("reference", "there"),
    [
        ("/b?x=1", "http://server:81/b?x=1"),
        ("c", "http://server:81/a/c"),
        ("https://other/", "https://other/"),
        ("//other/b", "http://other/b"),
    ],
)
def test_a_redirect_hands_no_account_on(reference: str, there: str) -> None:
    assert Location("http://me:word@server:81/a/b").joined(reference).reveal() == there


def test_a_broken_redirect() -> None:
    assert not Location("http://server/a").joined("http://[::1").sound


@pytest.mark.parametrize("port", ["", ":443"])
def test_the_default_port_is_the_same_server(port: str) -> None:
    assert Location(f"https://server{port}/a").server == Location("https://me@SERVER/b").server
    assert Location(f"https://server{port}/a").server != Location("http://server/a").server


URLS = st.from_regex(r"\w+://[\w:@\[\]./?#;=%]*", fullmatch=True)


@given(st.text(st.characters(codec="utf-8"), max_size=30) | URLS)
def test_no_text_is_too_odd(text: str) -> None:
    location = Location(text)
    assert location.reveal() == text
    assert isinstance(f"{location} {location!r} {location.host} {location.name} {location.port}", str)
    assert location.server and (location.account is None or location.authority)
    assert location.without_account().account is None
    assert location.sibling(".yaml") is None or location.sibling(".yaml") != location
