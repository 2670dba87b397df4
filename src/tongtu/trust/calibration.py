"""Where a pushed item is beyond what clean models do.

Clean models lean to some items too. So the largest score over all items is taken of each of some clean models, and the threshold
lies where only a small share of clean models' largest scores would lie above it (`tongtu.trust.pushed` has the scores).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from tongtu.config import configuration
from tongtu.core import Recommender
from tongtu.data.dataset import Dataset
from tongtu.errors import ConfigError
from tongtu.trust.asked import ask, groupings
from tongtu.trust.pushed import EVERYBODY, largest, pushed
from tongtu.trust.settings import AuditConfig, Level

ALARMS, NOTICES = 0.05, 0.25
"""The shares of clean models that may be called an alarm, and at least a notice."""

_EULER = 0.5772156649
_FEW = 10
_SPREADS = {"lists": 0.5, "ranks": 1.0}  # what is assumed at least where clean models are so few that their spread says little
_FORMAT = 1


@configuration
class Calibration:
    """Thresholds of the largest score, learned from clean models.

    Attributes:
        format: Of the file.
        depth: Length of the lists.
        users: How many users were asked.
        data: Name of the data set the models were asked about.
        models: Classes of the clean models.
        alarms: The share of clean models that would be called an alarm, over all scores together.
        maxima: The largest score of each clean model, by statistic and way, such as "lists of all users" and "ranks of gender".
        alarm, notice: Thresholds by the same.
    """

    format: int = _FORMAT
    depth: int
    users: int
    data: str
    models: tuple[str, ...]
    alarms: float = ALARMS
    maxima: dict[str, tuple[float, ...]]
    alarm: dict[str, float]
    notice: dict[str, float]

    def __post_init__(self) -> None:
        if self.format > _FORMAT:
            raise ValueError(f"this calibration was written by a newer Tongtu (format {self.format}): upgrade tongtu, or calibrate again")

    def level(self, key: str) -> Level | None:
        """The thresholds of a statistic and way, or None where the clean models told nothing of it."""
        return Level(notice=self.notice[key], alarm=self.alarm[key]) if key in self.alarm and key in self.notice else None


def calibrate(models: Sequence[Recommender], data: Dataset, config: AuditConfig | None = None, quiet: bool = True) -> Calibration:
    """Thresholds from models that are known to be clean.

    Args:
        models: Clean models, the more the better: fitted by yourself, best of the kind that will be audited.
        data: The data set that will be audited on.
        config: Settings of the audit.
        quiet: Whether to show no progress.

    Raises:
        ConfigError: If there is no model.
    """
    config = config or AuditConfig()
    groups = groupings(data, config.attributes, config.group_users)
    asked = [ask(model, data, config, quiet) for model in models]
    seen = [largest(pushed(one, groups)) for one in asked]
    users = min((len(one.users) for one in asked), default=0)
    return calibrated(seen, [type(model).__name__ for model in models], data.name, config.depth, users)


def calibrated(seen: Sequence[Mapping[str, float]], models: Sequence[str], data: str, depth: int, users: int) -> Calibration:
    """Thresholds from the largest scores of clean models.

    Args:
        seen: For each model its largest score by statistic and way, as `largest` gives them.
        models: What the models are.
        data: Name of the data set.
        depth: Length of the lists.
        users: How many users were asked.

    Raises:
        ConfigError: If there is no model.
    """
    if not seen:
        raise ConfigError("a calibration needs at least one clean model: fit some with tongtu fit, or let the audit fit --references")
    keys = dict.fromkeys(key for one in seen for key in one)
    maxima = {key: tuple(one[key] for one in seen if key in one) for key in keys}
    shares = _shares(list(keys))
    alarm, notice = ({key: _threshold(key, values, rate * shares[key]) for key, values in maxima.items()} for rate in (ALARMS, NOTICES))
    return Calibration(depth=depth, users=users, data=data, models=tuple(models), maxima=maxima, alarm=alarm, notice=notice)


def _shares(keys: Sequence[str]) -> dict[str, float]:
    """Each score's share of the false alarms: half for the scores over all users, half for those by attribute, where there are any."""
    everybody = [key for key in keys if key.endswith(f"of {EVERYBODY}")]
    groups = [key for key in keys if key not in everybody]
    whole = 0.5 if groups else 1.0
    return {key: whole / len(everybody) for key in everybody} | {key: 0.5 / len(groups) for key in groups}


def _threshold(key: str, maxima: Sequence[float], rate: float) -> float:
    """Where a share `rate` of clean models' largest scores would lie above.

    With enough models it is one of their scores (the order statistic that holds whatever the distribution); with fewer, the
    quantile of a Gumbel distribution of their mean and spread, since largest values of many items are spread like that.
    """
    values = np.sort(np.array(maxima, np.float64))
    place = math.ceil((len(values) + 1) * (1 - rate))
    if place <= len(values):
        return float(values[place - 1])
    statistic = key.partition(" ")[0]
    seen = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    spread = max(seen, _SPREADS[statistic] if len(values) < _FEW else 0.0)
    scale = spread * math.sqrt(6) / math.pi
    quantile = float(values.mean()) - scale * (_EULER + math.log(-math.log(1 - rate)))
    return max(quantile, float(values[-1]))
