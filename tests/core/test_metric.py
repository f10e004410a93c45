"""A metric has a unit, a direction and a price for failures, and is printed by its unit."""

import math

import pytest

from robointervlm.core.answer import Number
from robointervlm.core.metric import Metric, amount, number, unit_of
from robointervlm.metrics.standard import absolute_error


@pytest.mark.parametrize(
    "value, unit, shown",
    [
        (0.5, "share", "0.500"),
        (12.34, "px", "12.3"),
        (12.0, "deg", "12.0 deg"),
        (0.01234, "mm", "0.01234 mm"),
        (12345.0, "", "1.234e+04"),
        (None, "deg", "–"),
    ],
)
def test_a_number_in_a_table_is_printed_by_its_unit(value, unit, shown):
    assert number(value, unit) == shown


def test_a_difference_has_its_sign():
    assert number(12.0, "deg", signed=True) == "+12.0 deg"


@pytest.mark.parametrize(
    "value, unit, said", [(0.12, "share", "12.0 points"), (7.8, "px", "7.8 px"), (12.0, "deg", "12.0 deg")]
)
def test_an_amount_is_said_in_its_unit(value, unit, said):
    assert amount(value, unit) == said


def test_a_penalty_needs_no_picture_and_caps_what_an_answer_costs():
    metric = absolute_error("deg", penalty=180.0)
    assert metric.charge(None, Number(10, "deg"), None) == 180
    assert metric.charge(500.0, Number(10, "deg"), None) == 180
    assert metric.charge(20.0, Number(10, "deg"), None) == 20


def test_a_penalty_of_a_better_that_is_higher_is_the_least():
    metric = Metric("Reward", "higher", lambda *_: 0.0, "", penalty=-1.0)
    assert metric.charge(-5.0, None, None) == -1
    assert metric.charge(2.0, None, None) == 2


def test_without_a_penalty_nothing_is_charged():
    assert math.isnan(absolute_error("").charge(None, Number(1), None))


def test_a_report_without_units_means_shares_where_bounded_and_pixels_else():
    assert unit_of({"bounded": True}) == "share"
    assert unit_of({"bounded": False}) == "px"
    assert unit_of({"bounded": True, "unit": "deg"}) == "deg"
    assert Metric("a", "higher", lambda *_: 0.0, "share", worst=0.0).in_report == {}
    assert Metric("a", "lower", lambda *_: 0.0, "deg", worst=180.0).in_report == {"unit": "deg"}
