"""The trials of a search, as Optuna keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from bbrl_exp.errors import ConfigurationError
from bbrl_exp.search.pruning import make_pruner
from bbrl_exp.settings import bad_value

if TYPE_CHECKING:
    from bbrl_exp.search.plan import SearchPlan

_FACTS = "bbrl_exp"
_JOURNAL = "optuna.journal"
_ERROR, _VALUES, _FOLDERS = "error", "values", "folders"


class SearchStudy:
    """The study of a search: asks the sampler for trials, and keeps what came of them.

    A trial's proposal depends on the sampler's seed, the trial's number and the trials before it, and so does not
    depend on whether the search was interrupted. The study has the name of the search's folder.

    Raises:
        ConfigurationError: the storage does not open, or it holds another search of this name.
    """

    def __init__(self, plan: SearchPlan, folder: Path) -> None:
        self._plan = plan
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(
            storage=_open_storage(plan.settings.storage, folder),
            study_name=folder.name,
            direction=plan.settings.direction,
            pruner=make_pruner(plan.settings),
            load_if_exists=True,
        )
        self._check_same(folder)

    def _check_same(self, folder: Path) -> None:
        facts, found = self._plan.facts, self._study.user_attrs.get(_FACTS)
        if found is None:
            if self._study.trials:
                raise ConfigurationError(
                    f"the storage holds a study '{folder.name}' that is no search of ours; choose another name"
                )
            self._study.set_user_attr(_FACTS, facts)
            return
        differing = [name for name in {**found, **facts} if found.get(name) != facts.get(name)]
        if differing:
            raise ConfigurationError(
                f"folder {folder} holds another search, it differs in {', '.join(differing)}; choose another name"
            )

    @property
    def trials(self) -> list[FrozenTrial]:
        """All of them, by number."""
        return [trial for trial in self._study.get_trials(deepcopy=False) if trial.state != TrialState.WAITING]

    def next_batch(self, given_up: set[int]) -> list[Trial]:
        """The trials to run next: interrupted ones that this command has not given up, then new ones for a batch."""
        interrupted = (trial for trial in self.trials if trial.state == TrialState.RUNNING)
        batch = [
            self._proposed(Trial(self._study, trial._trial_id)) for trial in interrupted if trial.number not in given_up
        ]
        count, together = len(self.trials), self._plan.settings.parallel_trials
        while count < self._plan.n_trials and (not batch or count % together):
            batch.append(self._ask(count))
            count += 1
        return batch

    def _ask(self, number: int) -> Trial:
        settings = self._plan.settings
        if settings.sampler == "grid":
            self._enqueue_point()
        seed = int(np.random.SeedSequence([settings.sampler_seed, number]).generate_state(1)[0])
        self._study.sampler = (
            optuna.samplers.TPESampler(seed=seed) if settings.sampler == "tpe" else optuna.samplers.RandomSampler(seed)
        )
        return self._proposed(self._study.ask())

    def _enqueue_point(self) -> None:
        """Lets the next trial be the first point of the grid that was not tried."""
        if self._study.get_trials(states=(TrialState.WAITING,)):
            return  # a command before this one was killed here
        tried = [trial.params for trial in self.trials]
        self._study.enqueue_trial(dict(next(point for point in self._plan.points if point not in tried)))

    def _proposed(self, trial: Trial) -> Trial:
        for parameter in self._plan.space:
            parameter.suggest(trial)
        return trial

    def report(self, trial: Trial, value: float, rung: int) -> None:
        """Keeps the value of a trial at a rung."""
        trial.report(value, rung)

    def has_reported(self, trial: Trial, rung: int) -> bool:
        """Whether the trial has a value at the rung."""
        return rung in self.trials[trial.number].intermediate_values

    def gives_up(self, trial: Trial, rung: int) -> bool:
        """Whether the pruner gives the trial up at a rung; it is then over. One that came farther has passed it."""
        if self.trials[trial.number].last_step != rung or not trial.should_prune():
            return False
        self._study.tell(trial, state=TrialState.PRUNED)
        return True

    def complete(self, trial: Trial, value: float, values: Sequence[float]) -> None:
        """Ends a trial with its value, and with those of its runs."""
        trial.set_user_attr(_VALUES, list(values))
        self._study.tell(trial, value)

    def fail(self, trial: Trial, error: str) -> None:
        """Ends a trial without a value."""
        trial.set_user_attr(_ERROR, error)
        self._study.tell(trial, state=TrialState.FAIL)

    def keep_folders(self, trial: Trial, folders: Sequence[str]) -> None:
        """Keeps the names of the folders in which the runs of a trial lie."""
        if trial.user_attrs.get(_FOLDERS) != list(folders):
            trial.set_user_attr(_FOLDERS, list(folders))


def error_of(trial: FrozenTrial) -> str | None:
    """Why the trial failed, None where it did not."""
    error: str | None = trial.user_attrs.get(_ERROR)
    return error


def values_of(trial: FrozenTrial) -> list[float] | None:
    """What each run of a complete trial came to."""
    values: list[float] | None = trial.user_attrs.get(_VALUES)
    return values


def folders_of(trial: FrozenTrial) -> list[str]:
    """The folders of the trial's runs, in that of the search."""
    folders: list[str] = trial.user_attrs.get(_FOLDERS, [])
    return folders


def check_storage(url: str | None) -> None:
    """Refuses the URL of a database that cannot be used here; nothing is opened.

    Raises:
        ConfigurationError: it cannot be read, or what reads such a database is not installed.
    """
    if url is None:
        return
    try:
        make_url(url).get_dialect().import_dbapi()
    except (SQLAlchemyError, ImportError) as error:
        allowed = f"null or the URL of a database that can be opened ({error})"
        raise bad_value("hydra.sweeper.storage", _without_password(url), allowed) from error


def _open_storage(url: str | None, folder: Path) -> BaseStorage:
    """The storage of the search in ``folder``.

    Raises:
        ConfigurationError: the database does not open.
    """
    if url is None:
        path = folder / _JOURNAL
        _cut_torn_line(path)
        return JournalStorage(JournalFileBackend(str(path)))
    try:
        return RDBStorage(url)
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(
            f"key 'hydra.sweeper.storage' = '{_without_password(url)}' does not open: {reason}"
        ) from error


def _cut_torn_line(path: Path) -> None:
    """Drops the end of a journal that a power cut or a full disk left without its newline."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        contents = file.read()
        file.truncate(contents.rfind(b"\n") + 1)


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string()
    except SQLAlchemyError:
        return url
