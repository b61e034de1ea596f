"""The cross-validated linear probe."""

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from policies.statistics.probe_auc import probe_auc


def test_scores_are_sklearns():
    """Out-of-fold scores are those of StandardScaler and Ridge, less the training labels' mean; so is the AUC."""
    rng = np.random.default_rng(0)
    x, groups = rng.normal(size=(60, 90)) * rng.uniform(0.1, 9, size=90), np.repeat(np.arange(12), 5)
    x[:, 7] = 3.0  # a feature that never varies
    y = rng.random(60) < 0.5
    scores = np.empty(60)
    for train, test in GroupKFold(5).split(x, groups=groups):
        model = make_pipeline(StandardScaler(), Ridge(alpha=2.5)).fit(x[train], y[train].astype(float))
        scores[test] = model.predict(x[test]) - y[train].mean()
    found = probe_auc(x, y, groups.tolist(), rng, ridge=2.5, permutations=9)
    assert found.scores == pytest.approx(scores, abs=1e-8)
    assert found.auc == pytest.approx(roc_auc_score(y, scores))


@pytest.mark.parametrize("kind", ["pure", "mixed", "some of each"])
def test_size_at_the_protocols_sample(kind):
    """40 items per class, templates of 4 with features in common, no signal: p <= .05 in 5 % of 300 simulations.

    Where every template belongs to one class, where templates hold both, and where half of them do.
    """
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(20), 4)
    rejected, nulls = 0, []
    for _ in range(300):
        x = rng.normal(size=(20, 25))[groups] + rng.normal(size=(80, 25))
        y = rng.permutation(20)[groups] < 10 if kind != "mixed" else rng.random(80) < 0.5
        if kind == "some of each":
            y = np.where(groups < 10, rng.random(80) < 0.5, y)
        found = probe_auc(x, y, groups, rng, permutations=99)
        rejected += found.p <= 0.05
        nulls.append(found.null_mean)
    assert stats.binom.ppf(0.001, 300, 0.05) <= rejected <= stats.binom.ppf(0.999, 300, 0.05)
    assert np.mean(nulls) == pytest.approx(0.5, abs=0.02)


def test_templates_are_not_evidence():
    """Templates that differ, labelled at random: shuffled items would make it a signal, shuffled templates do not."""
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(8), 10)
    x = 5 * rng.normal(size=(8, 40))[groups] + 0.1 * rng.normal(size=(80, 40))
    wide = probe_auc(x, groups % 2 == 0, groups, rng, permutations=500)
    narrow = probe_auc(x, groups % 2 == 0, np.arange(80), rng, permutations=500)
    assert narrow.p < 0.01  # every item its own group: the probe has seen each template
    assert wide.p > 0.05


def test_a_signal_is_found():
    """A shift of one direction among 1024 is found, above the null's 95 % quantile."""
    rng = np.random.default_rng(3)
    y = np.arange(120) % 2 == 0
    x = rng.normal(size=(120, 1024)) + 0.25 * y[:, None]
    found = probe_auc(x, y, np.arange(120) // 6, rng)
    assert found.auc > 0.9 > found.null_high > 0.5 and found.p == 1 / 1001


def test_one_template_of_both_classes_among_many_of_one():
    """30 templates of one class each and a single one of both: a perfect separation is still found."""
    rng = np.random.default_rng(6)
    groups = np.repeat(np.arange(31), 2)
    y = np.where(groups < 30, groups % 2 == 0, np.arange(62) % 2 == 0)
    found = probe_auc(y[:, None] + 0.1 * rng.normal(size=(62, 5)), y, groups, rng)
    assert found.auc == 1.0 and found.p < 0.01
    shuffled = probe_auc(rng.normal(size=(62, 5)), y, groups, rng)
    assert shuffled.p > 0.05


def test_few_groups_make_fewer_folds():
    """Three templates of both classes give three folds and no error."""
    rng = np.random.default_rng(4)
    y = np.arange(30) % 2 == 0
    found = probe_auc(rng.normal(size=(30, 4)) + 5 * y[:, None], y, np.arange(30) // 10, rng, permutations=99)
    assert found.auc == 1.0 and found.n == 30


def test_nothing_to_learn_from():
    """One class, one group, or rows that do not match, raise."""
    x, rng = np.zeros((4, 2)), np.random.default_rng(0)
    with pytest.raises(ValueError, match="both classes"):
        probe_auc(x, [True] * 4, "abcd", rng)
    with pytest.raises(ValueError, match="2 groups"):
        probe_auc(x, [True, False] * 2, "aaaa", rng)
    with pytest.raises(ValueError, match="one row each"):
        probe_auc(x, [True, False], "ab", rng)


def test_features_without_variation_tell_nothing():
    """Equal features give every item the same score: an AUC of one half, and p = 1."""
    found = probe_auc(np.ones((12, 3)), [True, False] * 6, range(12), np.random.default_rng(0), permutations=99)
    assert (found.auc, found.p) == (0.5, 1.0)
