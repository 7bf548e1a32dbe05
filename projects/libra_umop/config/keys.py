"""Every config key that this project adds to Detectron2, once.

``add_libra_umop_config(cfg)`` adds them to a :func:`detectron2.config.get_cfg` node. Importing this
module also registers every component that the keys name. What Detectron2 already has a key for
(``SMOOTH_L1_BETA``, ``BBOX_REG_LOSS_TYPE``, ``FOCAL_LOSS_GAMMA``, ``DEFORM_ON_PER_STAGE`` ...) is
read from that key. At its defaults no key here changes what a Detectron2 config builds.
"""

from detectron2.config import CfgNode as CN

from .. import modeling  # noqa: F401  (registers the components)


def add_libra_umop_config(cfg: CN) -> None:
    """Add the keys of this project to ``cfg``, in place.

    Args:
        cfg: the node that :func:`detectron2.config.get_cfg` returns.
    """
    _add_sampling(cfg)
    _add_region_pooling(cfg)
    _add_feature_pyramid(cfg)
    _add_box_losses(cfg)
    _add_dense_detectors(cfg)
    _add_backbones(cfg)
    _add_solver(cfg)
    _add_data(cfg)
    _add_engine(cfg)
    _add_test(cfg)
    _add_analysis(cfg)


def _add_sampling(cfg: CN) -> None:
    """Sample level: which proposals and anchors the heads learn from (Libra R-CNN, section 3.1)."""
    # How LibraROIHeads draws negatives: "random" (Detectron2's) or "iou_balanced".
    cfg.MODEL.ROI_HEADS.NEGATIVE_SAMPLER = "iou_balanced"
    # How LibraROIHeads draws positives: "random" (Detectron2's) or "instance_balanced".
    cfg.MODEL.ROI_HEADS.POSITIVE_SAMPLER = "instance_balanced"
    cfg.MODEL.ROI_HEADS.IOU_BALANCED = CN()
    # K, the number of equal bins over the negatives' IoU range; >= 1.
    cfg.MODEL.ROI_HEADS.IOU_BALANCED.NUM_BINS = 3
    # f, the IoU below which FLOOR_FRACTION of the negatives is drawn at random; [0, 0.5).
    cfg.MODEL.ROI_HEADS.IOU_BALANCED.FLOOR_IOU = 0.0
    # r, that fraction; [0, 1]. Only if the bins run dry is more taken from there.
    cfg.MODEL.ROI_HEADS.IOU_BALANCED.FLOOR_FRACTION = 0.0
    # Where the bins end: "threshold" (the paper: where IOU_THRESHOLDS and IOU_LABELS, or a
    # cascade's first of ROI_BOX_CASCADE_HEAD.IOUS, end the background; they begin where it begins)
    # or "observed" (the reference code: at the largest IoU of all boxes, ground truth included: 1).
    cfg.MODEL.ROI_HEADS.IOU_BALANCED.BIN_RANGE = "threshold"
    # OHEMROIHeads: how many regions of each image to learn from, those of the largest loss; >= 1.
    # All proposals are ranked: BATCH_SIZE_PER_IMAGE and POSITIVE_FRACTION do not apply.
    cfg.MODEL.ROI_HEADS.OHEM = CN()
    cfg.MODEL.ROI_HEADS.OHEM.NUM_HARD = 128
    # Before that, regions that overlap a harder one by more than this IoU are left out; [0, 1], 1
    # leaves out none: the default, as in mmdetection, with which Libra R-CNN was compared. OHEM's
    # paper has 0.7, and NUM_HARD 64: 128 of two images.
    cfg.MODEL.ROI_HEADS.OHEM.NMS_THRESH = 1.0
    # LibraRPN: at most this many negatives for each positive anchor of an image, an image without a
    # positive counting as one with one; <= 0 is no limit (the paper). The released configs use 5.
    # Under a limit the losses are divided by the anchors used, not by BATCH_SIZE_PER_IMAGE.
    cfg.MODEL.RPN.NEG_POS_RATIO = -1.0


def _add_region_pooling(cfg: CN) -> None:
    """How the ROI heads of this project cut regions out of the feature maps."""
    # Train on a CPU with ROIAlign as a sparse matrix product: the same values up to rounding, in a
    # fraction of the time. No effect on other devices, in half precision or in inference.
    cfg.MODEL.ROI_HEADS.SPARSE_ROI_ALIGN = True


