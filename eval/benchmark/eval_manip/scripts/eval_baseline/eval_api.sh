#!/usr/bin/env bash
# Evaluates models behind an OpenAI-compatible API:  bash eval_api.sh
# Edit the lists, or give any in the environment, separated by commas: MODEL_PATHS, MODEL_NAMES, JSON_PATHS, TYPES,
# IMAGE_DIRS, QUESTION_TYPES, BASE_URL, MODEL_COORDINATES.
set -euo pipefail

# ---- Models: gpt4o, gpt4o-mini, gemini, qwenvl2.5-72B, or the endpoint's own name, and a name each ----
model_path_list=(
    "gpt4o-mini"
)

model_name_list=(
    "gpt4o-mini"
)
# ---- Where they are served, and what they answer in. The key is in OPENAI_API_KEY (Gemini: GEMINI_API_KEY), or in the
# file API_KEY_FILE; for another https address than the makers', API_KEY_ENV names the variable that holds its key ----
base_url="${BASE_URL:-}" # https://…/v1; empty is the maker's own, for GPT and Gemini
model_coordinates="${MODEL_COORDINATES:-resized}" # resized (pixels of the picture as sent), per_mille, unit

# ---- Questions: entry by entry a file, its type, its pictures, how to ask; a list of one holds for every file ----
json_path_list=(
    "/path/to/eval_data.json"
    # one line per file
)

type_list=(
    "contact_box" # contact_box, current_box, final_box, gripper_det, traj, traj_wo_init_pos, or any other task
)

image_dirs=(
    "/path/to/images"
)

question_types=(
    "default" # default, qwen_grounding, refindoor, w2p
)

# ---- How the numbers of the files are written, and how much is asked at once ----
coordinates="${COORDINATES:-pixel}" # pixel, unit, per_mille, resized
batch_size="${BATCH_SIZE:-8}" # requests in flight
max_new_tokens="${MAX_NEW_TOKENS:-512}"

scripts="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
source "${scripts}/evaluate_all.sh"
model_flag="--model"
evaluate_all evaluation_intermediate_baseline_api.py \
    --model_coordinates "${model_coordinates}" ${base_url:+--base_url "${base_url}"} \
    ${API_KEY_ENV:+--api_key_env "${API_KEY_ENV}"} ${API_KEY_FILE:+--api_key_file "${API_KEY_FILE}"}
