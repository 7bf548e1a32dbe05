"""Shipped configs that together have every detector of the registry, each of its parts and losses:
those that are rehearsed without a GPU and run on one."""

DETECTORS = (
    "COCO-Detection/retinanet_R_50_FPN_1x",
    "COCO-Detection/libra_retinanet_R_50_FPN_1x",
    "ablations/ohem_retinanet_R_50_FPN_1x",
    "COCO-Detection/umop_retinanet_R_50_FPN_1x",
    "COCO-Detection/atss_R_50_FPN_1x",
    "COCO-Detection/umop_atss_R_50_FPN_1x",
    "COCO-Detection/fcos_R_50_FPN_1x",
    "COCO-Detection/umop_fcos_R_50_FPN_1x",
    "COCO-Detection/umop_gfl_R_50_FPN_1x",
    "COCO-Detection/vfnet_R_50_FPN_1x",
    "ablations/qfl_atss_R_50_FPN_1.5x",
    "COCO-Detection/umop_atss_R_101_DCN_FPN_1.5x",
    "COCO-Detection/umop_atss_Swin_S_FPN_2x_ms480-960",
    "COCO-Detection/faster_rcnn_R_50_FPN_1x",
    "COCO-Detection/libra_faster_rcnn_R_50_FPN_1x",
    "ablations/libra_released_R_50_FPN_1x",
    "ablations/bfp_R_50_PAFPN_1x",
    "COCO-Detection/libra_cascade_rcnn_R_50_FPN_1x",
    "ablations/libra_every_stage_cascade_rcnn_R_50_FPN_1x",
    "COCO-Detection/libra_faster_rcnn_R_50_C4_1x",
    "ablations/ohem_R_50_FPN_1x",
    "COCO-InstanceSegmentation/libra_mask_rcnn_R_50_FPN_1x",
    "ablations/equalized_focal_retinanet_R_50_FPN_1x",
    "ablations/seesaw_R_50_FPN_1x",
)
