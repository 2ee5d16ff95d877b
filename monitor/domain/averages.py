"""Averages over the classes of a confusion matrix, as river computes them.

One river ``ConfusionMatrix`` is fed integer class codes in sorted order: river adds macro averages
in set order, which for strings differs between processes. The matrix is only ever fed, never
indexed: reading a river matrix by ``[]`` creates cells.
"""

from collections.abc import Mapping
from typing import NamedTuple

from river import metrics

from monitor.domain.events import Intent


class Averages(NamedTuple):
    """Each 0..1, but kappa, which is -1..1 and None where a single class occurs.

    Chance alone would agree everywhere then.
    """

    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    cohen_kappa: float | None


def averages_of(confusion: Mapping[tuple[Intent, Intent], int]) -> Averages:
    """Over all classes that occur as actual or predicted; all 0 without an outcome."""
    code = {intent: n for n, intent in enumerate(sorted({i for pair in confusion for i in pair}))}
    matrix = metrics.ConfusionMatrix()
    for (actual, predicted), count in sorted(confusion.items()):
        matrix.update(code[actual], code[predicted], w=count)
    return Averages(
        accuracy=float(metrics.Accuracy(cm=matrix).get()),
        balanced_accuracy=float(metrics.BalancedAccuracy(cm=matrix).get()),
        macro_f1=float(metrics.MacroF1(cm=matrix).get()),
        cohen_kappa=float(metrics.CohenKappa(cm=matrix).get()) if len(matrix.classes) > 1 else None,
    )
