"""Optimizers against Detectron2's, and the groups that do not decay."""

import copy

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.solver import build_optimizer as detectron2_build_optimizer
from torch import nn

from libra_umop.config import add_libra_umop_config
from libra_umop.training.optimizer import build_optimizer


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.ones(3))
        self.qkv = nn.Linear(2, 2)
        self.norm = nn.LayerNorm(2)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def solver_cfg(**keys):
    cfg = get_cfg()
    add_libra_umop_config(cfg)
    for key, value in keys.items():
        setattr(cfg.SOLVER, key, value)
    return cfg


def settings(optimizer):
    """Every group without its parameters and the kernels in use, and how many it has."""
    others = ("params", "foreach", "fused")
    return [
        {**{k: v for k, v in group.items() if k not in others}, "count": len(group["params"])}
        for group in optimizer.param_groups
    ]


@pytest.mark.parametrize("keys", [{}, {"BIAS_LR_FACTOR": 2.0, "WEIGHT_DECAY_BIAS": 0.0}])
@pytest.mark.parametrize("clip", [False, True])
def test_default_is_detectron2s_sgd(keys, clip):
    cfg = solver_cfg(**keys)
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = clip
    models = [Attention(), Attention()]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [build_optimizer(cfg, models[0]), detectron2_build_optimizer(cfg, models[1])]
    assert settings(optimizers[0]) == settings(optimizers[1])
    assert optimizers[0].__class__.__name__ == optimizers[1].__class__.__name__
    for model, optimizer in zip(models, optimizers, strict=True):
        for _ in range(2):
            for parameter in model.parameters():
                parameter.grad = torch.full_like(parameter, 3.0)
            optimizer.step()
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b)


def test_adamw_decays_neither_norms_nor_position_biases():
    model = Attention()
    cfg = solver_cfg(
        OPTIMIZER="AdamW",
        BASE_LR=1e-4,
        WEIGHT_DECAY=0.05,
        BETAS=[0.8, 0.99],
        NO_DECAY_NAMES=["relative_position_bias_table"],
    )
    optimizer = build_optimizer(cfg, model)
    assert isinstance(optimizer, torch.optim.AdamW)
    names = {id(p): name for name, p in model.named_parameters()}
    decay_of = {
        names[id(p)]: group["weight_decay"]
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert decay_of == {
        "relative_position_bias_table": 0.0,
        "norm.weight": 0.0,
        "norm.bias": 0.0,
        "qkv.weight": 0.05,
        "qkv.bias": 0.05,
    }
    assert {(g["lr"], g["betas"]) for g in optimizer.param_groups} == {(1e-4, (0.8, 0.99))}


def test_adamw_clips_gradients_if_asked():
    cfg = solver_cfg(OPTIMIZER="AdamW", BASE_LR=1e-4)
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = 1.0
    model = Attention()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)
    optimizer = build_optimizer(cfg, model)
    assert isinstance(optimizer, torch.optim.AdamW)
    optimizer.step()
    assert model.qkv.weight.grad.abs().max() <= 1


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_clipping_of_all_gradients_together_is_left_to_the_step(name):
    cfg = solver_cfg(OPTIMIZER=name)
    plain = type(build_optimizer(cfg, nn.Linear(2, 2)))
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "full_model"
    assert type(build_optimizer(cfg, nn.Linear(2, 2))) is plain
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = "norm"
    assert type(build_optimizer(cfg, nn.Linear(2, 2))) is not plain


def test_unknown_optimizer_is_named():
    with pytest.raises(ValueError, match="SOLVER.OPTIMIZER is 'Lion'.*SGD.*AdamW"):
        build_optimizer(solver_cfg(OPTIMIZER="Lion"), Attention())


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
@pytest.mark.parametrize("clip_type", ["", "value", "norm"])
def test_fused_steps_are_those_of_the_plain_loop_and_go_on_from_its_state(name, clip_type):
    cfg = solver_cfg(OPTIMIZER=name, WEIGHT_DECAY=0.05, BASE_LR=0.01)
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = bool(clip_type)
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = clip_type or "value"
    torch.manual_seed(0)
    models = [Attention() for _ in range(3)]
    for model in models[1:]:
        model.load_state_dict(models[0].state_dict())
    ours, plain, older = (build_optimizer(cfg, model) for model in models)
    assert all(group["fused"] for group in ours.param_groups)
    for optimizer in (plain, older):
        for group in optimizer.param_groups:
            group["fused"], group["foreach"] = False, False
    for i in range(6):
        if i == 3:  # a checkpoint that was written without
            models[2].load_state_dict(models[1].state_dict())
            older.load_state_dict(copy.deepcopy(plain.state_dict()))
            for group in older.param_groups:
                group["fused"] = True
        torch.manual_seed(i)
        gradients = [torch.randn_like(p) for p in models[0].parameters()]
        for model, optimizer in zip(models, (ours, plain, older), strict=True):
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()
    for a, b, c in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)
        torch.testing.assert_close(c, b, rtol=0, atol=1e-7)


def test_foreach_is_used_where_parameters_are_on_another_device():
    model = Attention().to("meta")
    optimizer = build_optimizer(solver_cfg(), model)
    assert all(group["foreach"] and not group["fused"] for group in optimizer.param_groups)
