"""``logger=wandb``: training curves for Weights & Biases, by default into files that need no account and no network."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger

from cellpheno.errors import ConfigError

if find_spec("wandb") is None:
    raise ConfigError('logger=wandb needs wandb, which is not installed: pip install "cellpheno[wandb]"')


class FoldWandbLogger(WandbLogger):
    """Lightning's logger, one run a fold: wandb would go on with the run of the fold before.

    Parameters
    ----------
    save_dir : Path
        The fold's folder of logs, made where missing.
    project : str
    name : str, optional
        Of the run; None: wandb invents one.
    offline : bool
        Write ``save_dir/wandb``, to be sent by ``wandb sync`` or by nobody; false: send all to the server at once.
    """

    def __init__(
        self, save_dir: Path, project: str = "cellpheno", name: str | None = None, offline: bool = True
    ) -> None:
        import wandb

        save_dir.mkdir(parents=True, exist_ok=True)
        settings: Any = wandb.Settings(silent=True)
        super().__init__(save_dir=save_dir, project=project, name=name, offline=offline, settings=settings)

    def finalize(self, status: str) -> None:
        """End the run with the training."""
        super().finalize(status)
        import wandb

        if wandb.run is not None:
            wandb.finish(exit_code=0 if status == "success" else 1)
