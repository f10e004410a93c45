"""Made-up records in the published form."""

from __future__ import annotations

from typing import Any


def box_record(answer: str = '{"current_bbox": [[72, 102], [192, 179]]}', **fields: Any) -> dict[str, Any]:
    """A record as RoboInter-VQA publishes them, of a made-up question."""
    record = {
        "id": "RH20T_1#3",
        "task": "current_box",
        "conversations": [
            {"from": "human", "value": "<image>\nWhere is the cup?"},
            {"from": "gpt", "value": answer},
        ],
        "images": "pictures/a.png",
        "gt": [[72, 102], [192, 179]],
        "h": 180,
        "w": 320,
        "new_h": 168,
        "new_w": 308,
    }
    return {key: value for key, value in {**record, **fields}.items() if value is not ...}
