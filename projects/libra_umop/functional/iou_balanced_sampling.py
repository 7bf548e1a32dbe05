"""IoU-balanced sampling (Libra R-CNN, https://arxiv.org/abs/1904.02701, section 3.1).

Letters: N samples asked for, M candidates, K bins.

Everything here is dealt like cards. The candidates, shuffled, are sorted into piles (IoU bins, or
ground-truth boxes), and one is taken from each pile in turn, until N are taken or none is left. A
pile that runs out gives all it has, and those that go on share what it could not give. This needs
no count of a pile on the host, so nothing here waits for the device.
"""

import torch

BIN_RANGES = ("threshold", "observed")


def sample_iou_balanced_negatives(
    ious: torch.Tensor,
    num_samples: int,
    *,
    num_bins: int = 3,
    max_iou: float = 0.5,
    floor_iou: float = 0.0,
    floor_fraction: float = 0.0,
    bin_range: str = "threshold",
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Draw negatives evenly over their IoU with the ground truth.

    Over 60 % of the hard negatives overlap the ground truth by more than 0.05, of random draws
    only 30 %. So [floor_iou, max_iou) is split into K equal bins, and a candidate of bin k, which
    holds M_k, is drawn with probability p_k = N / (K M_k) (equation 2), without replacement. The
    remainder of N / K goes to the highest bins. A bin that holds less than its share gives all it
    has, and what is missing is shared out evenly over the bins that still have candidates.

    Args:
        ious: the largest IoU of each negative candidate with any ground-truth box, (M,), in [0, 1].
        num_samples: N, how many to draw; >= 0.
        num_bins: K; >= 1.
        max_iou: where the bins end, the background threshold; an IoU beyond it is in the last bin.
        floor_iou: IoUs below it are in no bin.
        floor_fraction: round(floor_fraction * N) are drawn at random from below ``floor_iou``, and
            more only when the bins are empty; in [0, 1].
        bin_range: "threshold" is the above. "observed" is what the authors' code does: the bins end
            at the largest IoU of all boxes, ground truth included, which is 1; a bin gives no more
            than N // K, and what is missing is drawn uniformly from all candidates left in the
            bins. With K = 3 and a threshold of 0.5 the last bin is thus always empty.
        generator: source of randomness on the device of ``ious``; torch's own by default.

    Returns:
        Indices into ``ious``, (min(N, M),), int64, all different, in no order.

    Raises:
        ValueError: ``ious`` is not a vector, or an argument is out of its range.

    Examples:
        >>> ious = torch.tensor([0.0] * 96 + [0.2, 0.21, 0.4, 0.41])
        >>> chosen = sample_iou_balanced_negatives(ious, 6)  # two from each third of [0, 0.5)
        >>> ious[chosen].sort().values
        tensor([0.0000, 0.0000, 0.2000, 0.2100, 0.4000, 0.4100])
    """
    if bin_range not in BIN_RANGES:
        raise ValueError(f"bin_range is {bin_range!r}, should be one of {BIN_RANGES}")
    end_iou = max_iou if bin_range == "threshold" else 1.0
    _check_vector(ious, "ious", num_samples)
    _check_bins(num_bins, floor_iou, end_iou, floor_fraction)

    shuffled_idxs = torch.randperm(len(ious), generator=generator, device=ious.device)
    shuffled_ious = ious[shuffled_idxs]
    bins = ((shuffled_ious - floor_iou) * (num_bins / (end_iou - floor_iou))).long()
    bins = bins.clamp(0, num_bins - 1)
    is_floor = shuffled_ious < floor_iou
    rank = _rank_in_group(torch.where(is_floor, num_bins, bins))  # (M,)

    num_floor = round(floor_fraction * num_samples)
    if bin_range == "threshold":
        turn = rank * num_bins + (num_bins - 1 - bins)
    else:
        share = (num_samples - num_floor) // num_bins
        turn = torch.where(rank < share, 0, 1)
    # First the floor's own share, then the bins, and the rest of the floor behind every bin.
    behind = len(ious) * num_bins
    turn = torch.where(is_floor, torch.where(rank < num_floor, -1, behind), turn)
    return shuffled_idxs[_first(turn, num_samples, generator)]


def sample_instance_balanced_positives(
    matched_idxs: torch.Tensor,
    num_samples: int,
    *,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Draw positives evenly over the ground-truth boxes that they are matched to (section 3.1).

    Each box that has candidates gets an equal share of the N samples. One that has fewer gives all
    it has, and what is missing is shared out evenly over the others; which of them get the
    remainder is random.

    Args:
        matched_idxs: the ground-truth box of each positive candidate, (M,), integer.
        num_samples: N, how many to draw; >= 0.
        generator: source of randomness on the device of ``matched_idxs``; torch's own by default.

    Returns:
        Indices into ``matched_idxs``, (min(N, M),), int64, all different, in no order.

    Raises:
        ValueError: ``matched_idxs`` is not a vector, or ``num_samples`` is negative.

    Examples:
        >>> matched_idxs = torch.tensor([0] * 90 + [1] * 10)
        >>> chosen = sample_instance_balanced_positives(matched_idxs, 8)
        >>> matched_idxs[chosen].bincount()
        tensor([4, 4])
    """
    _check_vector(matched_idxs, "matched_idxs", num_samples)
    device = matched_idxs.device
    shuffled_idxs = torch.randperm(len(matched_idxs), generator=generator, device=device)
    turn = _rank_in_group(matched_idxs[shuffled_idxs])
    return shuffled_idxs[_first(turn, num_samples, generator)]


def _rank_in_group(groups: torch.Tensor) -> torch.Tensor:
    """How many earlier elements are in the same group: [7, 3, 7, 7, 3] -> [0, 0, 1, 2, 1]."""
    sorted_groups, order = groups.sort(stable=True)
    first = torch.searchsorted(sorted_groups, sorted_groups)
    position = torch.arange(len(groups), device=groups.device)
    return torch.empty_like(position).scatter_(0, order, position - first)


def _first(
    turns: torch.Tensor, num_samples: int, generator: torch.Generator | None
) -> torch.Tensor:
    """Indices of the ``num_samples`` whose turn comes first, equal turns in random order.

    That order is drawn anew: where a candidate stands in its pile tells how large the pile is.
    """
    order = torch.randperm(len(turns), generator=generator, device=turns.device)
    return (turns * len(turns) + order).argsort()[:num_samples]


def _check_vector(values: torch.Tensor, name: str, num_samples: int) -> None:
    if values.dim() != 1:
        raise ValueError(f"{name}.shape is {tuple(values.shape)}, should be that of a vector")
    if num_samples < 0:
        raise ValueError(f"num_samples is {num_samples}, should be >= 0")


def _check_bins(num_bins: int, floor_iou: float, end_iou: float, floor_fraction: float) -> None:
    if num_bins < 1:
        raise ValueError(f"num_bins is {num_bins}, should be >= 1")
    if not 0 <= floor_iou < end_iou <= 1:
        raise ValueError(
            f"floor_iou is {floor_iou}, should be in [0, end of the bins = {end_iou}), end <= 1"
        )
    if not 0 <= floor_fraction <= 1:
        raise ValueError(f"floor_fraction is {floor_fraction}, should be in [0, 1]")
