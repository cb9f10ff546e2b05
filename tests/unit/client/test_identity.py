# SPDX-License-Identifier: Apache-2.0
import json

import pytest

import weir_client
from tests.support.client import identity_document, identity_file
from weir.errors import InvalidRequest
from weir_client._identity import chosen_identity, config_directory, identity_from_json, state_directory


def test_an_identity_is_read_from_a_path_or_by_a_short_name(domain, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = identity_file(domain, tmp_path)
    (tmp_path / "config" / "weir").mkdir(parents=True)
    path.rename(tmp_path / "config" / "weir" / "alice.json")
    short = weir_client.load_identity("alice")
    assert short == weir_client.load_identity(tmp_path / "config" / "weir" / "alice.json")
    assert short.uri == "weir://test.example/requester/alice"
    assert short.address == domain.address


def test_the_private_key_is_not_shown(domain):
    shown = repr(identity_from_json(identity_document(domain)))
    assert "PRIVATE" not in shown
    assert "alice" in shown


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused(domain, tmp_path, mode):
    path = identity_file(domain, tmp_path)
    path.chmod(mode)
    with pytest.raises(InvalidRequest) as caught:
        weir_client.load_identity(path)
    assert caught.value.rule == "identity.mode"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"weir_identity": 2}', '{"weir_identity": 1}', "\xff", '{"weir_identity": 1, "name": 3}']
)
def test_another_file_is_no_identity(tmp_path, text):
    path = tmp_path / "x.weir"
    path.write_text(text, encoding="latin-1")
    path.chmod(0o600)
    with pytest.raises(InvalidRequest) as caught:
        weir_client.load_identity(path)
    assert caught.value.rule == "identity.form"


def test_a_missing_member_is_named(domain):
    document = identity_document(domain)
    del document["log_key"]
    with pytest.raises(InvalidRequest, match="log_key"):
        identity_from_json(json.loads(json.dumps(document)))


def test_a_missing_file_is_named_with_both_places(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(InvalidRequest, match=r"bob\.json"):
        weir_client.load_identity("bob")


def test_directories_follow_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert config_directory() == tmp_path / ".config" / "weir"
    assert state_directory() == tmp_path / ".local" / "state" / "weir"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "s"))
    assert state_directory() == tmp_path / "s" / "weir"


def test_a_gateways_calls_are_those_of_whom_it_carries(domain):
    portal = identity_from_json({**identity_document(domain), "role": "gateway", "name": "portal"})
    assert portal.caller is None
    with pytest.raises(InvalidRequest) as caught:
        _ = portal.key_context
    assert caught.value.rule == "identity.carries"
    carrying = chosen_identity(portal, requester="alice")
    assert (carrying.caller, carrying.key_context) == ("alice", b"weir://test.example/requester/alice")
    assert carrying.uri == "weir://test.example/gateway/portal"


def test_nobody_else_carries_anybody(domain):
    alice = identity_from_json(identity_document(domain))
    assert chosen_identity(alice, requester=None).caller == "alice"
    with pytest.raises(InvalidRequest) as caught:
        chosen_identity(alice, requester="bob")
    assert caught.value.rule == "identity.carries"
