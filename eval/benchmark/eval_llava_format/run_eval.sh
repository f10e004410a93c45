#!/usr/bin/env bash
# Scores prediction files that other tools wrote:  bash run_eval.sh
# Edit the settings, or give any in the environment.
set -euo pipefail

# ---- The folder of the predictions, and in it the model's folder with its eval_details_<task>.json ----
root="${ROOT:-/path/to/predictions}"
model="${MODEL:-your_model_name}"

# ---- What the answers and the references are written in: pixel, unit, per_mille, resized ----
coordinates="${COORDINATES:-unit}"
gt_coordinates="${GT_COORDINATES:-${coordinates}}"

# ---- Prediction files of planning questions, if there are any ----
planning="${PLANNING:-}"

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
python="${ROBOINTER_PYTHON:-${here}/../../../.venv/bin/python}"
[ -x "$(command -v "${python}" || true)" ] || python=python3
"${python}" "${here}/manip/generation.py" --root "${root}" --model "${model}" \
    --coordinates "${coordinates}" --gt_coordinates "${gt_coordinates}"
if [ -n "${planning}" ]; then
    "${python}" "${here}/manip/task_planning/eval.py" "${planning}"
fi
