#!/usr/bin/env bash
# Fine-tunes Qwen2.5-VL on one machine:  bash scripts/sft.sh NAME GPUS
#
# Edit the settings below, or give any of them in the environment:
#     PRETRAIN_MODEL=/models/Qwen2.5-VL-3B-Instruct bash scripts/sft.sh my_experiment 8
# GPUS is 8 if not given; without a GPU, so many processes on the CPU. All is written to OUTPUT_DIR. Run it again after an
# interruption: it goes on from the newest checkpoint. The exit code is that of the training.
# The README names settings by their line numbers: keep them there.
set -euo pipefail

TASK_NAME="${1:-${TASK_NAME:-sft_experiment}}"
GPUS="${2:-${GPUS:-8}}"
SCRIPT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)/$(basename -- "${BASH_SOURCE[0]}")"
PROJECT_DIR="${PROJECT_DIR:-$(dirname -- "$(dirname -- "${SCRIPT}")")}"

# ---- Output: checkpoints, log and the finished model of this run, all in one folder ----
# Relative paths start where you are.
OUTPUT_DIR="${OUTPUT_DIR:-${PROJECT_DIR}/results/${TASK_NAME}}"

# ---- Hardware ----
# GPUS=0 hides the GPUs; otherwise CUDA_VISIBLE_DEVICES is left as it is.
if [ "${GPUS}" -eq 0 ]; then
    export CUDA_VISIBLE_DEVICES=""
fi
export MASTER_PORT="${MASTER_PORT:-}" # a free one is taken if it is empty
export TOKENIZERS_PARALLELISM="${TOKENIZERS_PARALLELISM:-false}" ROBOINTER_STARTED_BY=sft.sh

# ---- Python: ROBOINTER_PYTHON, else the project's own environment, else python3 ----
PYTHON="${ROBOINTER_PYTHON:-${PROJECT_DIR}/../.venv/bin/python}"
[ -x "$(command -v "${PYTHON}" || true)" ] || PYTHON=python3

# ---- Weights & Biases (optional) ----
# Used if one of them is set and wandb is installed, and never with REPORT_TO=none. All numbers are in OUTPUT_DIR as well.
REPORT_TO="${REPORT_TO:-auto}"
export WANDB_ENTITY="${WANDB_ENTITY:-}"
export WANDB_PROJECT="${WANDB_PROJECT:-}"

# ---- Datasets: NAME or NAME%PERCENT, separated by commas; robointer data list shows them ----
# The folder that holds them is ROBOINTER_DATA. DATASETS replaces the five lists by one.
# The release's script also names rh20t_traj_direction_choice_with_traj_qa_train and the same of droid. They are left out:
# their files are not among the published ones. Where you have them, add the names to the und_datasets.
rh20t_gen_datasets="${rh20t_gen_datasets-rh20t_vla_contact_box_train%30,rh20t_vla_current_box_train%65,\
rh20t_vla_final_box_train%20,rh20t_vla_traj_qa_train,rh20t_vla_traj_init_point_qa_train,rh20t_vla_gripper_det_qa_train%50}"
droid_gen_datasets="${droid_gen_datasets-droid_vla_contact_box_train%40,droid_vla_current_box_train,\
droid_vla_final_box_train%20,droid_vla_traj_qa_train,droid_vla_traj_init_point_qa_train,droid_vla_gripper_det_qa_train%50}"
rh20t_und_datasets="${rh20t_und_datasets-rh20t_contact_choice_qa_train,rh20t_graspppose_choice_qa_train,\
rh20t_grounding_choice_qa_train,rh20t_traj_lang_choice_qa_train,rh20t_traj_direction_choice_qa_train,rh20t_traj_choice_qa_train}"
droid_und_datasets="${droid_und_datasets-droid_contact_choice_qa_train,droid_grounding_choice_qa_train,\
droid_traj_lang_choice_qa_train,droid_traj_direction_choice_qa_train,droid_traj_choice_qa_train}"
lang_datasets="${lang_datasets-manipvqa_train}"

ALL_LISTS="${rh20t_gen_datasets},${droid_gen_datasets},${rh20t_und_datasets},${droid_und_datasets},${lang_datasets}"
DATASETS="${DATASETS:-${ALL_LISTS}}"
[ -z "${ROBOINTER_DATA:-}" ] || export ROBOINTER_DATA="$(realpath -m -- "${ROBOINTER_DATA}")"

# ---- Model: the folder of Qwen2.5-VL-3B-Instruct, or of a checkpoint to go on from ----
PRETRAIN_MODEL="${PRETRAIN_MODEL:-}"
TUNE_LLM="${TUNE_LLM:-True}"
TUNE_MLP="${TUNE_MLP:-False}"
TUNE_VISION="${TUNE_VISION:-False}"
if [ -z "${PRETRAIN_MODEL}" ]; then
    echo "error: PRETRAIN_MODEL is not set; give the model's folder on line 57 of ${SCRIPT}, or in the environment." >&2
    exit 2
fi
OUTPUT_DIR="$(realpath -m -- "${OUTPUT_DIR}")"
[ ! -e "${PRETRAIN_MODEL}" ] || PRETRAIN_MODEL="$(realpath -- "${PRETRAIN_MODEL}")"

