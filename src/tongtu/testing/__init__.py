"""The public contract of a recommender, and whether it learns: for every system here and for those of other packages.

    from tongtu.testing import check_recommender
    check_recommender(lambda: MySystem(MySystem.Config(epochs=1)))

A failed check raises `AssertionError` with one sentence that says what a recommender must do and what this one did.
"""

from tongtu.testing.case import Case, SystemFactory
from tongtu.testing.contract import CHECKS, check_recommender
from tongtu.testing.learning import case_ndcg, check_learns

__all__ = ["CHECKS", "Case", "SystemFactory", "case_ndcg", "check_learns", "check_recommender"]
