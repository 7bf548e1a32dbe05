"""What mmdetection calls a tensor of a model here.

A rule is a pattern of our name and the templates of theirs, the first of which is written, all of
which are read. What a name alone cannot tell (which level a pyramid begins with, how many anchors a
location has) is in a :class:`Structure`, read once from the model's names and the config.
"""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from detectron2.config import CfgNode

from .layouts import PATCH_MERGING, SAME, Layout, anchor_layout

__all__ = ["Source", "Structure", "sources_of"]

RPN_HEAD = r"proposal_generator\.rpn_head\."
SWIN_BLOCK = r"net\.layers_(\d+)\.blocks\.(\d+)\."
NORM_PART = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
PART = r"(weight|bias)"


class Source(NamedTuple):
    """A name of theirs and how the tensor is stored there."""

    name: str
    layout: Layout = SAME


class Structure(NamedTuple):
    """What the rules must know of a model beyond a tensor's name."""

    neck: str  # "neck" or, inside a balanced pyramid, "neck.0"
    finest_level: int  # of the pyramid's own convolutions: 3 for P3
    num_laterals: int
    num_sizes: int
    num_ratios: int
    num_classes: int
    dense_head: str  # a name in DENSE_RULES
    names: frozenset  # of all tensors here

    @classmethod
    def of(cls, cfg: CfgNode, names: Iterable[str]) -> "Structure":
        """Read the structure of the model that ``cfg`` builds and whose tensors are ``names``."""
        names = frozenset(names)
        found = (re.search(r"\.fpn_lateral(\d+)\.", name) for name in names)
        levels = {int(match.group(1)) for match in found if match}
        generator = cfg.MODEL.ANCHOR_GENERATOR
        architecture = cfg.MODEL.META_ARCHITECTURE
        dense_heads = {"ATSS": "atss", "RetinaNet": "retina", "GFL": "gfl", "VFNet": "vfnet"}
        return cls(
            neck="neck.0" if cfg.MODEL.BACKBONE.NAME == "build_bfp_backbone" else "neck",
            finest_level=min(levels, default=0),
            num_laterals=len(levels),
            num_sizes=len(generator.SIZES[0]),
            num_ratios=len(generator.ASPECT_RATIOS[0]),
            num_classes=cfg.MODEL.RETINANET.NUM_CLASSES,
            dense_head=next((v for k, v in dense_heads.items() if architecture.endswith(k)), ""),
            names=names,
        )

    def has_norm(self, conv: str) -> bool:
        """Whether a norm follows ``conv``, the dotted name of a convolution in a sequence."""
        subnet, _, index = conv.rpartition(".")
        return index.isdigit() and f"{subnet}.{int(index) + 1}.weight" in self.names

    def anchors(self, num_channels: int) -> Layout:
        """The layout of a convolution with ``num_channels`` rows for each anchor."""
        return anchor_layout(
            num_sizes=self.num_sizes, num_ratios=self.num_ratios, num_channels=num_channels
        )

    def conv_number(self, subnet: str, index: int) -> int:
        """Which convolution of ``subnet`` has the position ``index``, or is normalised there.

        A norm follows its convolution directly, an activation has no tensors: a convolution is what
        has tensors while the position before it has none.
        """
        pattern = re.compile(rf"{re.escape(subnet)}\.(\d+)\.")
        positions = {int(m.group(1)) for m in map(pattern.match, self.names) if m}
        convs = sorted(i for i in positions if i - 1 not in positions)
        return convs.index(index if index in convs else index - 1)


Template = Callable[[re.Match, Structure], list[Source]]
Rule = tuple[str, Template]  # pattern of our name, names of theirs


def _plain(*templates: str) -> Template:
    """Templates filled with the groups of the pattern."""
    return lambda match, structure: [Source(t.format(*match.groups())) for t in templates]


def _resnet(*templates: str) -> Template:
    """As :func:`_plain`, the stage's number one lower: res2 is layer1."""
    return lambda match, structure: [
        Source(t.format(int(match.group(1)) - 1, *match.groups()[1:])) for t in templates
    ]


def _level_conv(kind: str) -> Template:
    def fill(match: re.Match, structure: Structure) -> list[Source]:
        number = int(match.group(1)) - structure.finest_level
        name = "conv." + match.group(2)
        if name.startswith("conv.norm."):
            norm = match.string[: match.start(2)] + "norm.running_mean"
            is_batch_norm = any(n.endswith(norm) for n in structure.names)
            name = name.replace("conv.norm", "bn" if is_batch_norm else "gn")
        return [Source(f"{structure.neck}.{kind}.{number}.{name}")]

    return fill


def _top_conv(match: re.Match, structure: Structure) -> list[Source]:
    number = structure.num_laterals + int(match.group(1)) - 6
    return [Source(f"{structure.neck}.fpn_convs.{number}.conv.{match.group(2)}")]


