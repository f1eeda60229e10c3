"""Exchanges within exchanges."""

from openaperture.domain.exchanges import Place, Rooted, rooted, would_enclose_itself

PLACES = {
    10: Place(name="AWS", fragment="aws"),
    1: Place(name="us-east-1", parent_id=10, fragment="us-east-1"),
    5: Place(name="rack", parent_id=1, fragment=None),
    6: Place(name="shelf", parent_id=5, fragment="shelf"),
    3: Place(name="lab"),
}


def test_an_exchange_is_reached_at_its_root_under_the_fragments_from_there() -> None:
    assert rooted(PLACES, 1) == Rooted(root_name="AWS", routing_key="aws.us-east-1")
    assert rooted(PLACES, 10) == Rooted(root_name="AWS", routing_key="aws")


def test_an_exchange_without_a_fragment_adds_nothing_to_the_key() -> None:
    assert rooted(PLACES, 6).routing_key == "aws.us-east-1.shelf"
    assert rooted(PLACES, 3) == Rooted(root_name="lab", routing_key="")


def test_exchanges_that_lie_within_each_other_do_not_keep_anybody_busy() -> None:
    ring = {1: Place(name="a", parent_id=2, fragment="a"), 2: Place(name="b", parent_id=1, fragment="b")}
    assert rooted(ring, 1) == Rooted(root_name="b", routing_key="b.a")
    assert not would_enclose_itself(ring, 3, 1)


def test_an_exchange_cannot_be_put_into_what_lies_within_it() -> None:
    assert would_enclose_itself(PLACES, 10, 6)
    assert would_enclose_itself(PLACES, 1, 1)
    assert not would_enclose_itself(PLACES, 3, 6)
    assert not would_enclose_itself(PLACES, 3, None)
