"""Laws of what a study's page says: every verdict and every weak link has its words, and they follow the numbers."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report import studies

from topstitch.report import log_words, policy_words, words
from topstitch.report.kit import Scale
from topstitch.report.policy_words import Row
from topstitch.report.words import Ends, Terms, ends
from topstitch.study import schema
from topstitch.study import verdict as rule

TERMS = Terms("stay", "stays", "decision", "decisions", "survival", Scale(share=True, digits=1))
number = st.floats(-0.3, 0.3)


@st.composite
def interval(draw, least=-0.3, most=0.3):
    low, value, high = sorted(draw(st.lists(st.floats(least, most), min_size=3, max_size=3)))
    return Ends(value, low, high)


def test_the_page_knows_the_words_links_and_steps_of_a_study():
    assert tuple(words.VERDICTS) == schema.WORDS
    assert schema.LINKS == words.LINKS
    assert {step.code: step.word for step in rule.RULE} == studies.STEPS
    assert rule.ENOUGH == words.FEW


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("code", studies.STEPS)
def test_every_step_of_the_rule_has_its_own_sentence(code, share):
    made = studies.study(code, share=share)
    said = words.headline(made["verdict"], Terms.of(made), made["checks"])
    others = [
        words.headline(m["verdict"], Terms.of(m), m["checks"]) for c in studies.STEPS if c != code for m in [studies.study(c, share=share)]
    ]
    assert said not in others
    assert said[0].isupper()
    assert said.endswith(".")
    assert not re.search(r"None|nan|\{|0\.8\d\d|significant|promising|safe", said)
    if code not in ("critical", "refused"):
        assert "95\u00a0% interval" in said
        assert "under current practice" in said


@pytest.mark.parametrize(
    ("code", "holds"),
    [
        ("critical", "one critical finding"),
        ("refused", "no policy that these stays can judge"),
        ("thin", "1,185\u00a0stays kept for judging are worth only 41"),
        ("control", "a copy of current practice, measured the same way, seems to gain 2.3 of those 3.1\u00a0points"),
        ("placebo", "change by 2.2\u00a0points what was settled before the first decision"),
        ("harm", "it is estimated to do worse than practice, by −4.2\u00a0points (−6.8 to −1.6)"),
        ("futile", "at most +1.4\u00a0points, is less than the 2\u00a0points that matter"),
        ("shown", "is guaranteed to be at least +0.6\u00a0points"),
        ("promising", "a loss of 2\u00a0points or more is excluded, but nothing guarantees it"),
        ("unsettled", "anything from −3.4 to +5.4\u00a0points, and a loss of 2\u00a0points is not excluded"),
    ],
)
def test_the_sentence_gives_the_numbers_that_decided(code, holds):
    made = studies.study(code)
    assert holds in words.headline(made["verdict"], Terms.of(made), made["checks"])


@pytest.mark.parametrize("code", studies.STEPS)
def test_a_verdict_of_which_no_number_is_known_still_has_a_sentence(code):
    made = studies.study(code)
    bare = {"word": made["verdict"]["word"], "reasons": made["verdict"]["reasons"], "rule": [], "level": 0.95, "margin": None}
    said = words.headline(bare, Terms.of(made | {"verdict": bare, "words": None, "unit": None}))
    assert said.endswith(".")
    assert len(said) > 20
    assert "None" not in said


@pytest.mark.parametrize("also", ["caution", "unbounded", "bound", "net"])
def test_a_trial_says_why_it_is_no_more(also):
    verdict = studies.study("promising")["verdict"]
    said = {code: words.no_more([code], verdict, TERMS) for code in ("caution", "unbounded", "bound", "net")}
    assert len(set(said.values())) == 4
    assert also in ("caution", "unbounded", "bound", "net")
    assert words.no_more(["caution", "net"], verdict, TERMS) == f"{said['caution']} and {said['net']}"


@given(interval(), interval(), interval())
def test_the_title_of_the_gains_follows_them(gain, control, net):
    said = words.verdict_title(gain, control, net, TERMS)
    assert words.verdict_title(gain, control, net, TERMS, thin=True).startswith("Too few stays")
    if said == "Most of the apparent gain is the error of the method":
        assert control.low > 0
        assert control.value >= gain.value / 2 > 0
    elif "stands out" in said:
        assert net.low > 0
        assert control.zero
    elif "worse" in said:
        assert net.high < 0
    elif "cannot be told from none" in said:
        assert net.zero
    else:
        assert not control.zero


@given(interval(), interval())
def test_the_control_is_never_said_to_gain_more_than_the_policy(gain, control):
    said = words.control_clause(gain, control, TERMS)
    assert ("of those" in said) == (gain.value > control.value > 0)
    assert ("seems to lose" in said) == (control.value <= 0)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_tree_that_says_no_more_than_a_constant_explains_nothing(fidelity, constant):
    title, text = policy_words.tree_title(fidelity, constant), policy_words.tree_text(fidelity, constant)
    if fidelity <= constant + 0.02:
        assert title == "No short rule describes it"
    assert ("explains nothing" in text) == (title == "No short rule describes it")


@given(st.lists(st.tuples(interval(0.5, 1.0), st.floats(1, 1000), interval()), min_size=1, max_size=6))
def test_the_title_of_the_estimates_counts_right(found):
    rows = [Row("x", value.value, effective, net) for value, effective, net in found]
    said = policy_words.forest_title(rows, TERMS)
    best = max(rows, key=lambda row: row.value)
    assert ("rest" in said or "behind it" in said) == (best.effective < words.FEW)
    if "better than a copy of practice, by" in said:
        n = sum(row.net.low > 0 for row in rows)
        assert said.lower().startswith(words.spelled(n))
    if said.startswith("No policy stands out"):
        assert not any(row.net.low > 0 for row in rows)


@given(st.lists(interval(0.5, 1.0), min_size=2, max_size=6), st.one_of(st.none(), st.floats(0.5, 1.0)))
def test_the_title_of_the_estimators_counts_right(found, exact):
    said = policy_words.others_title(found, exact, TERMS)
    if exact is None:
        assert ("do not all meet" in said) == (max(e.low for e in found) > min(e.high for e in found))
        return
    held, over = sum(e.low <= exact <= e.high for e in found), sum(e.value > exact for e in found)
    assert f"; {'all' if held == len(found) else words.spelled(held)} of the intervals" in said
    assert said.startswith("All") == (over in (0, len(found)))


@given(st.lists(st.floats(0, 0.2), min_size=7, max_size=7), st.lists(st.floats(0, 0.2), min_size=7, max_size=7))
def test_a_policy_that_does_what_was_never_seen_is_not_said_to_do_what_practice_does(practice, policy):
    said, more = log_words.support_title(practice, policy), sum(policy[:2]) - sum(practice[:2])
    if more > 0.1:
        assert "hardly ever seen" in said
    if abs(more) <= 0.03:
        assert "same experience" in said


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([(0.001, 0.004, 9), (0.5, 0.5, 9)], "Rare actions are taken 4 times as often as the model says"),
        ([(0.1, 0.02, 9), (0.5, 0.5, 9)], "Rare actions are rarer than the model says"),
        ([(0.1, 0.11, 9), (0.5, 0.9, 9)], "Rare actions are about as rare as the model says"),
        ([], "Probabilities of actions, predicted and observed"),
    ],
)
def test_the_title_of_the_calibration_looks_at_the_rarest(pairs, said):
    assert log_words.calibration_title(pairs) == said


@pytest.mark.parametrize(
    ("belief", "seen", "said"),
    [
        ([1, 5, 9], [1.0, 1.1, 1.2], "Belief drifts with training; the estimates hardly move"),
        ([1, 1, 1], [1, 3, 1], "More training made most policies worse, by the estimates"),
        ([1, 1, 1], [1, 2, 3], "The estimates by training step"),
        ([1, 2], [], "What the algorithms believe, by training step; it is no evidence"),
        ([], [], "No learning curves were kept"),
    ],
)
def test_the_title_of_the_curves_says_what_they_do(belief, seen, said):
    assert policy_words.curves_title([(belief, seen)], exact=False) == said


@pytest.mark.parametrize("n", [0, 1, 3])
def test_findings_are_counted(n):
    assert log_words.checks_title({"critical": 0, "caution": 0, "warning": n}, False) == (
        "Nothing was found that limits the study", "Nothing stops the study; one finding limits it", None, "Nothing stops the study; three findings limit it",
    )[n]  # fmt: skip
    assert ("stop" in log_words.checks_title({"critical": n}, True)) == (n > 0) or n == 0
    assert "0 critical" in log_words.checks_lead({"caution": n}, False)


@pytest.mark.parametrize("link", words.LINKS)
def test_every_weak_link_is_named_where_it_caps_or_ends_the_study(link):
    states = dict.fromkeys(words.LINKS, "ok")
    if link != "choice":
        assert link in words.chain_title(states | {link: "caps"})
        assert "one has a weakness" in words.chain_lead(states | {link: "warn"})
    assert f"ends at the {link}" in words.chain_title(states | {link: "critical"})
    assert "in order" in words.chain_lead(states)


@pytest.mark.parametrize(("worth", "said"), [(30.0, "too little"), (150.0, "something"), (900.0, "a good deal"), (None, "not known")])
def test_coverage_says_how_much_the_log_can_say(worth, said):
    assert said in log_words.coverage_lead({"episodes": 1185, "effective": worth}, {"support": None}, TERMS)


@given(interval(), st.one_of(st.none(), st.floats(0.001, 0.3)))
def test_the_lead_of_the_estimates_doubts_what_the_control_makes_doubtful(control, margin):
    said = policy_words.estimates_lead(control, margin, 1185, TERMS)
    assert ("It comes out there" in said) == control.zero
    assert ("same doubt" in said) == (not control.zero and not (margin and abs(control.value) <= margin / 2))


def test_a_control_that_is_followed_in_part_says_in_how_many_decisions():
    said = lambda share: policy_words.estimates_lead(Ends(0.0, -0.01, 0.01), 0.02, 1185, TERMS, share)
    assert "followed in 25\u00a0% of the decisions" in said(0.25)
    assert "followed" not in said(1.0) + said(None)


@pytest.mark.parametrize(
    ("word", "gain", "said"),
    [
        ("deploy", 0.03, "right"),
        ("trial", -0.01, "wrong"),
        ("do not", 0.01, "right"),
        ("do not", 0.05, "wrong"),
        ("cannot tell", -0.01, "nothing was missed"),
        ("cannot tell", 0.01, "too small"),
        ("cannot tell", 0.05, "a gain that matters"),
    ],
)
def test_where_the_truth_is_known_the_verdict_is_judged_by_it(word, gain, said):
    assert said in words.right(word, gain, 0.02, TERMS)


def test_facts_speak_only_of_what_is_known():
    assert words.facts({"word": "cannot tell"}, None, TERMS) == []
    made = studies.study("unsettled")
    assert len(words.facts(made["verdict"], 0.94, Terms.of(made))) == 3
    assert len(words.facts(studies.study("shown")["verdict"], None, TERMS)) == 1


def test_a_refusal_goes_on_in_the_sentence():
    made = studies.study("refused")
    next(step for step in made["verdict"]["rule"] if step["code"] == "refused")["here"] = (
        "A copy of practice cannot be weighed: it is too rough."
    )
    said = words.headline(made["verdict"], Terms.of(made), made["checks"])
    assert said == "There is no policy that these stays can judge: a copy of practice cannot be weighed: it is too rough."


def test_an_estimate_that_was_refused_has_no_ends():
    assert ends(None) is None
    assert ends(studies.estimate(None, refused="too few")) is None
    assert ends(studies.estimate((1, 0, 2))) == Ends(1, 0, 2)


@settings(max_examples=50)
@given(st.text(max_size=40), st.sampled_from(list(studies.STEPS)))
def test_nouns_of_strangers_stay_short_and_plain(noun, code):
    made = studies.study(code, words=dict.fromkeys(("episode", "episodes", "step", "steps", "value"), noun))
    terms = Terms.of(made)
    assert len(terms.episode) <= words.NOUN
    assert "\u202e" not in words.headline(made["verdict"], terms, made["checks"])


@pytest.mark.parametrize("same", [0.97, 0.8, 0.5, 0.1])
def test_how_much_changes_has_a_word_for_each_size(same):
    told = {s: policy_words.changes_lead(s, TERMS).split()[0] for s in (0.97, 0.8, 0.5, 0.1)}
    assert len(set(told.values())) == 4
    assert f"{100 - 100 * same:.0f}" in policy_words.changes_lead(same, TERMS)


def test_the_largest_shift_is_named():
    actions = [{"name": "a", "practice": 0.5, "policy": 0.3}, {"name": "b", "practice": 0.5, "policy": 0.7001}]
    assert policy_words.shift_title(actions) == "The largest shift: b, +20.0\u00a0points"
    assert policy_words.shift_title([{"name": "a", "practice": 0.5, "policy": 0.501}]) == "Overall, each action keeps its share"
    assert policy_words.mean_title("dose", -1.25) == "The largest shift: dose, −1.2\u00a0standard deviations"
    assert (
        policy_words.where_title([[1.0, -4.0], [0.5, 0.0]], ["a", "b"], ["young", "old"], False)
        == "The largest change: a, −4.0\u00a0points (old)"
    )
    assert policy_words.where_title([[4.0, 4.1]], ["a"], ["young", "old"], False) == "The change is much the same in every group"


def test_branches_of_a_tree_are_said_by_the_kind_of_their_column():
    assert [policy_words.branch("device=mobile", 0.5, above) for above in (False, True)] == ["device is not mobile", "device is mobile"]
    assert [policy_words.branch("potassium", 3.85, above) for above in (False, True)] == ["potassium ≤ 3.85", "potassium > 3.85"]


@pytest.mark.parametrize(
    ("same", "worth", "said"),
    [(0.95, 900, "small change"), (0.7, 900, "clear change"), (0.3, 50, "log has seen little"), (0.3, 400, "way of acting.")],
)
def test_another_way_of_acting_is_only_rare_where_little_is_known_of_it(same, worth, said):
    found = studies.study("shown")["verdict"] | {"episodes": 1000, "effective": worth}
    assert said in words.facts(found, same, TERMS)[-1][1]