def _add_feature_pyramid(cfg: CN) -> None:
    """Feature level: balanced feature pyramid, build_bfp_backbone (Libra R-CNN, section 3.2)."""
    cfg.MODEL.BFP = CN()
    # The registered pyramid that is balanced.
    cfg.MODEL.BFP.PYRAMID = "build_resnet_fpn_backbone"
    # Name of the level at whose size the levels are averaged and refined.
    cfg.MODEL.BFP.REFINE_LEVEL = "p4"
    # "non_local" (embedded Gaussian attention, the paper), "conv" (3x3) or "none".
    cfg.MODEL.BFP.REFINE_TYPE = "non_local"
    # What the attention computes in under autocast: "float32", or "autocast", the half precision of
    # the layers around it, for which a GPU has faster kernels; its error is that of the
    # layers beside it while features are about 1, but 20 % of the gradient where they are 10.
    cfg.MODEL.BFP.PRECISION = "float32"


def _add_box_losses(cfg: CN) -> None:
    """Objective level: balanced L1, on where a head's BBOX_REG_LOSS_TYPE is "balanced_l1"
    (Libra R-CNN, section 3.3). Its transition point beta is that head's SMOOTH_L1 beta.
    """
    cfg.MODEL.BALANCED_L1 = CN()
    # alpha, the gradient of inliers: smaller promotes them more; > 0.
    cfg.MODEL.BALANCED_L1.ALPHA = 0.5
    # gamma, the gradient of outliers; > 0.
    cfg.MODEL.BALANCED_L1.GAMMA = 1.5
    # "exact" (the equations) or "reference" (the released code; differs unless beta is 1).
    cfg.MODEL.BALANCED_L1.FORMULA = "exact"


def _add_dense_detectors(cfg: CN) -> None:
    """Level imbalance and the dense detectors it is cured in (UMOP; ATSS; FCOS; RetinaNet)."""
    _add_umop(cfg)
    # LibraRetinaNet, UMOPRetinaNet: also reads MODEL.BALANCED_L1 and, from Detectron2,
    # MODEL.RETINANET.BBOX_REG_LOSS_TYPE ("smooth_l1", "balanced_l1", "giou", "diou", "ciou"),
    # SMOOTH_L1_LOSS_BETA (beta of both L1 losses), FOCAL_LOSS_GAMMA, FOCAL_LOSS_ALPHA.
    # Factor of the box loss; >= 0.
    cfg.MODEL.RETINANET.BBOX_REG_LOSS_WEIGHT = 1.0
    _add_cls_loss(cfg.MODEL.RETINANET)
    # Clip boxes to the image and drop empty ones before non-maximum suppression (the reference
    # implementations) and not after it (Detectron2).
    cfg.MODEL.RETINANET.CLIP_BEFORE_NMS = True
    # What the losses are divided by: "moving_average" of the positives (Detectron2), or
    # "num_positives" of the step, one per image at least (mmdetection, the released UMOP).
    cfg.MODEL.RETINANET.LOSS_NORMALIZER = "moving_average"
    _add_atss(cfg)
    _add_fcos(cfg)


def _add_cls_loss(node: CN) -> None:
    """The classification loss of LibraRetinaNet, ATSS or FCOS; Detectron2's RetinaNet has none."""
    # "focal", "progressive_focal" (what of MODEL.UMOP is on), "ohem" (all positives, hardest
    # negatives; RetinaNet, table 1d), or a name given to register_cls_loss. UMOPRetinaNet, UMOPATSS
    # and UMOPFCOS have "progressive_focal" only, which "focal" means there, too.
    node.CLS_LOSS_TYPE = "focal"
    # Negatives for each positive under "ohem"; > 0.
    node.OHEM_NEG_POS_RATIO = 3.0


