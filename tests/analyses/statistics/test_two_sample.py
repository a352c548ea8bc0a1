"""Two-sample statistics against definitions, published values and other libraries."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist
from scipy.stats import mannwhitneyu
from sklearn.covariance import LedoitWolf

from shiftkit.analyses.features.change import linear_cka
from shiftkit.analyses.statistics.inference import jackknife_interval, max_t
from shiftkit.analyses.statistics.kernels import pair_contrast, rbf_kernel, squared_distances
from shiftkit.analyses.statistics.two_sample import HeldOut, evaluators, frechet, projections, sliced_wasserstein


def split(n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the first n as source and the next m as target."""
    target = np.r_[np.zeros(n), np.ones(m)][:, None]
    return 1 - target, target


def two(n: int = 30, m: int = 20, d: int = 5, shift: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal((m, d)) * 1.3 + shift


def test_energy_is_hyppos_published_value() -> None:
    """For x = 0…99 and y = x² hyppo prints 158.6574574: the root of 8 times the biased energy distance.

    hyppo (0.5.2, ``bias=True``) takes the root of the distance covariance before scaling it by (n+m)⁴/(2n²m²).
    The biased means count each observation's distance 0 to itself; ours leave it out.
    """
    x, y = np.arange(100.0)[:, None], np.arange(100.0)[:, None] ** 2
    pooled = np.concatenate([x, y])
    unbiased = -pair_contrast(np.sqrt(squared_distances(pooled)), *split(100, 100))[0]
    biased = unbiased + (pdist(x).mean() + pdist(y).mean()) / 100
    assert np.sqrt(8 * biased) == pytest.approx(158.6574574, abs=1e-6)


def test_mmd2_is_the_unbiased_estimator_of_its_definition() -> None:
    """Mean kernel within source and within target without the diagonals, less twice the mean between."""
    x, y = two()
    pooled = np.concatenate([x, y])
    kernel = rbf_kernel(squared_distances(pooled))
    gamma = 1 / np.median(pdist(pooled) ** 2)
    within = [np.exp(-gamma * pdist(one) ** 2).mean() for one in (x, y)]
    expected = sum(within) - 2 * np.exp(-gamma * cdist(x, y) ** 2).mean()
    assert pair_contrast(kernel, *split(30, 20))[0] == pytest.approx(expected, abs=1e-12)


def test_one_product_equals_reindexing_for_every_permutation() -> None:
    """All permutations at once give what re-indexing the kernel gives one by one, to 1e-12."""
    x, y = two(15, 10)
    kernel = rbf_kernel(squared_distances(np.concatenate([x, y])))
    rng = np.random.default_rng(0)
    target = rng.permuted(np.repeat(split(15, 10)[1], 50, axis=1), axis=0)
    together = pair_contrast(kernel, 1 - target, target)
    for column, value in zip(target.T, together, strict=True):
        s, t = np.flatnonzero(column == 0), np.flatnonzero(column == 1)
        a, b = kernel[np.ix_(s, s)], kernel[np.ix_(t, t)]
        one = (a.sum() - len(s)) / (len(s) * (len(s) - 1)) + (b.sum() - len(t)) / (len(t) * (len(t) - 1))
        assert value == pytest.approx(one - 2 * kernel[np.ix_(s, t)].mean(), abs=1e-12)


def test_pairs_of_one_participant_do_not_count() -> None:
    """With two observations a participant, the estimate is the paired one of Gretton et al., eq. 4, and unbiased."""
    rng = np.random.default_rng(1)
    values = []
    for _ in range(300):
        own = rng.standard_normal((12, 3))
        x, y = own + 0.3 * rng.standard_normal((12, 3)), own + 0.3 * rng.standard_normal((12, 3))
        k = np.exp(-squared_distances(np.concatenate([x, y])) / 4)
        made = pair_contrast(k, *split(12, 12), unit=np.tile(np.arange(12), 2))[0]
        a, b, ab = k[:12, :12], k[12:, 12:], k[:12, 12:]
        h = a + b - ab - ab.T
        assert made == pytest.approx((h.sum() - np.trace(h)) / (12 * 11), abs=1e-12)
        values.append(made)
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(300)


def test_sliced_wasserstein_is_pots() -> None:
    """On the same directions and samples of different size, POT computes the same number."""
    ot = pytest.importorskip("ot", reason="POT is a test extra")
    x, y = two(17, 26)
    directions = projections(5, np.random.default_rng(0), 40)
    ours = sliced_wasserstein(np.concatenate([x, y]), directions)(*split(17, 26))[0]
    assert ours == pytest.approx(ot.sliced_wasserstein_distance(x, y, projections=directions, p=1), rel=1e-10)


def test_frechet_without_shrinkage_is_monais() -> None:
    """MONAI's FID of the same feature vectors, from its own covariance and matrix root."""
    import torch
    from monai.metrics.fid import compute_frechet_distance

    x, y = two(60, 50)
    ours = frechet(np.concatenate([x, y]), shrink=False)(*split(60, 50))[0]
    moments = [torch.from_numpy(one) for z in (x, y) for one in (z.mean(axis=0), np.cov(z, rowvar=False))]
    assert ours == pytest.approx(float(compute_frechet_distance(*moments)), rel=1e-8)


def test_shrunk_covariances_are_scikit_learns() -> None:
    """Fréchet with shrinkage equals the same formula on scikit-learn's Ledoit–Wolf covariances."""
    from scipy.linalg import sqrtm

    x, y = two(12, 15, 6)
    ours = frechet(np.concatenate([x, y]))(*split(12, 15))[0]
    s, t = (LedoitWolf().fit(one).covariance_ for one in (x, y))
    expected = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() + np.trace(s + t - 2 * np.real(sqrtm(s @ t)))
    assert ours == pytest.approx(expected, rel=1e-8)


def test_auc_is_the_mann_whitney_share_of_pairs_within_folds() -> None:
    """Each fold's share is scipy's U over the number of pairs, also with ties, and folds weigh by their pairs."""
    x, y = two(24, 20, 3)
    pooled = np.round(np.concatenate([x, y]))
    source, target = split(24, 20)
    held_out = HeldOut.fit(pooled, np.arange(44), np.random.default_rng(0))
    right = pairs = 0.0
    for test, train, hat in held_out.parts:
        scores = np.round((hat @ (target - source)[train])[test, 0], 12)
        s, t = scores[source[test, 0] == 1], scores[target[test, 0] == 1]
        right += mannwhitneyu(t, s).statistic if len(s) and len(t) else 0.0
        pairs += len(s) * len(t)
    assert held_out.auc(source, target)[0] == pytest.approx(right / pairs, abs=5e-3)


def test_no_participant_is_in_training_and_test_fold() -> None:
    """Folds are grouped: both regions of a participant are held out together, and everyone is once a division."""
    unit = np.repeat(np.arange(13), 2)
    features = np.random.default_rng(0).standard_normal((26, 4))
    held_out = HeldOut.fit(features, unit, np.random.default_rng(1))
    for test, train, _ in held_out.parts:
        assert not set(unit[test]) & set(unit[train])
    assert np.bincount(np.concatenate([test for test, _, _ in held_out.parts])).tolist() == [4] * 26


def test_a_classifier_scores_far_samples_perfectly_and_equal_ones_by_chance() -> None:
    """AUC 1 and proxy A-distance 2 for separable samples; on average 0.5 and 0 without a difference."""
    rng = np.random.default_rng(0)
    far = np.concatenate([rng.standard_normal((20, 4)), rng.standard_normal((20, 4)) + 20])
    apart = evaluators(far, np.arange(40), rng)
    labels = split(20, 20)
    assert apart["auc"](*labels)[0] == 1.0
    assert apart["proxy_a_distance"](*labels)[0] == 2.0
    values = [evaluators(rng.standard_normal((40, 4)), np.arange(40), rng)["auc"](*labels)[0] for _ in range(150)]
    assert abs(np.mean(values) - 0.5) < 3 * np.std(values) / np.sqrt(150)


def test_every_statistic_of_left_out_labels_is_that_of_the_smaller_sample() -> None:
    """An observation in neither sample does not count: MMD² and sliced Wasserstein equal those without its row."""
    x, y = two(10, 9)
    pooled = np.concatenate([x, y])
    source, target = split(10, 9)
    keep = np.ones((19, 1))
    keep[3] = 0
    kernel = rbf_kernel(squared_distances(pooled))
    rest = np.delete(np.arange(19), 3)
    expected = pair_contrast(kernel[np.ix_(rest, rest)], source[rest], target[rest])
    assert pair_contrast(kernel, source * keep, target * keep) == pytest.approx(expected, abs=1e-12)
    directions = projections(5, np.random.default_rng(0), 8)
    smaller = sliced_wasserstein(pooled[rest], directions)(source[rest], target[rest])
    assert sliced_wasserstein(pooled, directions)(source * keep, target * keep) == pytest.approx(smaller, abs=1e-12)


def test_the_jackknife_of_two_means_is_welchs_standard_error() -> None:
    """Of a difference of means it has the classical standard error, group by group."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(12), 2 * rng.standard_normal(15)
    left_out = np.r_[(x.sum() - x) / 11 - y.mean(), x.mean() - (y.sum() - y) / 14]
    low, high = jackknife_interval(x.mean() - y.mean(), left_out, np.r_[np.zeros(12), np.ones(15)], 0.95)
    error = np.sqrt(x.var(ddof=1) / 12 + y.var(ddof=1) / 15)
    from scipy.stats import t

    assert high - low == pytest.approx(2 * error * t.ppf(0.975, 11))


def test_max_t_is_never_below_the_unadjusted_p() -> None:
    """Adjustment over many cells can only raise a p-value, and leaves a single cell's as it is."""
    values = np.random.default_rng(0).standard_normal((6, 200))
    alone = np.concatenate([max_t(values[[row]]) for row in range(6)])
    assert (max_t(values) >= alone).all()


def test_cka_is_unbiased_and_invariant_to_rotation_and_scale() -> None:
    """0 on average for independent features at n = 32, where the biased form reads 0.2; 1 for a rotated copy."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((32, 8))
    rotation = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    assert linear_cka(x, 3 * x @ rotation) == pytest.approx(1.0)
    values = [linear_cka(rng.standard_normal((32, 8)), rng.standard_normal((32, 8))) for _ in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(200)
