"""How long the readers take for 64 KB of junk, and how that grows with the length.

    python benchmarks/reading_speed.py [--kilobytes 64]

For every reader and every piece of junk, repeated to the length: the best of three, in milliseconds of processor time,
and the ratio to half the length. Linear is about 2, quadratic 4. The worst are printed.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from functools import partial

from robointervlm.core.coordinates import ImageSize, Space
from robointervlm.core.reading import read_box, read_choice, read_points, read_text, read_trajectory, read_yes_no

SPACE = Space.pixels(ImageSize(640, 480))
READERS: dict[str, Callable[[str], object]] = {
    "box": partial(read_box, space=SPACE, key="current_bbox"),
    "points": partial(read_points, space=SPACE, key="contact_point", count=2),
    "trajectory": partial(read_trajectory, space=SPACE, key="future_traj"),
    "choice": partial(read_choice, options={"A": "up", "B": "down"}),
    "yes_no": read_yes_no,
    "text": read_text,
}
JUNK = [
    *[
        "[",
        "[1",
        "[1,",
        "[1,2],",
        "[[1,2],",
        "[ ",
        "[]",
        "(1",
        '{"a":',
        '{"x":1,',
        "])}",
        "[1\n,",
        "[1,2,3,4] ",
        "[NaN,",
    ],
    *["1 ", "1, ", "9", "9.", ".", "-", "+-", "1e", "1e1", "1%", "1_", "1a", "a1", "x1: 1 ", "x:1,y:2,", "NaN ", "1\n"],
    *['"', "'", '\\"', '"1",', "<box>", "<box>(1,2),(3,4)</box>", '<point x="1" y="2">', "```", "<think>", "</think>"],
    *[
        "<think></think>",
        "<answer>",
        "\n",
        "  ",
        "1. [1,2]\n",
        "assistant\n",
        "\\boxed{",
        "\\boxed{A}",
        "top left (1,2) ",
    ],
    *["A ", "A, ", "A or ", "A\n", "A. ", "answer is ", "is the ", "not not ", "yes ", "no, ", "yes or no ", "don't "],
    *["\u662f", "\u4e0d\u662f\uff0c", "\uff11\uff0c", "\x00", "word ", "x ", "Ab1_ "],
]


def milliseconds(read: Callable[[str], object], text: str) -> float:
    """The best of three."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        read(text)
        best = min(best, time.process_time() - start)
    return best * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kilobytes", type=int, default=64)
    length = parser.parse_args().kilobytes * 1024
    found = []
    for junk in JUNK:
        for start in ("", "user\n", "At 1 [1,2,3] "):
            text = (start + junk * (length // len(junk) + 1))[:length]
            for name, read in READERS.items():
                whole = milliseconds(read, text)
                found.append((whole, whole / max(milliseconds(read, text[: length // 2]), 0.01), name, start, junk))
    found.sort(reverse=True)
    print(f"{len(found)} texts of {length} characters, Python {platform.python_version()}, {platform.machine()}")
    print("      ms  ratio  reader      text")
    for whole, ratio, name, start, junk in found[:15]:
        print(f"{whole:8.1f} {ratio:6.2f}  {name:<11} {start!r} + {junk!r} ...")
    slow = [ratio for whole, ratio, *_ in found if whole > 5]
    print(f"median {found[len(found) // 2][0]:.2f} ms; largest ratio of those over 5 ms {max(slow, default=0):.2f}")


if __name__ == "__main__":
    main()
