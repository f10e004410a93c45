from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from made_records import box_record

from robointervlm.data.prepare.stats import statistics_of
from robointervlm.data.records import Annotations

Read = Callable[..., Annotations]


def test_boxes_are_counted_where_they_are_and_by_their_size(read: Read, root: Path) -> None:
    # 80x45 in 320x180: a sixteenth of the area, so a quarter of the side; centre (200, 157.5): column 10, row 14.
    answer = '{"current_bbox": [[160, 135], [240, 180]]}'
    counted = statistics_of(read(box_record(answer), box_record(answer), box_record("?")).spec, root).as_json()
    assert (counted["records"], counted["unreadable"], counted["pictures"]) == (3, 1, {"1": 2})
    boxes = counted["tasks"]["current_box"]
    assert boxes["samples"] == 2
    assert boxes["positions"][14][10] == 2
    assert sum(map(sum, boxes["positions"])) == 2
    assert boxes["sizes"] == [0, 0, 0, 0, 0, 2] + 14 * [0]


def test_a_box_outside_the_picture_counts_at_its_edge(read: Read, root: Path) -> None:
    counted = statistics_of(read(box_record('{"current_bbox": [[400, -90], [500, -20]]}')).spec, root).as_json()
    assert counted["tasks"]["current_box"]["positions"][0][15] == 1


def test_answers_and_waypoints_are_counted(read: Read, root: Path) -> None:
    decided = read(*(box_record(text) for text in ("Yes", "No", "Yes")), task="contact_decide")
    assert statistics_of(decided.spec, root).as_json()["tasks"]["contact_decide"]["answers"] == {"no": 1, "yes": 2}
    paths = read(box_record('{"future_traj": [[1, 2], [3, 4], [5, 6]]}'), task="traj")
    assert statistics_of(paths.spec, root).as_json()["tasks"]["traj"]["waypoints"] == {"3": 1}


def test_several_processes_count_what_one_counts(read: Read, root: Path) -> None:
    spec = read(*(box_record(id=str(index)) for index in range(5000))).spec
    one, two = (statistics_of(spec, root, workers=workers).as_json() for workers in (1, 2))
    assert one == two
    assert one["tasks"]["current_box"]["samples"] == 5000
