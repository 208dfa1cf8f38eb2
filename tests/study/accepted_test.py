"""Cautions that somebody accepts: which can be, and what is left of them."""

import pytest

from topstitch.data import BadData
from topstitch.data.check import Finding
from topstitch.study.accepted import Accepted

FOUND = [
    Finding(severity, code, f"Said of {code}", "", 0, (), (), (), "", {})
    for severity, code in (("critical", "broken"), ("caution", "late"), ("caution", "late"), ("caution", "few"), ("warning", "odd"), ("note", "small"))
]  # fmt: skip


@pytest.mark.parametrize(("codes", "left"), [((), 3), (("late",), 1), (("late", "few"), 0), (("few", "few"), 2)])
def test_every_finding_of_a_code_is_accepted(codes, left):
    assert Accepted(codes).left(FOUND) == left


@pytest.mark.parametrize(
    ("code", "why"),
    [("broken", "must be repaired"), ("odd", "need not be accepted"), ("small", "need not be accepted"), ("lat", "did not find it")],
)
def test_nothing_else_can_be_accepted(code, why):
    with pytest.raises(BadData, match=f"'{code}'.*{why}.*accepted here: late, few"):
        Accepted(("late", code)).left(FOUND)
    with pytest.raises(BadData, match="accepted here: none"):
        Accepted((code,)).left([one for one in FOUND if one.severity != "caution"])


def test_who_accepted_what_is_said_once():
    assert (
        Accepted(("late", "few"), "Dr. Vane").sentence(FOUND)
        == "Accepted for this study by Dr. Vane: Said of few (few); Said of late (late)."
    )
    assert Accepted(("few",)).sentence(FOUND) == "Accepted for this study: Said of few (few)."
    assert Accepted().sentence(FOUND) == "" and Accepted().plain() is None
    assert Accepted(("late", "few", "late")).plain() == {"codes": ["few", "late"], "by": None}
