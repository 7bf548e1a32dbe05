"""Balanced L1 loss (Libra R-CNN, https://arxiv.org/abs/1904.02701, section 3.3)."""

import math

import torch

FORMULAS = ("exact", "reference")
# exp(gamma / alpha) has to stay a number that float32 can hold.
_MAX_RATIO = 80.0


def balanced_l1_loss(
    pred: torch.Tensor,
    target: torch.Tensor,
    *,
    alpha: float = 0.5,
    gamma: float = 1.5,
    beta: float = 1.0,
    formula: str = "exact",
    reduction: str = "none",
) -> torch.Tensor:
    """An L1 loss whose inliers weigh more: they give only 30 % of smooth L1's gradient.

    Libra R-CNN, equations 5 to 7. The gradient is alpha ln(b|x| + 1) for inliers, |x| < 1, and
    gamma for outliers; the two meet at 1, which fixes b = exp(gamma / alpha) - 1. Integrated:

        L(x) = alpha / b (b|x| + 1) ln(b|x| + 1) - alpha|x|     if |x| < 1
               gamma|x| + gamma / b - alpha                     otherwise

    A transition point beta other than 1 rescales it, beta L(x / beta): still no slope at 0, still
    gamma beyond beta.

    Args:
        pred: predictions of any shape, floating point.
        target: what they should be, same shape.
        alpha: smaller promotes the inliers more; > 0.
        gamma: gradient of the outliers; > 0, at most 80 alpha.
        beta: the |x| that parts inliers from outliers; > 0.
        formula: "exact" is the above. "reference" is what the authors' code computes, which equals
            it at beta = 1 only: elsewhere x is divided by beta inside the logarithm alone. The
            released Libra RetinaNet (beta 0.11) was trained with it.
        reduction: "none", "mean" or "sum".

    Returns:
        The loss, in the dtype that ``pred - target`` has: its shape for "none", else a scalar. The
        "mean" over no element is 0, with a gradient, and not NaN.

    Raises:
        ValueError: a number out of its range, or an unknown ``formula`` or ``reduction``.

    Examples:
        >>> error = torch.tensor([0.5, 1.0, 2.0], requires_grad=True)
        >>> balanced_l1_loss(error, torch.zeros(3), reduction="sum").backward()
        >>> error.grad  # smooth L1's would be 0.5, 1 and 1
        tensor([1.1777, 1.5000, 1.5000])
    """
    _check_arguments(alpha, gamma, beta, formula)
    x = torch.abs(pred - target)
    if formula == "exact":
        loss = _exact(x, alpha, gamma, beta)
    else:
        loss = _reference(x, alpha, gamma, beta)

    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean":
        return loss.sum() / max(loss.numel(), 1)
    raise ValueError(f"reduction is {reduction!r}, should be 'none', 'mean' or 'sum'")


def _exact(x: torch.Tensor, alpha: float, gamma: float, beta: float) -> torch.Tensor:
    b = math.expm1(gamma / alpha)
    y = _inliers(x, beta) / beta
    inlier = alpha / b * (b * y + 1) * torch.log(b * y + 1) - alpha * y
    return torch.where(x < beta, beta * inlier, gamma * x + beta * (gamma / b - alpha))


def _reference(x: torch.Tensor, alpha: float, gamma: float, beta: float) -> torch.Tensor:
    b = math.expm1(gamma / alpha)
    y = _inliers(x, beta)
    inlier = alpha / b * (b * y + 1) * torch.log(b * y / beta + 1) - alpha * y
    return torch.where(x < beta, inlier, gamma * x + gamma / b - alpha * beta)


def _inliers(x: torch.Tensor, beta: float) -> torch.Tensor:
    """The errors with outliers at 0.

    In half precision b times an outlier can be inf, and an inf that is not selected makes the
    gradient NaN.
    """
    return torch.where(x < beta, x, 0.0)


def _check_arguments(alpha: float, gamma: float, beta: float, formula: str) -> None:
    for name, value in (("alpha", alpha), ("gamma", gamma), ("beta", beta)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} is {value}, should be a positive number")
    if gamma / alpha > _MAX_RATIO:
        raise ValueError(f"gamma / alpha is {gamma} / {alpha}, should be <= {_MAX_RATIO:g}")
    if formula not in FORMULAS:
        raise ValueError(f"formula is {formula!r}, should be one of {FORMULAS}")
