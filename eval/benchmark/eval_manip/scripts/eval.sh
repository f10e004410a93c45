#!/usr/bin/env bash
# Evaluates models on the manipulation tasks:  bash eval.sh
# Edit the lists, or give any in the environment, separated by commas: MODEL_PATHS, MODEL_NAMES, JSON_PATHS, TYPES,
# IMAGE_DIRS, QUESTION_TYPES. The README names the lists by their line numbers: keep them there.
set -euo pipefail

# ---- Models: a checkpoint folder, a training's OUTPUT_DIR or a hub name, and a name each ----
model_path_list=(
    "/path/to/your/model/checkpoint"
)

model_name_list=(
    "your_model_name"
)
# ---- Questions: entry by entry a file, its type, its pictures, how to ask; a list of one holds for every file ----
json_path_list=(
    "/path/to/eval_data.json"
    # one line per file
)

type_list=(
    "contact_box" # contact_box, current_box, final_box, gripper_det, traj, traj_wo_init_pos
)

image_dirs=(
    "/path/to/images"
)

question_types=(
    "default" # default, qwen_grounding, refindoor, w2p
)

# ---- How the numbers of the files are written, and how much is asked at once ----
coordinates="${COORDINATES:-pixel}" # pixel, unit, per_mille, resized
batch_size="${BATCH_SIZE:-16}"
max_new_tokens="${MAX_NEW_TOKENS:-512}"

scripts="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
source "${scripts}/evaluate_all.sh"
evaluate_all evaluation_intermediate.py
