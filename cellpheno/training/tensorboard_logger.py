"""``logger=tensorboard``: Lightning's own logger, refused before any work where its package is not installed."""

from importlib.util import find_spec

from pytorch_lightning.loggers import TensorBoardLogger

from cellpheno.errors import ConfigError

if find_spec("tensorboard") is None:
    raise ConfigError('logger=tensorboard needs tensorboard: pip install "cellpheno[tensorboard]"')

__all__ = ["TensorBoardLogger"]
