"""Every ``features_only`` model of timm as a bottom-up network under the pyramids.

Features are named as Detectron2's ResNet names them, by stride: res2 (4), res3 (8), res4 (16), res5
(32), so ``MODEL.FPN.IN_FEATURES`` reads the same for all backbones. timm is imported when a model
is built.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import Backbone
from torch import Tensor, nn

from ..deformable import RESNET_STAGES, SelfOffsetDeformConv2d
from ..input_normalization import InputNormalization
from .models import create_timm_model, feature_name, indices_of, probe_timm_model
from .res2net import skip_pool_at_stride_1
from .swin import pad_before_shift

__all__ = ["TimmBackbone", "build_timm_backbone"]

NORMS = ("FrozenBN", "SyncBN", "BN", "")


class TimmBackbone(Backbone):
    """A timm feature extractor as a Detectron2 backbone.

    Args:
        net: what ``timm.create_model(..., features_only=True)`` returns.
        freeze_at: as ``MODEL.BACKBONE.FREEZE_AT``: 1 freezes the stem, 2 also the stage of stride
            4, and so on; frozen modules stay in eval mode.
        deform_on_per_stage: for res2 .. res5, whether the 3x3 convolutions become deformable,
            modulated if ``deform_modulated``, with ``deform_num_groups`` sets of offsets.
        norm: what batch norms become: "FrozenBN", "SyncBN", or "BN" and "" for what they are.
        out_norm: "LN" puts a layer norm over the channels on every output, as detectors on Swin
            have it; "" none.
        grad_checkpoint: recompute activations in the backward pass to save memory.
        input_normalization: from the detector's normalisation of the input to the network's own.

    Raises:
        ValueError: for a stage that ``net`` does not let one freeze or that has no 3x3 convolution.
    """

    def __init__(
        self,
        *,
        net: Any,
        freeze_at: int = 0,
        deform_on_per_stage: Sequence[bool] = (False,) * 4,
        deform_modulated: bool = True,
        deform_num_groups: int = 1,
        norm: str = "",
        out_norm: str = "",
        grad_checkpoint: bool = False,
        input_normalization: nn.Module | None = None,
    ):
        super().__init__()
        self.net = net
        self._channels_last = str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC")
        info = net.feature_info
        self._out_features = [feature_name(stride) for stride in info.reduction()]
        self._out_feature_strides = dict(zip(self._out_features, info.reduction(), strict=True))
        self._out_feature_channels = dict(zip(self._out_features, info.channels(), strict=True))
        self.input_normalization = input_normalization or nn.Identity()
        self.out_norms = _build_out_norms(out_norm, self._out_feature_channels)
        for name, on in zip(RESNET_STAGES, deform_on_per_stage, strict=True):
            if on:
                self._deform(name, deform_num_groups, deform_modulated)
        if grad_checkpoint:
            net.set_grad_checkpointing(True)
        _convert_batch_norm(net, norm)
        self._frozen = self._freeze(freeze_at)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """(N, 3, H, W), normalised by the detector, to {name: (N, C, H/stride, W/stride)}."""
        features = self.net(self.input_normalization(image))
        outputs = {}
        for name, feature in zip(self._out_features, features, strict=True):
            if name in self.out_norms:
                feature = feature if self._channels_last else feature.permute(0, 2, 3, 1)
                feature = self.out_norms[name](feature).permute(0, 3, 1, 2)  # (N, C, H, W)
            elif self._channels_last:
                feature = feature.permute(0, 3, 1, 2)  # (N, C, H, W)
            outputs[name] = feature.contiguous()
        return outputs

    def train(self, mode: bool = True) -> "TimmBackbone":
        """Same interface as :meth:`nn.Module.train`; frozen stages stay in eval mode."""
        super().train(mode)
        for name in getattr(self, "_frozen", ()):
            self.net.get_submodule(name).eval()
        return self

    @property
    def size_divisibility(self) -> int:
        """The largest stride: transformers cannot have a fraction of a patch."""
        return max(self._out_feature_strides.values())

    def _stages(self) -> dict[str, list[str]]:
        """Modules of the net by the stage whose feature they make: "stem", "res2" and so on.

        Raises:
            ValueError: if the features are not made by modules in a row.
        """
        made_by = {
            _flat(i["module"]): feature_name(i["reduction"]) for i in self.net.feature_info.info
        }
        stages: dict[str, list[str]] = {"stem": []}
        pending: list[str] = []
        for module in _modules_in_a_row(self.net, set(made_by)):
            pending.append(module)
            feature = made_by.get(_flat(module))
            if feature is not None:
                name = feature if feature in RESNET_STAGES else "stem"
                # What lies between the stem's feature and res2's block is the stem's: the max pool.
                stages.setdefault(name, []).append(pending.pop())
                stages["stem" if name in ("stem", "res2") else name] += pending
                pending = []
        if not set(self._out_features) <= set(stages):
            raise ValueError(
                f"the stages of {type(self.net).__name__} cannot be told apart, so none can be"
                " frozen or made deformable: set MODEL.BACKBONE.FREEZE_AT 0 and"
                " MODEL.RESNETS.DEFORM_ON_PER_STAGE all False"
            )
        return stages

    def _deform(self, stage: str, num_groups: int, modulated: bool) -> None:
        """Make all 3x3 convolutions of ``stage`` deformable, in place."""
        count = 0
        for child in self._stages().get(stage, []):
            for name, module in list(self.net.get_submodule(child).named_modules(prefix=child)):
                if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                    if type(module).forward is not nn.Conv2d.forward:  # it pads as it runs
                        raise ValueError(
                            f"MODEL.RESNETS.DEFORM_ON_PER_STAGE chooses {stage}, whose {name} is a"
                            f" {type(module).__name__}; only a plain Conv2d can become deformable"
                        )
                    parent, _, leaf = name.rpartition(".")
                    new = SelfOffsetDeformConv2d.from_conv(
                        module, offset_groups=num_groups, modulated=modulated
                    )
                    setattr(self.net.get_submodule(parent), leaf, new)
                    count += 1
        if not count:
            raise ValueError(
                f"MODEL.RESNETS.DEFORM_ON_PER_STAGE chooses {stage}, which has no 3x3 convolution"
            )

    def _freeze(self, freeze_at: int) -> tuple[str, ...]:
        """Freeze the stem and ``freeze_at - 1`` stages; returns the names of their modules."""
        if freeze_at <= 0:
            return ()
        stages = self._stages()
        frozen = ("stem", *RESNET_STAGES)[:freeze_at]
        unknown = [stage for stage in frozen if not stages.get(stage)]
        if unknown:
            raise ValueError(
                f"MODEL.BACKBONE.FREEZE_AT is {freeze_at}, but {type(self.net).__name__} shows no"
                f" modules that make up {unknown}: set MODEL.BACKBONE.FREEZE_AT 0"
            )
        names = [module for stage in frozen for module in stages[stage]]
        for name in names:
            module = self.net.get_submodule(name)
            for parameter in module.parameters():
                parameter.requires_grad = False
            _convert_batch_norm(self.net, "FrozenBN", only=name)
        return tuple(names)


def _flat(name: str) -> str:
    """A module's name as ``FeatureListNet`` writes it, ``FeatureGetterNet``'s wrapper left out."""
    return name.removeprefix("model.").replace(".", "_")


def _modules_in_a_row(net: nn.Module, wanted: set[str]) -> Iterator[str]:
    """Dotted names of the modules that ``net`` runs one after the other.

    Its children; but a container of modules of ``wanted`` (flat names) stands for its own, as
    EfficientNets and MobileNets have all stages inside ``blocks``.
    """

    def walk(module: nn.Module, prefix: str) -> Iterator[str]:
        for child_name, child in module.named_children():
            name = f"{prefix}{child_name}"
            is_container = name == "model" or any(w.startswith(f"{_flat(name)}_") for w in wanted)
            if is_container and _flat(name) not in wanted:
                yield from walk(child, f"{name}.")
            else:
                yield name

    return walk(net, "")


def _build_out_norms(out_norm: str, channels: dict[str, int]) -> nn.ModuleDict:
    if out_norm not in ("", "LN"):
        raise ValueError(f"MODEL.TIMM.OUT_NORM is {out_norm!r}, should be 'LN' or ''")
    return nn.ModuleDict({k: nn.LayerNorm(c) for k, c in channels.items()} if out_norm else {})


def _convert_batch_norm(net: nn.Module, norm: str, only: str = "") -> None:
    """Freeze or synchronise the batch norms of ``net``, or of its module ``only``, in place."""
    from timm.layers import convert_sync_batchnorm, freeze_batch_norm_2d

    if norm not in NORMS:
        raise ValueError(
            f"MODEL.RESNETS.NORM is {norm!r}, should be one of {NORMS} for timm's batch norms"
        )
    if norm in ("BN", ""):
        return
    convert = freeze_batch_norm_2d if norm == "FrozenBN" else convert_sync_batchnorm
    for name in [only] if only else [name for name, _ in net.named_children()]:
        parent, _, leaf = name.rpartition(".")
        setattr(net.get_submodule(parent), leaf, convert(net.get_submodule(name)))


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg, input_shape: ShapeSpec) -> TimmBackbone:
    """The timm model ``MODEL.TIMM.NAME`` with the features that ``MODEL.FPN.IN_FEATURES`` names.

    Pretrained weights (``MODEL.TIMM.PRETRAINED`` or ``WEIGHTS``) are only fetched while
    ``MODEL.WEIGHTS`` is empty: the detector's own weights would replace them at once.

    Raises:
        ImportError: without timm.
        ValueError: for an unknown name, a missing file, or a key that the model cannot follow.
    """
    keys = cfg.MODEL.TIMM
    kwargs, info = probe_timm_model(keys, input_shape.channels)
    kwargs["out_indices"] = tuple(keys.OUT_INDICES) or indices_of(cfg.MODEL.FPN.IN_FEATURES, info)
    net: Any = create_timm_model(keys, kwargs, pretrained=not cfg.MODEL.WEIGHTS)
    pad_before_shift(net)
    if not keys.POOL_AT_STRIDE_1:
        skip_pool_at_stride_1(net)
    resnets = cfg.MODEL.RESNETS
    return TimmBackbone(
        net=net,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
        deform_on_per_stage=resnets.DEFORM_ON_PER_STAGE,
        deform_modulated=resnets.DEFORM_MODULATED,
        deform_num_groups=resnets.DEFORM_NUM_GROUPS,
        norm=resnets.NORM,
        out_norm=keys.OUT_NORM,
        grad_checkpoint=keys.GRAD_CHECKPOINT,
        input_normalization=InputNormalization.between(
            pixel_mean=cfg.MODEL.PIXEL_MEAN,
            pixel_std=cfg.MODEL.PIXEL_STD,
            input_format=cfg.INPUT.FORMAT,
            rgb_mean=net.pretrained_cfg["mean"],
            rgb_std=net.pretrained_cfg["std"],
        ),
    )
