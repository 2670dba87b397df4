"""How an audit is made, and from where on a number is worth a notice or an alarm. Each level is explained in docs/audit.md."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tongtu.config import configuration


@configuration
class Level:
    """From where on a value is worth a notice, and from where on an alarm."""

    notice: float
    alarm: float

    def __post_init__(self) -> None:
        if self.notice > self.alarm:
            raise ValueError("notice must not lie above alarm")


def _level(notice: float, alarm: float) -> Level:
    return Field(default_factory=lambda: Level(notice=notice, alarm=alarm))


@configuration
class AuditConfig:
    """Settings of an audit.

    Attributes:
        users: How many users are drawn; None takes 2,000, or 50 of a model that scores no catalogue, such as a language model.
        attributes: User attributes to part users by; None takes those that at least half of the users have.
        seed: Every random choice follows from it.
        depth: Length of the lists in which overexposed items are looked for; fairness and popularity look at the first ten.
        group_users: A group needs so many users among those asked.
        attackers: Attackers that guess attributes from user vectors (`tongtu.trust.probe`); the strongest counts.
        chance: A gap between groups counts only if it would come about by chance with a smaller probability than this.
        inference: AUC of guessing an attribute; the lower end of the interval is judged. .5 is chance.
        forgotten: The same for an attribute that a model was told to forget.
        accuracy_gap: NDCG@10 of the best group less that of the worst, over that of all.
        exposure_gap: How much further one group's lists lean to hits than another's, beyond what the groups chose themselves.
        lift: Popularity of what is recommended over popularity of what the same users chose.
        concentration: Gini coefficient of how often each item is shown.
        pushed_lists, pushed_lists_of_groups: Largest score of an item by lists over all users, and within a group (`tongtu.trust.pushed`), where
            no calibration is given; `pushed_ranks` and `pushed_ranks_of_groups` by ranks. Measured on MovieLens-100K, see docs/audit.md.
        memory: AUC of telling learned events from others by how high the model ranks them; the lower end of the interval is judged.
    """

    users: int | None = Field(None, ge=20)
    attributes: tuple[str, ...] | None = None
    seed: int = Field(0, ge=0)
    depth: int = Field(20, ge=10)
    group_users: int = Field(30, ge=2)
    attackers: tuple[Literal["linear", "mlp", "boosting"], ...] = ("linear", "mlp")
    chance: float = Field(0.01, gt=0, lt=1)
    inference: Level = _level(0.55, 0.80)
    forgotten: Level = _level(0.53, 0.58)
    accuracy_gap: Level = _level(0.25, 0.60)
    exposure_gap: Level = _level(0.10, 0.25)
    lift: Level = _level(1.5, 4.0)
    concentration: Level = _level(0.95, 0.995)
    pushed_lists: Level = _level(2.0, 3.0)
    pushed_lists_of_groups: Level = _level(3.0, 4.0)
    pushed_ranks: Level = _level(6.0, 8.0)
    pushed_ranks_of_groups: Level = _level(8.0, 12.0)
    memory: Level = _level(0.65, 0.80)