def _tower(subnet: str, theirs: str) -> Template:
    """Convolutions (``conv``) and group norms (``gn``) of a dense head's tower."""

    def fill(match: re.Match, structure: Structure) -> list[Source]:
        index, part = match.groups()
        number = structure.conv_number(subnet, int(index))
        is_norm = f"{subnet}.{int(index) - 1}.weight" in structure.names
        kind = "gn" if is_norm else "conv"
        return [Source(f"bbox_head.{theirs}.{number}.{kind}.{part}")]

    return fill


def _anchored(template: str, num_channels: int | None) -> Template:
    """A convolution over anchors; ``num_channels`` None is one for each class."""

    def fill(match: re.Match, structure: Structure) -> list[Source]:
        layout = structure.anchors(num_channels or structure.num_classes)
        return [Source(template.format(*match.groups()), layout)]

    return fill


def _swin_merging(match: re.Match, structure: Structure) -> list[Source]:
    """A stage's patch merging stands at its beginning here, at the end of the one before there."""
    stage, part = int(match.group(1)) - 1, match.group(2)
    return [
        Source(f"backbone.stages.{stage}.downsample.{part}", PATCH_MERGING),
        Source(f"backbone.layers.{stage}.downsample.{part}"),  # the authors' own code
    ]


def _out_norm(match: re.Match, structure: Structure) -> list[Source]:
    return [Source(f"backbone.norm{int(match.group(1)) - 2}.{match.group(2)}")]


def _swin_block(theirs: str, authors: str) -> Template:
    def fill(match: re.Match, structure: Structure) -> list[Source]:
        stage, block, part = match.groups()[:3]
        return [
            Source(f"backbone.stages.{stage}.blocks.{block}.{theirs.format(part)}"),
            Source(f"backbone.layers.{stage}.blocks.{block}.{authors.format(part)}"),
        ]

    return fill


def _stem_norm(match: re.Match, structure: Structure) -> list[Source]:
    """The last norm of the stem: number 7 of a deep one."""
    is_deep = any(".net.conv1.0." in name for name in structure.names)
    return [Source(f"backbone.stem.7.{match[1]}" if is_deep else f"backbone.bn1.{match[1]}")]


BOTTOM_UP_RULES: list[Rule] = [
    # Detectron2's ResNet
    (rf"stem\.conv1\.{PART}", _plain("backbone.conv1.{0}")),
    (rf"stem\.conv1\.norm\.{NORM_PART}", _plain("backbone.bn1.{0}")),
    (rf"res(\d)\.(\d+)\.conv(\d)\.{PART}", _resnet("backbone.layer{0}.{1}.conv{2}.{3}")),
    (
        rf"res(\d)\.(\d+)\.conv(\d)\.norm\.{NORM_PART}",
        _resnet("backbone.layer{0}.{1}.bn{2}.{3}"),
    ),
    (rf"res(\d)\.(\d+)\.shortcut\.{PART}", _resnet("backbone.layer{0}.{1}.downsample.0.{2}")),
    (
        rf"res(\d)\.(\d+)\.shortcut\.norm\.{NORM_PART}",
        _resnet("backbone.layer{0}.{1}.downsample.1.{2}"),
    ),
    (
        rf"res(\d)\.(\d+)\.conv2_offset\.{PART}",
        _resnet(
            "backbone.layer{0}.{1}.conv2.conv_offset.{2}", "backbone.layer{0}.{1}.conv2_offset.{2}"
        ),
    ),
    # timm's Swin; first mmdetection's names, then the authors' own
    (
        rf"net\.patch_embed\.proj\.{PART}",
        _plain("backbone.patch_embed.projection.{0}", "backbone.patch_embed.proj.{0}"),
    ),
    (rf"net\.patch_embed\.norm\.{PART}", _plain("backbone.patch_embed.norm.{0}")),
    (rf"net\.layers_(\d+)\.downsample\.((?:norm|reduction)\.{PART})", _swin_merging),
    (rf"{SWIN_BLOCK}(norm\d\.{PART})", _swin_block("{0}", "{0}")),
    (
        rf"{SWIN_BLOCK}attn\.(relative_position_bias_table|(?:qkv|proj)\.{PART})",
        _swin_block("attn.w_msa.{0}", "attn.{0}"),
    ),
    (rf"{SWIN_BLOCK}mlp\.fc1\.{PART}", _swin_block("ffn.layers.0.0.{0}", "mlp.fc1.{0}")),
    (rf"{SWIN_BLOCK}mlp\.fc2\.{PART}", _swin_block("ffn.layers.1.{0}", "mlp.fc2.{0}")),
    (rf"out_norms\.res(\d)\.{PART}", _out_norm),
    # timm's ResNets and Res2Nets, with a deep stem and without
    (rf"net\.conv1\.(\d)\.{NORM_PART}", _plain("backbone.stem.{0}.{1}")),
    (rf"net\.conv1\.{PART}", _plain("backbone.conv1.{0}")),
    (rf"net\.bn1\.{NORM_PART}", _stem_norm),
    (r"net\.(layer\d\..+)", _plain("backbone.{0}")),
]

NECK_RULES: list[Rule] = [
    (r"fpn_lateral(\d+)\.(.+)", _level_conv("lateral_convs")),
    (r"fpn_output(\d+)\.(.+)", _level_conv("fpn_convs")),
    (rf"top_block\.p(\d)\.{PART}", _top_conv),
]

