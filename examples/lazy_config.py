"""Libra R-CNN's heads in a LazyConfig: Detectron2's Mask R-CNN with two targets exchanged.

    from detectron2.config import LazyConfig, instantiate
    model = instantiate(LazyConfig.load("examples/lazy_config.py").model)

Both classes take their parents' arguments; those of their own have defaults, and are set as any
other: ``model.roi_heads.negative_sampler = "random"``.
"""

from detectron2 import model_zoo

from libra_umop.modeling import LibraROIHeads, LibraRPN

model = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
model.roi_heads._target_ = LibraROIHeads
model.proposal_generator._target_ = LibraRPN
