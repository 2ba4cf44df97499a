"""Loads a bundle for MLflow: ``mlflow.pyfunc.load_model("runs:/ID/model")`` and ``mlflow models`` call `_load_pyfunc`.

The model's folder holds no code and no pickle: MLflow imports this module, which reads the bundle beside ``MLmodel``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from eir_seq.inference.predictor import Predictor


class BundleModel:
    """A bundle as MLflow calls models.

    Args:
        predictor: of the bundle.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, rows: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """What is predicted of each row, as the table that ``python -m eir_seq predict`` writes."""
        import pandas as pd

        del params
        given = rows.astype(object).where(rows.notna(), None).to_dict("records")
        return pd.DataFrame(self.predictor.predict(given), index=rows.index)


def _load_pyfunc(path: str) -> BundleModel:
    from eir_seq.inference.predictor import Predictor
    from eir_seq.training.bundle import read_bundle

    return BundleModel(Predictor(read_bundle(Path(path))))
