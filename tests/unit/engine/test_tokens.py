"""Attempt tokens are proven, not believed (I5, S9)."""

from hypothesis import given
from hypothesis import strategies as st

from openaperture.domain.attempts import AttemptKey
from openaperture.engine.tokens import TokenMint

KEY = AttemptKey(generation=0, position=1, number=2)
MINT = TokenMint("a key of the test")


def test_a_token_names_its_attempt() -> None:
    assert MINT.find_key("w", MINT.mint("w", KEY)) == KEY


def test_a_token_of_another_workflow_or_key_proves_nothing() -> None:
    assert MINT.find_key("v", MINT.mint("w", KEY)) is None
    assert MINT.find_key("w", TokenMint("another key").mint("w", KEY)) is None


@given(st.text(max_size=60))
def test_invented_tokens_prove_nothing(token: str) -> None:
    assert MINT.find_key("w", token) is None


@given(st.integers(0, 200), st.characters())
def test_a_token_with_one_character_changed_proves_nothing(index: int, char: str) -> None:
    token = MINT.mint("w", KEY)
    at = index % len(token)
    changed = token[:at] + char + token[at + 1 :]
    assert (MINT.find_key("w", changed) is None) == (changed != token)
