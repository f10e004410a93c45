"""The metrics under the path the documentation names; their home is `robointervlm.metrics`."""

from pathlib import Path
from runpy import run_path

try:
    from robointervlm.metrics.curves import discrete_frechet, dtw, hausdorff, rmse
    from robointervlm.metrics.overlap import iou
    from robointervlm.metrics.text import published_bleu, sacre_bleu, strict_bleu
except ModuleNotFoundError:
    run_path(str(Path(__file__).resolve().parents[2] / "requirements/not_installed.py"), run_name=__name__)

__all__ = ["discrete_frechet", "dtw", "hausdorff", "iou", "published_bleu", "rmse", "sacre_bleu", "strict_bleu"]
