# SPDX-License-Identifier: Apache-2.0
import pytest

from weir.errors import InvalidRequest
from weir_client._token import token_metadata


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "token"
    found.touch(mode=0o600)
    return found


def test_without_a_token_nothing_is_shown():
    assert token_metadata(None) == ()


def test_text_a_file_and_a_function_give_the_same_metadata(path):
    path.write_text("a.b-c_d\n")
    expected = (("authorization", "Bearer a.b-c_d"),)
    assert token_metadata("a.b-c_d") == token_metadata(path) == token_metadata(lambda: " a.b-c_d ") == expected


def test_a_file_is_read_anew_for_each_call(path):
    path.write_text("one")
    assert token_metadata(path) == (("authorization", "Bearer one"),)
    path.write_text("two")
    assert token_metadata(path) == (("authorization", "Bearer two"),)


@pytest.mark.parametrize(
    "token",
    ["", " ", "two words", "line\nbreak", "x" * 16_385, "é", lambda: "", lambda: None, lambda: b"bytes"],
    ids=["nothing", "a space", "two words", "a line break", "too long", "not ASCII", "f nothing", "f None", "f bytes"],
)
def test_what_is_no_token_is_refused_without_quoting_it(token):
    with pytest.raises(InvalidRequest) as caught:
        token_metadata(token)
    assert (caught.value.rule, caught.value.field) == ("token.form", "token")
    assert str(caught.value) == "the token is no bearer token"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_that_others_may_read_is_refused(path, mode):
    path.write_text("token")
    path.chmod(mode)
    with pytest.raises(InvalidRequest) as caught:
        token_metadata(path)
    assert caught.value.rule == "token.mode"


def test_a_file_that_cannot_be_read_is_refused(tmp_path, path):
    for bad in (tmp_path / "none", tmp_path):
        with pytest.raises(InvalidRequest) as caught:
            token_metadata(bad)
        assert caught.value.rule in ("token.file", "token.mode")
    path.write_bytes(b"\xff")
    with pytest.raises(InvalidRequest) as caught:
        token_metadata(path)
    assert caught.value.rule == "token.file"


def test_a_functions_own_error_is_the_callers(path):
    def fails():
        raise RuntimeError("the vault is closed")

    with pytest.raises(RuntimeError, match="vault"):
        token_metadata(fails)