def _add_umop(cfg: CN) -> None:
    """CLS_LOSS_TYPE "progressive_focal": UMOPRetinaNet, UMOPATSS, UMOPFCOS (UMOP, section 3)."""
    cfg.MODEL.UMOP = CN()
    # PFL: gamma follows the positives' mean probability, alpha = w / gamma.
    cfg.MODEL.UMOP.PROGRESSIVE_FOCUS = True
    # LRP: each pyramid level has a classification loss, and with PFL a gamma and alpha, of its own;
    # without PFL, and with LEVEL_REDUCTION "sum", that changes nothing.
    cfg.MODEL.UMOP.LEVEL_WISE = True
    # "mean_prob": gamma = -ln(mean p) (the paper); "mean_log": mean(-ln p) (the released code).
    cfg.MODEL.UMOP.FOCUS = "mean_prob"
    # delta, how far gamma may move from that detector's FOCAL_LOSS_GAMMA; [0, FOCAL_LOSS_GAMMA).
    cfg.MODEL.UMOP.DELTA = 0.5
    # w, the product of gamma and alpha; (0, FOCAL_LOSS_GAMMA - DELTA].
    cfg.MODEL.UMOP.W = 0.5
    # LRP's loss: "sum" of levels, divided by all positives (the released code, and so what every
    # published AP was trained with), or "mean" over levels, each divided by its own positives, but
    # by one per image at least (the paper's equation).
    cfg.MODEL.UMOP.LEVEL_REDUCTION = "sum"


def _add_atss(cfg: CN) -> None:
    """ATSS, UMOPATSS (https://arxiv.org/abs/1912.02424); anchors from MODEL.ANCHOR_GENERATOR."""
    cfg.MODEL.ATSS = CN()
    cfg.MODEL.ATSS.NUM_CLASSES = 80
    cfg.MODEL.ATSS.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]
    # 3x3 convolutions of each of the two towers, and their norm ("GN" has 32 groups).
    cfg.MODEL.ATSS.NUM_CONVS = 4
    cfg.MODEL.ATSS.NORM = "GN"
    # pi, the foreground probability at the start; (0, 1).
    cfg.MODEL.ATSS.PRIOR_PROB = 0.01
    # k, candidate anchors per box and level; >= 1.
    cfg.MODEL.ATSS.MATCH_TOPK = 9
    # Weights on (dx, dy, dw, dh).
    cfg.MODEL.ATSS.BBOX_REG_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
    cfg.MODEL.ATSS.FOCAL_LOSS_GAMMA = 2.0
    cfg.MODEL.ATSS.FOCAL_LOSS_ALPHA = 0.25
    _add_cls_loss(cfg.MODEL.ATSS)
    # Factors of the GIoU loss and of the centerness loss; >= 0.
    cfg.MODEL.ATSS.BBOX_REG_LOSS_WEIGHT = 2.0
    cfg.MODEL.ATSS.CENTERNESS_LOSS_WEIGHT = 1.0
    # Threshold on the class score alone; detections are ranked by class score x centerness.
    cfg.MODEL.ATSS.SCORE_THRESH_TEST = 0.05
    # Candidates per level, by class score, before non-maximum suppression.
    cfg.MODEL.ATSS.TOPK_CANDIDATES_TEST = 1000
    cfg.MODEL.ATSS.NMS_THRESH_TEST = 0.6


def _add_fcos(cfg: CN) -> None:
    """FCOS, UMOPFCOS: Detectron2's FCOS has no yacs keys; these are its defaults."""
    cfg.MODEL.FCOS = CN()
    cfg.MODEL.FCOS.NUM_CLASSES = 80
    cfg.MODEL.FCOS.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]
    # 3x3 convolutions of each of the two towers, and their norm.
    cfg.MODEL.FCOS.NUM_CONVS = 4
    cfg.MODEL.FCOS.NORM = "GN"
    # pi, the foreground probability at the start; (0, 1).
    cfg.MODEL.FCOS.PRIOR_PROB = 0.01
    # Points this near to a box's centre, in strides, are its positives.
    cfg.MODEL.FCOS.CENTER_SAMPLING_RADIUS = 1.5
    cfg.MODEL.FCOS.FOCAL_LOSS_GAMMA = 2.0
    cfg.MODEL.FCOS.FOCAL_LOSS_ALPHA = 0.25
    _add_cls_loss(cfg.MODEL.FCOS)
    # Factor of the GIoU loss; >= 0.
    cfg.MODEL.FCOS.BBOX_REG_LOSS_WEIGHT = 1.0
    # As MODEL.RETINANET.LOSS_NORMALIZER.
    cfg.MODEL.FCOS.LOSS_NORMALIZER = "moving_average"
    # Threshold on sqrt(class score x centerness).
    cfg.MODEL.FCOS.SCORE_THRESH_TEST = 0.2
    cfg.MODEL.FCOS.TOPK_CANDIDATES_TEST = 1000
    cfg.MODEL.FCOS.NMS_THRESH_TEST = 0.6


