"""Numbers, names and frames: what every page rests on."""

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from topstitch.report import charts
from topstitch.report.kit import Scale, called, count, embed, environment, listed, named, num, pct, short, some, spelled


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (num(-0.04), "0.0"),
        (num(-0.06), "−0.1"),
        (num(0.06, sign=True), "+0.1"),
        (num(0.0, sign=True), "0.0"),
        (num(1234.5, 0), "1,234"),
        (num(None), "–"),
        (num(math.nan), "–"),
        (num(-math.inf), "−∞"),
        (pct(0.8174), "81.7"),
        (pct(-0.031, 1, True), "−3.1"),
        (count(1185), "1,185"),
        (count(2.73), "2.7"),
        (count(188.14), "188"),
        (count(3.0), "3"),
        (some(1, "episode"), "1\u00a0episode"),
        (some(1185, "stay"), "1,185\u00a0stays"),
        (short(0.01234), "0.0123"),
        (short(4120.4), "4,120"),
        (short(3.14159e9), "3.14\u00a0×\u00a010⁹"),
        (short(-2e-12), "−2\u00a0×\u00a010⁻¹²"),
        (short(1e300), "1\u00a0×\u00a010³⁰⁰"),
        (short(5e-324), "4.94\u00a0×\u00a010⁻³²⁴"),
        (short(999_999.9), "1\u00a0×\u00a010⁶"),
        (short(0), "0"),
        (short(12.0), "12"),
        (listed(["a"]), "a"),
        (listed("abc"), "a, b and c"),
        (spelled(5), "five"),
        (spelled(1300), "1,300"),
    ],
)
def test_numbers_are_written_as_people_read_them(said, meant):
    assert said == meant


@given(st.floats(), st.integers(0, 6))
def test_every_float_can_be_written(x, digits):
    for text in (num(x, digits), num(x, digits, True), short(x), short(x, 4, True), pct(x), count(x)):
        assert text
        assert "-" not in text
        assert "e" not in text


@given(st.floats(1e-3, 999_999, exclude_max=True))
def test_short_numbers_keep_three_figures(x):
    assert float(short(x).replace(",", "").split("\u00a0")[0]) == pytest.approx(x, rel=6e-3) or "×" in short(x)


def test_a_share_is_percent_and_its_differences_are_points():
    scale = Scale.of([0.817, 0.786], [0.076], share=True)
    assert (scale.level(0.8174), scale.diff(0.031), scale.diff(0.01), scale.span(0.779, 0.855)) == (
        "81.7\u00a0%", "+3.1\u00a0points", "+1.0\u00a0point", "77.9 to 85.5",
    )  # fmt: skip
    rare = Scale.of([0.0038], [0.0006], share=True)
    assert rare.level(0.0038) == "0.380\u00a0%"


@pytest.mark.parametrize(
    ("values", "width", "level", "diff"),
    [
        ([412.0], 31.0, "412\u00a0kWh", "+12\u00a0kWh"),
        ([3.21e9], 2e8, "3.21\u00a0×\u00a010⁹\u00a0kWh", "0.00\u00a0×\u00a010⁹\u00a0kWh"),
        ([2e-7], 1e-8, "200.0\u00a0×\u00a010⁻⁹\u00a0kWh", None),
    ],
)
def test_other_quantities_have_their_unit_and_the_decimals_that_their_intervals_carry(values, width, level, diff):
    scale = Scale.of(values, [width], unit="kWh")
    assert scale.level(values[0]) == level
    assert diff is None or scale.diff(12) == diff


@given(st.lists(st.one_of(st.none(), st.floats()), max_size=4), st.lists(st.one_of(st.none(), st.floats()), max_size=3), st.booleans())
def test_a_scale_fits_any_values(values, widths, share):
    scale = Scale.of(values, widths, share=share, unit="x")
    assert all(scale.level(v) and scale.diff(v) and scale.span(v, v) for v in values)
    assert 0 <= scale.digits <= 6


def test_names_of_strangers_are_harmless():
    assert called("a\u202eb\x00c\nd\u2066") == "a·b·c d·"
    assert called("\ud800") == "·"
    assert called("") == called(" \t") == "(no name)"
    assert called("e" + "\u0301" * 50) == "e\u0301\u0301"
    assert len(called("x" * 500)) <= 60
    assert "…" in called("x" * 500)
    assert str(named("<script>alert(1)</script>")) == "<bdi>&lt;script&gt;alert(1)&lt;/script&gt;</bdi>"
    assert str(named('"' * 70)).count("&#34;") > 70  # also inside its title
    assert called("👩‍👩‍👧 état 日本") == "👩‍👩‍👧 état 日本"


