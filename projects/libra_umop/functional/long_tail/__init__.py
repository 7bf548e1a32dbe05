"""Against the imbalance between classes: torch only, one idea a file.

Letters: R anchors or regions, K classes. Labels: -1 ignore, [0, K) foreground, K background.
"""

from .class_focal_loss import class_balanced_focal_loss_sum, focal_loss_by_class
from .class_weights import effective_number_weights
from .equalized_focal_loss import class_balance, equalized_focal_loss_sum
from .seesaw_loss import seesaw_loss

__all__ = [
    "class_balance",
    "class_balanced_focal_loss_sum",
    "effective_number_weights",
    "equalized_focal_loss_sum",
    "focal_loss_by_class",
    "seesaw_loss",
]
