"""Make the model of any config small enough to train a step on a CPU, its architecture kept."""

from detectron2.config import CfgNode

SWIN_ARGS = {"embed_dim": 16, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 4, 8]}
RES2NET_ARGS = {"layers": [2, 2, 2, 2], "channels": [16, 32, 64, 128]}


def shrink(cfg: CfgNode, image_size: int = 64) -> CfgNode:
    """Narrow every layer, shorten the backbone, shrink the images and drop pretrained weights.

    Kept: which components there are, and how they are wired; the numbers of classes, levels and
    anchors; whether convolutions are grouped or deformable. Batch norms that a config freezes are
    not frozen, as without pretrained statistics 50 layers would overflow.

    Args:
        cfg: a config with this project's keys; changed in place.
        image_size: shorter side in training and testing, in pixels; the longer is at most twice
            that.

    Returns:
        ``cfg``.
    """
    _shrink_backbone(cfg)
    _shrink_heads(cfg)
    _shrink_images(cfg, image_size)
    if cfg.MODEL.CLASS_WEIGHTS.BETA:  # which a trainer counts
        cfg.MODEL.CLASS_WEIGHTS.COUNTS = list(range(cfg.MODEL.ROI_HEADS.NUM_CLASSES))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.SOLVER.REFERENCE_WORLD_SIZE = 0
    cfg.SOLVER.MAX_ITER = 2
    cfg.SOLVER.STEPS = ()
    cfg.SOLVER.WARMUP_ITERS = 1
    cfg.DATALOADER.NUM_WORKERS = 0
    return cfg


def _shrink_backbone(cfg: CfgNode) -> None:
    resnets = cfg.MODEL.RESNETS
    if resnets.DEPTH >= 50:
        resnets.DEPTH = 50
        resnets.STEM_OUT_CHANNELS = 8
        resnets.RES2_OUT_CHANNELS = 32
        resnets.NUM_GROUPS = min(resnets.NUM_GROUPS, 4)
        resnets.WIDTH_PER_GROUP = 8 // resnets.NUM_GROUPS
    if resnets.NORM == "FrozenBN":
        resnets.NORM = "BN"
    cfg.MODEL.FPN.OUT_CHANNELS = 64  # two for each group of a norm, as P7 may be one pixel
    timm = cfg.MODEL.TIMM
    timm.PRETRAINED, timm.WEIGHTS = False, ""
    families = {"swin": SWIN_ARGS, "res2net": RES2NET_ARGS}  # others are small as they are
    args = next((args for family, args in families.items() if timm.NAME.startswith(family)), {})
    for name, value in args.items():
        timm.ARGS[name] = value


def _shrink_heads(cfg: CfgNode) -> None:
    for head in (cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_MASK_HEAD):
        head.CONV_DIM = 32
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 64
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = min(cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE, 32)
    cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 200
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 100


def _shrink_images(cfg: CfgNode, image_size: int) -> None:
    cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = "choice"
    cfg.INPUT.MIN_SIZE_TRAIN = (image_size,)
    cfg.INPUT.MIN_SIZE_TEST = image_size
    cfg.INPUT.MAX_SIZE_TRAIN = cfg.INPUT.MAX_SIZE_TEST = 2 * image_size
    cfg.TEST.AUG.MIN_SIZES = (image_size, image_size * 5 // 4)
    cfg.TEST.AUG.MAX_SIZE = 2 * image_size
    cfg.TEST.AUG.MAX_SIZES = (2 * image_size,) * 2 if cfg.TEST.AUG.MAX_SIZES else ()
