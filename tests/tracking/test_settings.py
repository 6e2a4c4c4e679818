"""The settings say what is wrong; the thinning does exactly what it states."""

import pytest

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.settings import shown
from bbrl_exp.tracking.settings import Thinning, TrackingSettings


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("enabled", 1, "true or false"),
        ("workspace", "yes", "true or false"),
        ("workspace_full_steps", -1, "an integer of 0 or more"),
        ("workspace_thinned_steps", 2.5, "an integer"),
        ("max_components", 0, "at least 1"),
        ("histogram_every", True, "an integer"),
        ("speed_every", 0, "at least 1"),
        ("include", "env/*", "list of patterns"),
        ("exclude", [3], "list of patterns"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_key_value_and_what_is_allowed(key, value, allowed):
    with pytest.raises(ConfigurationError) as caught:
        TrackingSettings(**{key: value})
    assert f"key 'tracking.{key}' = {shown(value)}: must be" in str(caught.value)
    assert allowed in str(caught.value)


def test_patterns_select_what_is_included_and_not_excluded():
    settings = TrackingSettings(include=["env/*", "action"], exclude=["*/info/*"])
    names = ["env/reward", "env/info/x", "action", "action/left", "policy/logits"]
    assert [name for name in names if settings.selects(name)] == ["env/reward", "action"]


@pytest.mark.parametrize("planned", [5, 10, 11, 20, 21, 30, 99, 1000])
def test_the_first_steps_are_all_kept_and_the_rest_evenly_up_to_the_stated_number(planned):
    thinning = Thinning.of(TrackingSettings(workspace_full_steps=10, workspace_thinned_steps=5), planned, learns=False)
    stride = max(-(-(planned - 10) // 5), 1)
    expected = [g for g in range(planned) if g < 10 or (g - 10) % stride == 0]
    assert thinning.kept(0, planned).tolist() == expected
    assert thinning.n_kept(planned) == len(expected) <= 15


def test_thinning_does_not_depend_on_where_the_chunks_are_cut():
    thinning = Thinning(full_steps=10, stride=3)
    whole = thinning.kept(0, 50).tolist()
    pieces = [
        first + kept for first in range(0, 50, 7) for kept in thinning.kept(first, 7).tolist() if first + kept < 50
    ]
    assert pieces == whole


def test_nothing_is_kept_after_the_first_steps_where_so_asked():
    thinning = Thinning.of(TrackingSettings(workspace_full_steps=4, workspace_thinned_steps=0), 100, learns=True)
    assert thinning.kept(2, 10).tolist() == [0, 1]
    assert thinning.n_kept(100) == 4


@pytest.mark.parametrize(("learns", "full", "more"), [(False, 100_000, 100_000), (True, 10_000, 2_000)])
def test_the_first_steps_are_never_thinned_by_default(learns, full, more):
    thinning = Thinning.of(TrackingSettings(), 10**9, learns=learns)
    assert len(thinning.kept(0, full)) == full
    assert thinning.n_kept(10**9) == full + more