def _add_backbones(cfg: CN) -> None:
    """Backbones beyond Detectron2's own, and pyramids over any of them.

    Deformable stages of build_deform_resnet_backbone and build_timm_backbone are chosen by
    Detectron2's MODEL.RESNETS.DEFORM_ON_PER_STAGE, DEFORM_MODULATED and DEFORM_NUM_GROUPS, frozen
    stages by MODEL.BACKBONE.FREEZE_AT, batch norms by MODEL.RESNETS.NORM.
    """
    # build_fpn_backbone, build_retinanet_fpn_backbone: registered name of the bottom-up network.
    cfg.MODEL.FPN.BOTTOM_UP = "build_resnet_backbone"
    # build_retinanet_fpn_backbone: what P6 is made from, "res5" (RetinaNet) or "p5" (ATSS, FCOS).
    cfg.MODEL.FPN.TOP_IN_FEATURE = "res5"
    # build_retinanet_fpn_backbone: ReLU between P6 and P7 (RetinaNet, section 3); the reference
    # implementations of UMOP, ATSS and Libra R-CNN have none.
    cfg.MODEL.FPN.P7_RELU = True

    cfg.MODEL.TIMM = CN()
    # build_timm_backbone: any name of timm.list_models() that has features_only.
    cfg.MODEL.TIMM.NAME = "res2net101_26w_4s"
    # Fetch timm's own weights of this model where MODEL.WEIGHTS is empty; needs the network once.
    cfg.MODEL.TIMM.PRETRAINED = False
    # A local file with these weights instead, read as tensors only; "" for none.
    cfg.MODEL.TIMM.WEIGHTS = ""
    # Rate of stochastic depth in the last block, rising linearly from 0; [0, 1).
    cfg.MODEL.TIMM.DROP_PATH = 0.0
    # Recompute activations in the backward pass: less memory, about a third more time.
    cfg.MODEL.TIMM.GRAD_CHECKPOINT = False
    # timm's numbers of the features to give out; empty for those that MODEL.FPN.IN_FEATURES names.
    cfg.MODEL.TIMM.OUT_INDICES = []
    # "LN": a layer norm on every feature (detectors on Swin); "": none.
    cfg.MODEL.TIMM.OUT_NORM = ""
    # Res2Net: average the last split of res2's first block over 3x3 (the authors, timm); False:
    # pass it on (mmdetection, whose weights the published rows are).
    cfg.MODEL.TIMM.POOL_AT_STRIDE_1 = True
    # More arguments of the model's constructor, e.g. {window_size: 12}; see timm's source.
    cfg.MODEL.TIMM.ARGS = CN(new_allowed=True)


def _add_solver(cfg: CN) -> None:
    """Optimizers and schedules."""
    # "SGD" (Detectron2's) or "AdamW".
    cfg.SOLVER.OPTIMIZER = "SGD"
    # AdamW: beta_1 and beta_2, decay of the gradient's first and second moment; [0, 1).
    cfg.SOLVER.BETAS = [0.9, 0.999]
    # Parameters of these names (last part) get no weight decay, e.g. relative_position_bias_table;
    # those of norms follow WEIGHT_DECAY_NORM, biases WEIGHT_DECAY_BIAS.
    cfg.SOLVER.NO_DECAY_NAMES = []


def _add_data(cfg: CN) -> None:
    """One's own data."""
    # Value of 16-bit images that becomes 255, darker ones linearly: 65535 shows the whole range,
    # 4095 that of a 12-bit camera; [1, 65535].
    cfg.INPUT.WHITE_16BIT = 65535
    # Largest image that is read, width x height, against running out of memory: an image takes 3
    # bytes a pixel in each worker, and twice that while it is resized; >= 1.
    cfg.INPUT.MAX_IMAGE_PIXELS = 500_000_000