# ---- The project's folder ----
cd -- "${PROJECT_DIR}"

# ---- Hyper-parameters ----
TUNE_MOE="${TUNE_MOE:-False}" # the experts of a model made by `robointer convert upcycle`
LEARNING_RATE="${LEARNING_RATE:-5e-6}"
PROJECTOR_LR="${PROJECTOR_LR:-${LEARNING_RATE}}"
VISION_LR="${VISION_LR:-1e-6}"
MOE_LR="${MOE_LR:-${LEARNING_RATE}}"
CHANGE_LR="${CHANGE_LR:-False}" # True: a run that is gone on with may have other learning rates from here on
BATCH_SIZE="${BATCH_SIZE:-4}"
GRAD_ACCUM="${GRAD_ACCUM:-2}"
EPOCHS="${EPOCHS:-1}"
MAX_STEPS="${MAX_STEPS:--1}"
MAX_LENGTH="${MAX_LENGTH:-8192}"
# A sample of more than MAX_LENGTH tokens is never cut. All are counted, and the first ones named, before step 0. drop: they
# are left out; error: the training does not begin.
TOO_LONG="${TOO_LONG:-drop}"
MIN_PIXELS="${MIN_PIXELS:-3136}"
MAX_PIXELS="${MAX_PIXELS:-12845056}"
SAVE_STEPS="${SAVE_STEPS:-3000}"
SAVE_TOTAL_LIMIT="${SAVE_TOTAL_LIMIT:-2}"
WORKERS="${WORKERS:-8}"
SEED="${SEED:-0}"
PACK="${PACK:-none}"                       # none, samples or shared: docs/packing.md
DEEPSPEED="${DEEPSPEED-scripts/zero3.json}" # empty: every GPU holds the whole model

# ---- Keep this script beside its results ----
mkdir -p -- "${OUTPUT_DIR}"
[ "${SCRIPT}" -ef "${OUTPUT_DIR}/sft.sh" ] || cp -- "${SCRIPT}" "${OUTPUT_DIR}/sft.sh"

# ---- One command: `--gpus` starts a process per GPU, which share the work with those of other machines under srun ----
hardware=(--gpus "${GPUS}" --bf16 True --gradient_checkpointing True --dataloader_num_workers "${WORKERS}")
if [ "${GPUS}" -eq 0 ]; then
    hardware=(--use_cpu True --dataloader_num_workers 0)
elif [ -n "${DEEPSPEED}" ]; then
    hardware+=(--deepspeed "${DEEPSPEED}")
fi
# What the training says goes to the console; job.out keeps all of it, job.err what was said on standard error. Both
# outlive a signal, to take down its last words.
exec 3> >(trap '' INT TERM && exec tee -a -- "${OUTPUT_DIR}/job.out") && out=$!
exec 4> >(trap '' INT TERM && tee -a -- "${OUTPUT_DIR}/job.err" 3>&- | tee -a -- "${OUTPUT_DIR}/job.out" >&2 3>&-) && err=$!
"${PYTHON}" qwenvl/train/train_qwen.py \
    --model_name_or_path "${PRETRAIN_MODEL}" \
    --tune_mm_llm "${TUNE_LLM}" --tune_mm_mlp "${TUNE_MLP}" --tune_mm_vision "${TUNE_VISION}" \
    --tune_moe "${TUNE_MOE}" \
    --dataset_use "${DATASETS}" \
    --output_dir "${OUTPUT_DIR}" \
    --learning_rate "${LEARNING_RATE}" --mm_projector_lr "${PROJECTOR_LR}" --vision_tower_lr "${VISION_LR}" \
    --moe_lr "${MOE_LR}" --change_lr "${CHANGE_LR}" --too_long "${TOO_LONG}" \
    --weight_decay 0 --warmup_ratio 0.03 --max_grad_norm 1 --lr_scheduler_type cosine --optim adamw_torch \
    --per_device_train_batch_size "${BATCH_SIZE}" --gradient_accumulation_steps "${GRAD_ACCUM}" --pack "${PACK}" \
    --num_train_epochs "${EPOCHS}" --max_steps "${MAX_STEPS}" \
    --model_max_length "${MAX_LENGTH}" --min_pixels "${MIN_PIXELS}" --max_pixels "${MAX_PIXELS}" \
    --save_steps "${SAVE_STEPS}" --save_total_limit "${SAVE_TOTAL_LIMIT}" --logging_steps 1 --seed "${SEED}" \
    --report_to "${REPORT_TO}" --run_name "${TASK_NAME}" \
    "${hardware[@]}" >&3 2>&4 3>&- 4>&- &
training=$!

# A signal is handed on once; the training saves and ends with 75. It also ends `wait`, which then waits again.
trap 'signalled=1; kill -TERM "${training}" 2>/dev/null || true' INT TERM
signalled=1 code=0
while [ -n "${signalled}" ]; do
    signalled="" code=0
    wait "${training}" || code=$?
done
exec 3>&- 4>&-
while kill -0 "${out}" 2>/dev/null || kill -0 "${err}" 2>/dev/null; do sleep 0.05; done
exit "${code}"
