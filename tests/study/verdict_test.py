"""The rule: every step of it, its order, and what is said beside the word."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topstitch.study.plan import Unit
from topstitch.study.saying import LACKS, here, reasons
from topstitch.study.schema import WORDS
from topstitch.study.verdict import ENOUGH, ERRORS, RULE, Ends, Numbers, lacking, off, verdict

MARGIN = 0.02
NOTHING = Ends(0.0, -0.004, 0.004)
GOOD = Numbers(
    MARGIN,
    effective=400.0,
    gain=Ends(0.05, 0.01, 0.09),
    control=NOTHING,
    placebo=NOTHING,
    net=Ends(0.048, 0.008, 0.09),
    likely=0.015,
    bound=0.003,
)


@pytest.mark.parametrize(
    ("change", "word", "code"),
    [
        (dict(), "deploy", "shown"),
        (dict(critical=1), "cannot tell", "critical"),
        (dict(refused="no density"), "cannot tell", "refused"),
        (dict(effective=ENOUGH - 1), "cannot tell", "thin"),
        (dict(effective=math.nan), "cannot tell", "thin"),
        (dict(control=Ends(0.015, 0.004, 0.02)), "cannot tell", "control"),
        (dict(control=Ends(-0.015, -0.02, -0.004)), "cannot tell", "control"),
        (dict(placebo=Ends(0.015, 0.004, 0.02)), "cannot tell", "placebo"),
        (dict(gain=Ends(-0.03, -0.05, -0.01), net=Ends(-0.02, -0.04, -0.005), likely=-0.04, bound=-0.2), "do not", "harm"),
        (dict(gain=Ends(0.005, -0.005, 0.015), net=Ends(0.004, -0.006, 0.014), likely=-0.003, bound=-0.1), "do not", "futile"),
        (dict(bound=None), "trial", "promising"),
        (dict(bound=-0.1), "trial", "promising"),
        (dict(cautions=1), "trial", "promising"),
        (dict(net=Ends(0.04, -0.001, 0.08)), "trial", "promising"),
        (dict(bound=None, net=Ends(0.04, -MARGIN - 0.001, 0.08)), "cannot tell", "unsettled"),
        (dict(bound=None, gain=Ends(0.04, -0.005, 0.09), likely=-0.001), "cannot tell", "unsettled"),
        (dict(gain=Ends(math.nan, math.nan, math.nan), likely=math.nan, bound=None), "cannot tell", "unsettled"),
    ],
)
def test_every_step_of_the_rule(change, word, code):
    found = verdict(GOOD._replace(**change))
    assert (found.word, found.code) == (word, code)


def test_a_control_that_gains_less_than_half_of_what_matters_is_not_off():
    assert not off(Ends(0.4 * MARGIN, 0.001, 0.015), MARGIN)
    assert not off(Ends(2 * MARGIN, -0.001, 4 * MARGIN), MARGIN)
    assert off(Ends(0.6 * MARGIN, 0.001, 0.02), MARGIN)


def test_harm_and_futility_ask_both_gains():
    assert verdict(GOOD._replace(gain=Ends(-0.03, -0.05, -0.01), bound=None)).code == "unsettled"
    small = GOOD._replace(gain=Ends(0.005, -0.005, 0.015), net=Ends(0.01, -0.005, 0.03), likely=-0.002, bound=None)
    assert verdict(small).code == "unsettled"


@pytest.mark.parametrize(
    ("change", "also"),
    [
        (dict(bound=None), ("unbounded",)),
        (dict(bound=-0.1, cautions=2), ("caution", "bound")),
        (dict(net=Ends(0.04, -0.001, 0.08)), ("net",)),
        (dict(bound=None, likely=-0.001, gain=Ends(0.04, -0.03, 0.09)), ("gain", "harm")),
    ],
)
def test_what_else_bears_on_it(change, also):
    assert verdict(GOOD._replace(**change)).also == also


number = st.floats(-1, 1) | st.just(math.nan)
ends = st.lists(st.floats(-1, 1), min_size=3, max_size=3).map(lambda x: Ends(sorted(x)[1], min(x), max(x)))
anything = st.builds(
    Numbers, margin=st.floats(1e-3, 1), critical=st.integers(0, 2), cautions=st.integers(0, 2), refused=st.none() | st.just("no"),
    effective=st.floats(0, 1e4), gain=ends, control=ends, placebo=ends, net=ends, likely=number, bound=st.none() | number,
)  # fmt: skip


@given(anything)
def test_any_numbers_have_a_word_and_words_keep_their_promises(x):
    found = verdict(x)
    assert found.word in WORDS
    if found.word == "deploy":
        assert x.bound is not None and x.bound > 0 and x.net.low > 0 and not lacking(x)
    if found.word in ("deploy", "trial"):
        assert x.effective >= ENOUGH and not x.critical and x.refused is None
    if found.word == "trial":
        assert x.likely > 0 and x.gain.low > -x.margin and x.net.low > -x.margin
    if found.word == "do not":
        assert max(x.gain.high, x.net.high) < x.margin
    for kind in ("share", "return"):
        said = reasons(found, x, Unit(kind), None)
        assert said[0]["code"] == found.code and all(one["text"] for one in said)
        assert found.code != "refused" or said[0]["text"] == "No"  # what was said, and no question before it
        assert all(here(step.code, x, Unit(kind), None) for step in RULE)


@given(anything, st.floats(0, 0.5))
def test_less_evidence_is_never_better(x, less):
    """Lowering every lower end never turns another word into deploy or trial."""
    lower = lambda e: e._replace(low=e.low - less)
    worse = x._replace(gain=lower(x.gain), net=lower(x.net), likely=x.likely - less, bound=None if x.bound is None else x.bound - less)
    rank = {"cannot tell": 0, "do not": 0, "trial": 1, "deploy": 2}
    assert rank[verdict(worse).word] <= rank[verdict(x).word]


def test_every_code_has_words():
    codes = {code for x in (GOOD, GOOD._replace(bound=None), GOOD._replace(bound=-1.0, cautions=1)) for code in lacking(x)}
    assert codes | {"net", "gain", "harm"} == set(LACKS)
    assert set(ERRORS) == {step.word for step in RULE} - {"cannot tell"}
    assert all(np.isfinite(list(ERRORS.values())))


def test_amounts_are_written_as_people_write_them():
    money, share = Unit("return"), Unit("share")
    assert (money.level(12345.6), money.level(0.012344), money.difference(-1234.4)) == ("12,346", "0.01234", "-1,234")
    assert money.gain(1234.4, -23456.0, 0.5) == "+1,234 (-23,456 to +0.5)"
    assert share.gain(0.006, -0.002, 0.017) == "+0.6 points (-0.2 to +1.7)"
    assert here("critical", GOOD._replace(critical=1), money, None) == "1 critical finding."
