"""The metrics under the path the documentation names; their home is `robointervlm.metrics`."""

from robointervlm.metrics.curves import discrete_frechet, dtw, hausdorff, rmse
from robointervlm.metrics.overlap import iou
from robointervlm.metrics.text import published_bleu, sacre_bleu, strict_bleu

__all__ = ["discrete_frechet", "dtw", "hausdorff", "iou", "published_bleu", "rmse", "sacre_bleu", "strict_bleu"]