HEAD_RULES: list[Rule] = [
    (rf"backbone\.balance\.refine\.(theta|phi|g)\.{PART}", _plain("neck.1.refine.{0}.conv.{1}")),
    (rf"backbone\.balance\.refine\.out\.{PART}", _plain("neck.1.refine.conv_out.conv.{0}")),
    # region proposals
    (rf"{RPN_HEAD}conv\.{PART}", _plain("rpn_head.rpn_conv.{0}")),
    (rf"{RPN_HEAD}objectness_logits\.{PART}", _anchored("rpn_head.rpn_cls.{0}", 1)),
    (rf"{RPN_HEAD}anchor_deltas\.{PART}", _anchored("rpn_head.rpn_reg.{0}", 4)),
    # box and mask heads; a cascade's stages have a number
    (
        rf"roi_heads\.box_head\.(\d\.)?fc(\d)\.{PART}",
        lambda m, s: [Source(f"roi_head.bbox_head.{m[1] or ''}shared_fcs.{int(m[2]) - 1}.{m[3]}")],
    ),
    (
        rf"roi_heads\.box_predictor\.(\d\.)?cls_score\.{PART}",
        lambda m, s: [Source(f"roi_head.bbox_head.{m[1] or ''}fc_cls.{m[2]}")],
    ),
    (
        rf"roi_heads\.box_predictor\.(\d\.)?bbox_pred\.{PART}",
        lambda m, s: [Source(f"roi_head.bbox_head.{m[1] or ''}fc_reg.{m[2]}")],
    ),
    (
        rf"roi_heads\.mask_head\.mask_fcn(\d)\.{PART}",
        lambda m, s: [Source(f"roi_head.mask_head.convs.{int(m[1]) - 1}.conv.{m[2]}")],
    ),
    (rf"roi_heads\.mask_head\.deconv\.{PART}", _plain("roi_head.mask_head.upsample.{0}")),
    (rf"roi_heads\.mask_head\.predictor\.{PART}", _plain("roi_head.mask_head.conv_logits.{0}")),
    # dense heads
    (rf"head\.cls_subnet\.(\d+)\.{PART}", _tower("head.cls_subnet", "cls_convs")),
    (rf"head\.bbox_subnet\.(\d+)\.{PART}", _tower("head.bbox_subnet", "reg_convs")),
]

SCALES: Rule = (r"head\.scales\.(\d+)", _plain("bbox_head.scales.{0}.scale"))
DENSE_RULES: dict[str, list[Rule]] = {
    "retina": [
        (rf"head\.cls_score\.{PART}", _anchored("bbox_head.retina_cls.{0}", None)),
        (rf"head\.bbox_pred\.{PART}", _anchored("bbox_head.retina_reg.{0}", 4)),
    ],
    "atss": [
        (rf"head\.cls_score\.{PART}", _plain("bbox_head.atss_cls.{0}")),
        (rf"head\.bbox_pred\.{PART}", _plain("bbox_head.atss_reg.{0}")),
        (rf"head\.ctrness\.{PART}", _plain("bbox_head.atss_centerness.{0}")),
        SCALES,
    ],
    "gfl": [
        (rf"head\.cls_score\.{PART}", _plain("bbox_head.gfl_cls.{0}")),
        (rf"head\.bbox_pred\.{PART}", _plain("bbox_head.gfl_reg.{0}")),
        SCALES,
    ],
    "vfnet": [
        (rf"head\.cls_score\.{PART}", _plain("bbox_head.vfnet_cls.{0}")),
        (rf"head\.bbox_pred\.{PART}", _plain("bbox_head.vfnet_reg.{0}")),
        (rf"head\.bbox_refine\.{PART}", _plain("bbox_head.vfnet_reg_refine.{0}")),
        (rf"head\.bbox_conv\.0\.{PART}", _plain("bbox_head.vfnet_reg_conv.conv.{0}")),
        (rf"head\.bbox_conv\.1\.{PART}", _plain("bbox_head.vfnet_reg_conv.gn.{0}")),
        (r"head\.refine_conv\.weight", _plain("bbox_head.vfnet_reg_refine_dconv.weight")),
        (r"head\.cls_conv\.weight", _plain("bbox_head.vfnet_cls_dconv.weight")),
        (r"head\.refine_scales\.(\d+)", _plain("bbox_head.scales_refine.{0}.scale")),
        SCALES,
    ],
    "": [],
}


def sources_of(name: str, structure: Structure) -> list[Source]:
    """Where a tensor of ours may be found there, the newest name first; empty if unknown."""
    inside = re.fullmatch(r"backbone\.(?:bottom_up\.)?(.+)", name)
    found = _first_match(inside.group(1), structure, BOTTOM_UP_RULES + NECK_RULES) if inside else []
    return found or _first_match(name, structure, HEAD_RULES + DENSE_RULES[structure.dense_head])


def _first_match(name: str, structure: Structure, rules: list[Rule]) -> list[Source]:
    for pattern, template in rules:
        match = re.fullmatch(pattern, name)
        if match:
            return template(match, structure)
    return []
