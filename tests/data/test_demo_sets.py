"""The demo sets that other projects publish are read as they are, but for where their pictures lie."""

from __future__ import annotations

import json
from pathlib import Path

from robointervlm.core.answer import Text
from robointervlm.core.coordinates import CoordinateFormat, ImageSize
from robointervlm.data.images import load
from robointervlm.data.prepare.check import check_dataset
from robointervlm.data.prepare.rewrite import Rewriting, rewritten
from robointervlm.data.records import Annotations
from robointervlm.data.spec import DatasetSpec, spec_of_file


def demo(file: Path, prefix: str) -> DatasetSpec:
    return spec_of_file(file, task="chat").model_copy(update={"strip_prefix": prefix})


def test_the_qwen_demo_has_its_marker_at_the_end_of_the_prompt(shared: Path) -> None:
    spec = demo(shared / "qwen_finetune_demo" / "single_images.json", "demo/images/")
    samples = list(Annotations(spec))
    assert [sample.answer for sample in samples] == [Text("Yes"), Text("6"), Text("2014")]
    assert samples[0].question == ("Is the value of Favorable 38 in 2015?\n<image>",)
    assert samples[0].size == ImageSize(422, 359)
    assert load(samples[0].images[0]).shape == (359, 422, 3)
    assert check_dataset(spec).problems == ()


def test_the_llamafactory_demo_has_two_pictures_and_two_turns(shared: Path) -> None:
    spec = demo(shared / "llamafactory_demo" / "mllm_demo.json", "mllm_demo_data/")
    samples = list(Annotations(spec))
    assert [len(sample.turns) for sample in samples] == [2] * 6
    assert [len(sample.images) for sample in samples] == [2, 1, 1, 2, 1, 1]
    assert [turn.question for turn in samples[0].turns] == [("<image>Who are they?",), ("What are they doing?<image>",)]
    assert samples[4].turns[1].answer == Text("因为他正在双膝跪地滑行庆祝。")
    assert check_dataset(spec).problems == ()


def test_the_llamafactory_demo_comes_out_as_it_went_in(shared: Path) -> None:
    file = shared / "llamafactory_demo" / "mllm_demo.json"
    annotations = Annotations(demo(file, "mllm_demo_data/"))
    for shape in ("sharegpt", "ms-swift"):
        written = list(rewritten(annotations, Rewriting(CoordinateFormat.PIXEL, shape)))
        assert [
            {
                "messages": record["messages"],
                "images": [f"mllm_demo_data/{path}" for path in record["images"]],
            }
            for record in written
        ] == json.loads(file.read_text())


def test_sharerobot_conversations_are_read_as_text(shared: Path, tmp_path: Path) -> None:
    published = json.loads((shared / "robobrain_demo" / "published_text_samples.json").read_text())
    records = [
        {
            **item,
            "conversations": [
                {**turn, "value": turn["value"].replace("<image>", "")} for turn in item["conversations"]
            ],
        }
        for item in published["sharerobot"]["items"]
        if isinstance(item, dict) and len(item.get("conversations", [])) == 2
    ]
    (tmp_path / "sharerobot.json").write_text(json.dumps(records))
    answers = [sample.answer for sample in Annotations(spec_of_file(tmp_path / "sharerobot.json", task="chat"))]
    assert answers[0] == Text("no")
    assert len(answers) == len(records) > 1
