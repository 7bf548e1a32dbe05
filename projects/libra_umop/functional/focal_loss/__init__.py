"""Sigmoid focal loss on class indices, with its gradient in closed form.

Letters: R anchors, K classes. Labels: -1 ignore, [0, K) foreground, K background.
"""

from torch import Tensor

from .sums import sigmoid_loss_sum

__all__ = ["focal_loss_sum"]


def focal_loss_sum(
    logits: Tensor,
    labels: Tensor,
    *,
    gamma: float | Tensor,
    alpha: float | Tensor,
) -> Tensor:
    """Sigmoid focal loss (RetinaNet, equation 5), summed over anchors and classes.

    ``-alpha (1 - p)^gamma ln p`` for an anchor's own class and ``-(1 - alpha) p^gamma ln(1 - p)``
    for every other class, p = sigmoid(logit). It equals one-hot labels through
    :func:`fvcore.nn.sigmoid_focal_loss` with ``reduction="sum"``, but labels stay indices, and the
    exact gradient is computed along with the loss. Finite wherever the logits are; fp32 inside for
    half-precision logits, also under autocast. Differentiable once, with respect to ``logits``.

    Args:
        logits: (R, K), floating point.
        labels: (R,) int64 in {-1} + [0, K]; rows of -1 contribute nothing, K is background.
        gamma: focusing exponent >= 0, a float or a 0-dim tensor.
        alpha: weight of the positives in [0, 1], a float or a 0-dim tensor; a negative float
            weights both kinds by 1.

    Returns:
        0-dim tensor, fp32 (fp64 for fp64 logits). Zero with a live gradient if R is 0.

    Raises:
        ValueError: if the shapes of ``logits`` and ``labels`` do not fit.

    Examples:
        >>> logits = torch.zeros(3, 2)
        >>> labels = torch.tensor([1, 2, -1])  # class 1, background, ignored
        >>> focal_loss_sum(logits, labels, gamma=2.0, alpha=0.25)  # (0.25 + 3 * 0.75) ln 2 / 4
        tensor(0.4332)
    """
    off = isinstance(alpha, (int, float)) and alpha < 0
    weights = (1.0, 1.0) if off else (alpha, 1 - alpha)
    return sigmoid_loss_sum("focal", logits, labels, None, gamma, weights)