def _add_engine(cfg: CN) -> None:
    """Training: layout, precision, averaging, stopping, and which checkpoint is the best."""
    # Train with convolutions in channels-last memory: the same weights, on a CPU in less time.
    cfg.MODEL.CHANNELS_LAST = False
    # Type of autocast where SOLVER.AMP.ENABLED: "float16" (with loss scaling; CUDA only) or
    # "bfloat16" (without; CUDA and CPU).
    cfg.SOLVER.AMP.DTYPE = "float16"
    # Each process computes its share of IMS_PER_BATCH in this many parts and sums their gradients
    # before one optimizer step; >= 1, must divide IMS_PER_BATCH / processes. The mean of the parts'
    # losses is what is minimised.
    cfg.SOLVER.GRADIENT_ACCUMULATION = 1
    # How many of the checkpoints model_<iteration>.pth stay, the newest ones; model_final.pth and
    # model_best.pth are kept beside them. 0: all of them, as in Detectron2; --epochs makes that 2.
    cfg.SOLVER.CHECKPOINT_KEEP = 0
    # Exponential moving average of the weights (torch.optim.swa_utils). Where on, it is what is
    # evaluated, and what a checkpoint's "model" holds.
    cfg.SOLVER.EMA = CN()
    cfg.SOLVER.EMA.ENABLED = False
    # Weight of the average so far in each iteration; [0, 1). 0.998 forgets in about 500 iterations.
    cfg.SOLVER.EMA.DECAY = 0.998

    # Keep the weights of the best evaluation so far as model_best.pth.
    cfg.TEST.BEST_CHECKPOINT = CN()
    cfg.TEST.BEST_CHECKPOINT.ENABLED = True
    # Name of the metric as it stands in metrics.json, and whether "max" or "min" is best. With
    # several test sets it is the first set's, unless the name begins with that of a set.
    cfg.TEST.BEST_CHECKPOINT.METRIC = "bbox/AP"
    cfg.TEST.BEST_CHECKPOINT.MODE = "max"
    # End training after this many evaluations in a row in which that metric was not better than the
    # best by MIN_DELTA (in the metric's unit, >= 0); 0 never ends early.
    cfg.TEST.EARLY_STOPPING = CN()
    cfg.TEST.EARLY_STOPPING.PATIENCE = 0
    cfg.TEST.EARLY_STOPPING.MIN_DELTA = 0.0
    # Losses over DATASETS.TEST at every evaluation, as val/<loss> and val/total_loss.
    cfg.TEST.VAL_LOSS = CN()
    cfg.TEST.VAL_LOSS.ENABLED = False
    # Precision, recall and F1 (percent, all classes pooled) of the detections with at least
    # SCORE_THRESH, a detection being right at box IoU >= IOU_THRESH; both in [0, 1], the IoU one of
    # COCO's 0.5, 0.55 ... 0.95.
    cfg.TEST.OPERATING_POINT = CN()
    cfg.TEST.OPERATING_POINT.ENABLED = False
    cfg.TEST.OPERATING_POINT.SCORE_THRESH = 0.5
    cfg.TEST.OPERATING_POINT.IOU_THRESH = 0.5

    # Weights & Biases, fed from the tensorboard files (needs the extra "wandb").
    cfg.WANDB = CN()
    cfg.WANDB.ENABLED = False
    cfg.WANDB.PROJECT = "libra-umop"
    # Name of the run; empty: that of OUTPUT_DIR.
    cfg.WANDB.NAME = ""


def _add_test(cfg: CN) -> None:
    """Evaluation."""
    # Multi-scale and flip testing of every detector here. Longest side of each of
    # TEST.AUG.MIN_SIZES, in pixels; empty: TEST.AUG.MAX_SIZE for all.
    cfg.TEST.AUG.MAX_SIZES = ()


def _add_analysis(cfg: CN) -> None:
    """Measuring the imbalance during training."""
    cfg.ANALYSIS = CN()
    # Measure the imbalance while training, into OUTPUT_DIR/imbalance, for tools/report.py. It
    # changes neither losses nor gradients nor the random state.
    cfg.ANALYSIS.ENABLED = False
    # Iterations from one measured step to the next; >= 1.
    cfg.ANALYSIS.PERIOD = 20
    # Negatives per image that a measured step scores once more to find hard ones among all of
    # them, not only among those sampled; 0 looks among those sampled.
    cfg.ANALYSIS.NUM_PROBED_NEGATIVES = 32
    # Part of them, by loss, that counts as hard; (0, 1].
    cfg.ANALYSIS.HARD_FRACTION = 0.1
