"""``logger=mlflow``: training curves for MLflow, by default into a file that needs no server and no network."""

import logging
from importlib.util import find_spec
from pathlib import Path

from pytorch_lightning.loggers import MLFlowLogger

from cellpheno.errors import ConfigError

if lost := [name for name in ("mlflow", "sqlalchemy", "alembic") if find_spec(name) is None]:
    raise ConfigError(f'logger=mlflow needs {", ".join(lost)}, which is not installed: pip install "cellpheno[mlflow]"')


def mlflow_logger(
    save_dir: Path,
    experiment_name: str = "cellpheno",
    run_name: str | None = None,
    tracking_uri: str | None = None,
) -> MLFlowLogger:
    """Make Lightning's MLflow logger.

    Parameters
    ----------
    save_dir : Path
        The fold's folder of logs, made where missing.
    experiment_name : str
    run_name : str, optional
        None: MLflow invents one.
    tracking_uri : str, optional
        A tracking server. None: ``mlflow.db`` in ``save_dir``, to be looked at with ``mlflow ui
        --backend-store-uri sqlite:///.../mlflow.db``.
    """
    save_dir.mkdir(parents=True, exist_ok=True)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)  # the tables of a new file are no news
    logging.getLogger("pytorch_lightning.loggers.mlflow").setLevel(logging.ERROR)  # nor is its new experiment
    own = f"sqlite:///{save_dir.absolute() / 'mlflow.db'}"
    return MLFlowLogger(experiment_name=experiment_name, run_name=run_name, tracking_uri=tracking_uri or own)