@given(st.text(max_size=200))
def test_any_name_becomes_text_of_bounded_length(name):
    text = called(name)
    text.encode()
    assert 0 < len(text) <= 60
    assert not set(text) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\n\r\t\x00")


def test_results_cannot_end_their_element():
    said = str(embed({"name": "</script><!--&\u2028"}))
    assert "<" not in said
    assert ">" not in said
    assert json.loads(said) == {"name": "</script><!--&\u2028"}


def test_what_a_template_lacks_is_an_error_and_what_it_gets_is_escaped():
    with pytest.raises(UndefinedError):
        environment().from_string("{{ nothing }}").render()
    assert environment().from_string("{{ x }}").render(x="<b>") == "&lt;b&gt;"


@given(st.floats(-1e12, 1e12), st.floats(1e-9, 1e12), st.integers(2, 8))
def test_ticks_are_round_few_and_inside(low, width, about):
    high = low + width
    if high - low < 1e-9 * abs(low):
        return
    found = charts.ticks(low, high, about)
    assert len(found) <= 2 * about + 2
    assert all(low - 1e-6 * width <= v <= high + 1e-6 * width for v in found)


@pytest.mark.parametrize(("low", "high"), [(2, 1300), (1e-12, 1e12), (0.9, 1.1), (0.0006, 1)])
def test_ticks_of_logarithmic_axes_are_inside(low, high):
    found = charts.decades(low, high)
    assert len(found) <= 13
    assert all(low * 0.99 <= v <= high * 1.01 for v in found)


def test_ranges_hold_their_values_even_if_there_is_one_or_none():
    assert charts.around([]) == (0.0, 1.0)
    assert charts.around([None, math.nan, math.inf]) == (0.0, 1.0)
    for values in ([0.0], [5.0], [-3.0, 8.0]):
        low, high = charts.around(values)
        assert low < min(values)
        assert high > max(values)


def test_what_lies_beyond_a_row_gets_an_arrow_and_labels_are_escaped():
    drawn = str(charts.interval_row(1.2, (0.5, 1.4), (0, 1), label='a "policy"<', kind="dim"))
    assert drawn.count("arrow") == 1
    assert "circle" not in drawn
    assert "&#34;policy&#34;&lt;" in drawn
    inside = str(charts.interval_row(0.5, (0.4, 0.6), (0, 1), label="", exact=0.55, band=(-5, 0.1)))
    assert "arrow" not in inside
    assert "truth" in inside
    assert 'x="0.00%" width="10.00%"' in inside


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ([0.5, 1.5, None, -1.0], [(0, 0.5), (0.5, 1.0), (1, None), (2, None), (3, None)]),
        ([3.0, 0.0, 1.0, 0.5], [(0, None), (2 / 3, 1.0), (1, 0.0), (2, 1.0), (3, 0.5)]),
        ([-1.0, 0.5, None, 0.2], [(0, None), (2 / 3, 0.0), (1, 0.5), (2, None), (3, 0.2)]),
    ],
)
def test_a_line_ends_at_the_edge_that_it_crosses(line, seen):
    xs, ys = charts.inside([0, 1, 2, 3], line, (0.0, 1.0))
    assert list(zip(xs, ys)) == [(pytest.approx(x), None if y is None else pytest.approx(y)) for x, y in seen]


def test_a_line_is_interrupted_where_nothing_was_measured():
    plot = charts.Plot(100, 100, x=(0, 4), y=(0, 1)).line([0, 1, 2, 3, 4], [0.1, 0.2, None, 0.3, math.nan], "med")
    assert len(plot.parts) == 2
    assert "<path" in plot.parts[0]
    assert "<circle" in plot.parts[1]


@pytest.mark.parametrize("counts", [[0, 0], [1, 3], [10**9, 1]])
def test_a_histogram_has_a_bar_for_every_count(counts):
    drawn = str(charts.histogram([0, 1, 2], counts, label="x", xlabel="length", mark=(1.5, "median")))
    assert drawn.count("<rect") == 2
    assert not re.search(r"nan|inf", drawn)


def test_a_heat_map_writes_every_number_and_leaves_what_is_unknown_empty():
    table = str(charts.heat(["<a>"], ["x", "y", "z"], [[0.5, None, -1.0]], lambda v: num(v, 1, True), caption="c", diverging=True))
    assert "&lt;a&gt;" in table
    assert "+0.5" in table
    assert 'class="neg" style="--k:100%">−1.0' in table
    assert '<td class="none"></td>' in table
