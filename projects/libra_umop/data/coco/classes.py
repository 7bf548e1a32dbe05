"""Which categories of a dataset are its classes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..defects import Defect, short
from .document import CocoData


@dataclass
class SettledClasses:
    """What the splits of a dataset make its classes.

    Attributes:
        categories: the classes, in the order of their contiguous ids.
        placeholders: the training split's categories that are no classes.
        conflicts: what is wrong with the categories of each split, by name; [] for nothing.
    """

    categories: list[dict[str, Any]]
    placeholders: list[dict[str, Any]]
    conflicts: dict[str, list[Defect]] = field(default_factory=dict)


def settle_classes(splits: dict[str, CocoData]) -> SettledClasses:
    """Settle the classes, which the training split declares.

    Args:
        splits: the content of "train", "val" and "test", as far as there; "train" is. A test split
            with conflicts beside a validation split has no say, as training leaves it out.
    """
    train = reference_of(splits)
    ids = placeholder_ids(list(splits.values()))
    settled = SettledClasses(
        [c for c in train.categories if c["id"] not in ids],
        [c for c in train.categories if c["id"] in ids],
    )
    for name, data in splits.items():
        settled.conflicts[name] = _conflicts(data, train, ids) if data is not train else []
    reference = next(name for name, data in splits.items() if data is train)
    settled.conflicts[reference] += equal_names(settled.categories)
    if is_spare("test", splits) and settled.conflicts.get("test"):
        rest = settle_classes({name: splits[name] for name in splits if name != "test"})
        rest.conflicts["test"] = settled.conflicts["test"]
        return rest
    return settled


def reference_of(splits: dict[str, CocoData]) -> CocoData:
    """The split that declares the classes: training's, or the first where nothing is trained on."""
    return splits.get("train") or next(iter(splits.values()))


def is_spare(name: str, splits: dict[str, Any]) -> bool:
    """Whether a split is a test split beside a validation split, which training does not look at.

    It may lack annotations, and is left out if anything is wrong with it.
    """
    return name == "test" and "val" in splits


def placeholder_ids(splits: Sequence[CocoData]) -> list[int]:
    """Category ids that are no classes, but Roboflow's name of the project.

    It is the first category, the supercategory of all others, and has no box. It is left out if all
    of that holds in every split, for the first one's categories; any other category without boxes
    stays a class.
    """
    used = {category_id for data in splits for category_id in data.used_category_ids}
    ids = []
    for category in splits[0].categories:
        others = [c for c in splits[0].categories if c is not category]
        groups_all = others and all(c["supercategory"] == category["name"] for c in others)
        if groups_all and category["supercategory"] == "none" and category["id"] not in used:
            ids.append(category["id"])
    return ids


def equal_names(classes: Sequence[dict[str, Any]]) -> list[Defect]:
    """Where classes have the same name."""
    first: dict[str, int] = {}
    defects = []
    for category in classes:
        same_as = first.setdefault(category["name"], category["id"])
        if same_as != category["id"]:
            named = f"category id {category['id']}: is named {short(category['name'])}"
            message = f"{named} like category id {same_as}; every class should have its own name"
            defects.append(Defect("category_name_twice", message))
    return defects


def _conflicts(data: CocoData, train: CocoData, placeholders: Sequence[int]) -> list[Defect]:
    """Where a split's categories are not the training split's; some may be absent."""
    names = {c["id"]: c["name"] for c in train.categories}
    defects = []
    for category in data.categories:
        category_id, name = category["id"], category["name"]
        if category_id in placeholders or names.get(category_id) == name:
            continue
        there = f"is {short(names[category_id])}" if category_id in names else "is not declared"
        message = f"category id {category_id} is {short(name)}, but {there} in {train.source}"
        defects.append(Defect("class_conflict", f"{message}; all splits should agree"))
    return defects
