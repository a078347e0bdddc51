"""Estimates learn per model what they are worth; nothing absurd leads them astray, and the factor stays bounded."""

from __future__ import annotations

import random
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.policies.estimate_calibration import UNTRIED, Calibration, EstimateCalibration


def learn(ratios, model="m", estimate=1000):
    calibration = EstimateCalibration()
    for ratio in ratios:
        calibration.learn(model, estimate, round(estimate * ratio))
    return calibration


def test_an_untried_model_gets_the_estimate_itself():
    assert EstimateCalibration().reserve("m", 123) == 123


def test_the_factor_is_the_mean_and_one_and_a_half_deviations():
    assert Calibration(mean=1.2, deviation=0.2, seen=9).factor == pytest.approx(1.5)


@pytest.mark.parametrize("ratio", [0.6, 1.0, 1.9, 3.0])
def test_a_steady_ratio_is_learned_within_a_tenth_from_thirty_calls(ratio):
    assert learn([ratio] * 30).of("m").mean == pytest.approx(ratio, rel=0.1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("spread", [0.05, 0.25])
def test_nine_of_ten_prompts_fit_what_is_reserved_and_little_is_reserved_in_vain(seed, spread):
    dice, calibration, fits, reserved, real = random.Random(seed), EstimateCalibration(), 0, 0, 0
    for call in range(600):
        estimate = dice.randint(50, 5000)
        true = max(1, round(estimate * dice.gauss(0.75, 0.75 * spread)))
        if call >= 100:
            held = calibration.reserve("m", estimate)
            fits, reserved, real = fits + (held >= true), reserved + held, real + true
        calibration.learn("m", estimate, true)
    assert fits >= 0.85 * 500
    assert reserved <= real * (1.05 + 2.0 * spread)


def test_one_absurd_count_moves_the_factor_by_less_than_a_quarter():
    before = learn([1.1] * 40)
    after = learn([*[1.1] * 40, 1e9])
    assert before.of("m").factor < after.of("m").factor < 1.25 * before.of("m").factor


def test_however_little_is_counted_half_of_the_estimate_is_reserved():
    assert learn([0.01] * 100).of("m").factor == 0.5


def test_a_hidden_system_prompt_is_found_by_many_calls_that_agree():
    assert learn([1.0] * 40 + [6.0] * 60).of("m").factor == 4.0


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(-5, 10**6), st.integers(-(10**30), 10**30)), max_size=60))
def test_whatever_is_counted_the_factor_stays_between_a_half_and_four(calls):
    calibration = EstimateCalibration()
    for estimate, real in calls:
        calibration.learn("m", estimate, real)
        assert 0.5 <= calibration.of("m").factor <= 4.0
    assert 500 <= calibration.reserve("m", 1000) <= 4000


@settings(max_examples=60)
@given(st.lists(st.floats(0.3, 3.0), min_size=1, max_size=40))
def test_without_outliers_it_is_the_plain_exponential_mean(ratios):
    mean, known = 1.0, UNTRIED
    for seen, ratio in enumerate(ratios):
        reach = 4.0 * max(known.deviation, 0.1)
        weight = max(0.1, 1 / (seen + 2))
        mean = (1 - weight) * mean + weight * min(mean + reach, max(mean - reach, ratio))
        known = known.after(ratio)
    assert known.mean == pytest.approx(mean)


@pytest.mark.parametrize(("estimate", "real"), [(15, 4000), (0, 10), (-3, 10), (1000, 0), (1000, -7)])
def test_what_is_no_count_or_too_small_teaches_nothing(estimate, real):
    calibration = EstimateCalibration()
    calibration.learn("m", estimate, real)
    assert calibration.of("m") is UNTRIED


def test_models_are_learned_apart_and_the_one_not_used_for_longest_is_forgotten():
    calibration = EstimateCalibration(most=2)
    for model, real in [("a", 2000), ("b", 700), ("a", 2000), ("c", 1000)]:
        calibration.learn(model, 1000, real)
    assert [calibration.of(model).seen for model in "abc"] == [2, 0, 1]


def test_a_reserve_is_rounded_up():
    calibration = learn([1.3] * 20)
    assert calibration.reserve("m", 7) == ceil(7 * calibration.of("m").factor)
    assert calibration.reserve("m", 0) == 0
