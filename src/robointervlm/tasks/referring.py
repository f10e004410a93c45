"""Boxes of other projects' benchmarks: the object a sentence refers to, hit if the IoU is over one half.

RefCOCO, RefCOCO+ and RefCOCOg (Kazemzadeh et al. 2014, Yu et al. 2016, Mao et al. 2016) and RoboRefIt (Lu et al. 2023).
"""

from __future__ import annotations

from dataclasses import replace

from robointervlm.tasks.boxes import BOX_METRICS, box_task
from robointervlm.tasks.styles import REFERRING
from robointervlm.tasks.task import Task, ThirdPartyColumn

_BY_NAME = {metric.name: metric for metric in BOX_METRICS}
# The same three as everywhere; the headline is the one these benchmarks are published with.
_METRICS = tuple(_BY_NAME[name] for name in ("ACC@IoU>0.5", "ACC@IoU>0.1", "IoU"))


def _referring_task(name: str, column: ThirdPartyColumn, *file_stems: str) -> Task:
    return replace(
        box_task(name, "bbox_2d", file_stems=file_stems), metrics=_METRICS, column=column, wordings=REFERRING
    )


TASKS = (
    _referring_task("refcoco", "RefCOCO val", "refcoco_val"),
    _referring_task("refcoco_plus", "RefCOCO+ val", "refcoco+_val", "refcoco_plus_val"),
    _referring_task("refcocog", "RefCOCOg val", "refcocog_val"),
    # The release's baseline for RoboBrain words the other three as grounding, and leaves this one as it is.
    replace(_referring_task("roborefit", "RoboRefIt", "roborefit_test"), wordings={}),
)
