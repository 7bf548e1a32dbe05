"""Weights & Biases, fed from the tensorboard file that training writes anyway."""

import os
from pathlib import Path

import yaml

from ...errors import ConfigError


def start_wandb(cfg) -> None:
    """Start a run that follows tensorboard; call it on the main rank before writers are made.

    A run that is resumed in the same ``OUTPUT_DIR`` goes on under its id.

    Raises:
        ConfigError: wandb is not installed.
    """
    try:
        import wandb
    except ImportError as e:
        raise ConfigError(
            'WANDB.ENABLED is True, which needs wandb: pip install -e ".[wandb]" in the checkout'
        ) from e
    id_file = os.path.join(cfg.OUTPUT_DIR, "wandb_id")
    run_id = Path(id_file).read_text().strip() if os.path.isfile(id_file) else None
    run = wandb.init(
        project=cfg.WANDB.PROJECT,
        name=cfg.WANDB.NAME or os.path.basename(os.path.normpath(cfg.OUTPUT_DIR)),
        dir=cfg.OUTPUT_DIR,
        config=yaml.safe_load(cfg.dump()),
        id=run_id,
        resume="allow",
        sync_tensorboard=True,
    )
    with open(id_file, "w") as f:
        f.write(run.id)
