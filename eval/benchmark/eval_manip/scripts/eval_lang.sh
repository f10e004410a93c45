#!/usr/bin/env bash
# Evaluates language understanding:  bash eval_lang.sh
# Edit the lists, or give any in the environment, separated by commas: MODEL_PATHS, MODEL_NAMES, JSON_PATHS, TYPES,
# IMAGE_DIRS. The README names the lists by their line numbers: keep them there.
set -euo pipefail

# ---- Models: a checkpoint folder, OUTPUT_DIR or hub name each, called by the name of its run or folder ----
model_path_list=(
    "/path/to/your/model/checkpoint"
)

# ---- Questions: a file each ----
json_path_list=(
    "/path/to/eval_data.json"
)

# ---- What the files ask for: qa, or anything with bbox, traj or point in it ----
type_list=("qa")

# ---- Where the picture paths of the questions start ----
image_dir="/path/to/images"

# ---- How the numbers of the files are written, and how much is asked at once ----
coordinates="${COORDINATES:-pixel}" # pixel, unit, per_mille, resized
batch_size="${BATCH_SIZE:-16}"
max_new_tokens="${MAX_NEW_TOKENS:-512}"

model_name_list=()
image_dirs=("${image_dir}")
question_types=("")
scripts="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
source "${scripts}/evaluate_all.sh"
evaluate_all evaluation_intermediate_lang.py
