"""BBRL's tests of whether two algorithms differ, with scipy (the extra ``compat``)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bbrl_exp.arguments import AT_LEAST_1
from bbrl_exp.errors import ConfigurationError
from bbrl_exp.extras import module_of_extra

Array = NDArray[np.float64]


def _scipy_stats(what: str) -> Any:
    return module_of_extra("scipy.stats", "compat", what)


def compute_central_tendency_and_error(
    id_central: str, id_error: str | int, sample: ArrayLike
) -> tuple[Array, Array, Array]:
    """Central value and lower and upper end of the errors over seeds.

    Args:
        id_central: ``mean`` or ``median``.
        id_error: ``std``, ``sem``, or how many percent of the seeds are between the ends.
        sample: ``[steps, seeds]``, NaN where there is no value.

    Returns:
        Three arrays ``[steps]``.

    Raises:
        ConfigurationError: another name.
    """
    values = np.asarray(sample, np.float64)
    if id_central not in ("mean", "median"):
        raise ConfigurationError(f"id_central={id_central!r}: must be mean or median")
    central: Array = (np.nanmean if id_central == "mean" else np.nanmedian)(values, axis=1)
    if id_error in ("std", "sem"):
        error = np.nanstd(values, axis=1)
        if id_error == "sem":
            error = error / np.sqrt(np.sum(~np.isnan(values), axis=1))
        return central, central - error, central + error
    try:
        rest = (100 - int(id_error)) / 2
    except ValueError:
        raise ConfigurationError(f"id_error={id_error!r}: must be std, sem or a number of percent") from None
    low, high = np.nanpercentile(values, [rest, 100 - rest], axis=1)
    return central, low, high


class Test:
    """Whether two algorithms differ: :meth:`run_test` of returns ``[seeds]``."""

    __test__ = False  # pytest would collect a class of this name

    def run_test(self, data1: ArrayLike, data2: ArrayLike, alpha: float = 0.05) -> bool:
        """Whether the difference of two samples is significant at level ``alpha``."""
        raise NotImplementedError(f"{type(self).__name__} does not define run_test")

    def plot(
        self,
        data1: ArrayLike,
        data2: ArrayLike,
        point_every: int = 1,
        confidence_level: float = 0.01,
        id_central: str = "median",
        id_error: str | int = 80,
        legends: str = "alg 1/alg 2",
        xlabel: str = "training steps",
        save: bool = True,
        downsampling_fact: int = 5,
    ) -> None:
        """Draws both learning curves, with a dot where they differ.

        Args:
            data1: returns ``[evaluations, seeds]``.
            data2: likewise; may have other numbers of both.
            point_every: steps between evaluations.
            confidence_level: of the test at each evaluation.
            id_central: see :func:`compute_central_tendency_and_error`.
            id_error: likewise.
            legends: two names with a slash between them.
            xlabel: what the steps are.
            save: whether ``plot.png`` is written; else the figure is shown, where a screen is.
            downsampling_fact: only every so manieth evaluation is drawn.

        Raises:
            ConfigurationError: data of another number of dimensions.
        """
        from matplotlib import pyplot

        AT_LEAST_1.check(downsampling_fact=downsampling_fact, point_every=point_every)
        samples = [np.asarray(data, np.float64) for data in (data1, data2)]
        for name, sample in zip(("data1", "data2"), samples, strict=True):
            if sample.ndim != 2:
                raise ConfigurationError(f"{name}: expected [evaluations, seeds], found {list(sample.shape)}")
        samples = [sample[::downsampling_fact] for sample in samples]
        figure, axes = pyplot.subplots(figsize=(10, 5))
        names, top = legends.split("/", 1) if "/" in legends else (legends, ""), -np.inf
        for sample, name in zip(samples, names, strict=True):
            central, low, high = compute_central_tendency_and_error(id_central, id_error, sample)
            steps = np.arange(len(sample)) * point_every * downsampling_fact
            axes.plot(steps, central, label=name)
            axes.fill_between(steps, low, high, alpha=0.3)
            top = max(top, float(np.nanmax(high)))
        n_both = min(map(len, samples))
        differ = [self.run_test(samples[0][i], samples[1][i], confidence_level) for i in range(n_both)]
        where = np.flatnonzero(differ) * point_every * downsampling_fact
        axes.scatter(where, np.full(len(where), 1.05 * top), color="black")
        axes.set_xlabel(xlabel)
        axes.set_ylabel("performance")
        axes.legend(frameon=False)
        if save:
            figure.savefig("plot.png", bbox_inches="tight", dpi=100)
        elif pyplot.get_backend().lower() != "agg":
            pyplot.show()
        pyplot.close(figure)


class TTest(Test):
    """Student's t-test: normal samples of one variance."""

    def run_test(self, data1: ArrayLike, data2: ArrayLike, alpha: float = 0.05) -> bool:
        return bool(_scipy_stats("TTest").ttest_ind(data1, data2, equal_var=True).pvalue < alpha)


class WelchTTest(Test):
    """Welch's t-test: normal samples of two variances (recommended)."""

    def run_test(self, data1: ArrayLike, data2: ArrayLike, alpha: float = 0.05) -> bool:
        return bool(_scipy_stats("WelchTTest").ttest_ind(data1, data2, equal_var=False).pvalue < alpha)


class MannWhitneyTest(Test):
    """The test of Mann and Whitney, of ranks."""

    def run_test(self, data1: ArrayLike, data2: ArrayLike, alpha: float = 0.05) -> bool:
        stats = _scipy_stats("MannWhitneyTest")
        return bool(stats.mannwhitneyu(data1, data2, alternative="two-sided").pvalue < alpha)


class RankedTTest(Test):
    """Student's t-test of the ranks."""

    def run_test(self, data1: ArrayLike, data2: ArrayLike, alpha: float = 0.05) -> bool:
        stats = _scipy_stats("RankedTTest")
        ranks = stats.rankdata(np.concatenate([data1, data2]))
        n1 = len(np.asarray(data1))
        return bool(stats.ttest_ind(ranks[:n1], ranks[n1:], equal_var=True).pvalue < alpha)


class PermutationTest(Test):
    """The difference of the means among those of 1,000 random divisions of both samples."""

    n_permutations = 1000

    def run_test(self, data1: ArrayLike, data2: ArrayLike, alpha: float = 0.05) -> bool:
        one, other = np.asarray(data1, np.float64), np.asarray(data2, np.float64)
        together = np.concatenate([one, other])
        found = [run_permutation_test(together.copy(), len(one), len(other)) for _ in range(self.n_permutations)]
        return bool(np.mean(np.abs(found) >= np.abs(one.mean() - other.mean())) < alpha)


class BootstrapTest(Test):
    """Whether the percentile bootstrap interval of the difference of the means leaves out 0."""

    n_samples = 1000

    def run_test(self, data1: ArrayLike, data2: ArrayLike, alpha: float = 0.05) -> bool:
        one, other = np.asarray(data1, np.float64), np.asarray(data2, np.float64)
        low, high = np.percentile(self._means(one) - self._means(other), [50 * alpha, 100 - 50 * alpha])
        return bool(np.sign(low) == np.sign(high))

    def _means(self, sample: Array) -> Array:
        drawn = np.random.randint(len(sample), size=(self.n_samples, len(sample)))
        means: Array = sample[drawn].mean(axis=1)
        return means


def run_permutation_test(all_data: Array, n1: int, n2: int) -> float:
    """Shuffles ``all_data`` in place; the mean of its first ``n1`` minus that of its last ``n2`` numbers."""
    np.random.shuffle(all_data)
    return float(all_data[:n1].mean() - all_data[-n2:].mean())
