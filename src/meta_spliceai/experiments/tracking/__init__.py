"""What is kept of a run beside the ledger: MLflow, or one of Lightning's other loggers."""

from __future__ import annotations

from meta_spliceai.experiments.tracking.loggers import LOGGERS, check_loggers
from meta_spliceai.experiments.tracking.tracked import tracked

__all__ = ["LOGGERS", "check_loggers", "tracked"]
