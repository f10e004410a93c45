"""`bash scripts/sft.sh my_experiment 2` from another folder, for every dataset of the documented mixture."""

from __future__ import annotations

import json

import pytest
from test_sft import FINETUNE, sft
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from documented_mixture import documented_names, make_mixture
from robointervlm.data.mixture import Mixture
from robointervlm.models.tiny import tiny_model
from robointervlm.train.data.labels import sample_texts
from tiny_models import SIZE


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_documented_command_trains_the_documented_mixture_and_is_finished_then(tmp_path):
    names = documented_names()
    assert len(names) == 24
    data, out, elsewhere = tmp_path / "the data", tmp_path / "the results", tmp_path / "elsewhere"
    make_mixture(data, names)
    tiny_model(sample_texts(Mixture(names, root=data)), SIZE, seed=0).save(tmp_path / "tiny")
    elsewhere.mkdir()
    settings = {"PRETRAIN_MODEL": tmp_path / "tiny", "ROBOINTER_DATA": data, "OUTPUT_DIR": out}
    settings |= {"MAX_STEPS": 3, "SAVE_STEPS": 2, "BATCH_SIZE": 2, "CUDA_VISIBLE_DEVICES": ""}

    def again():
        return sft("my_experiment", "2", cwd=elsewhere, script=FINETUNE / "scripts/sft.sh", **settings)

    done = again()
    assert done.returncode == 0, done.stdout + done.stderr
    assert (out / "sft.sh").read_bytes() == (FINETUNE / "scripts/sft.sh").read_bytes()
    assert done.stderr.count("No GPU is found here: training on the CPU in 2 process(es)") == 1
    assert (out / "job.err").read_text() == done.stderr
    everything = (out / "job.out").read_text().splitlines()
    assert sorted(everything) == sorted([*done.stdout.splitlines(), *done.stderr.splitlines()])
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["step-00000002"]
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["samples"], line["bad"]) for line in lines] == [(1, 8, 0), (2, 16, 0), (3, 24, 0)]
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(out / "model")
    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    assert model.get_input_embeddings().num_embeddings >= len(tokenizer)
    assert "assistant" in tokenizer.apply_chat_template(
        [{"role": "user", "content": "?"}], add_generation_prompt=True, tokenize=False
    )
    assert json.loads((out / "model/preprocessor_config.json").read_text())["min_pixels"] == 3136
    assert list(elsewhere.iterdir()) == []

    repeated = again()
    assert repeated.returncode == 0
    assert "is finished already" in repeated.stdout + repeated.stderr
    assert (out / "job.err").read_text().count("No GPU is found here") == 2
