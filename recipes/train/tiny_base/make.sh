#!/usr/bin/env bash
# Makes the demo's base model (src/robointervlm/assets/tiny-grounding) from nothing, in stages: a small random Qwen2.5-VL
# learns to say where the things are that are named, and none of the demo's own questions. About half an hour on two
# cores. Run it in the project's folder; a stage that is finished is not repeated.
#
# Asked about everything at once, it learns in the same time to point at any object (ACC@IoU>0.1 about 0.3). So it first
# learns to point (the gripper, then red things), then to choose (red or blue, always both in view), then colour by
# colour: each new one is four in ten of the questions.
set -euo pipefail
OUT=${OUT:-runs/tiny_base}
robointer() { .venv/bin/robointer "$@"; }

robointer data build --source sim --episodes 2500 --val-episodes 60 --seed 9000 --out "$OUT/data"
robointer data build --source sim --episodes 500 --val-episodes 30 --seed 9100 --colours red,blue --out "$OUT/data_two"

# The tokenizer reads the demo's questions so that it has their words; the weights never see them.
texts=()
for task in grounding naming current_box gripper_det contact_box final_box traj traj_wo_init_pos contact_point; do
    texts+=(--texts-from "sim_${task}_train%20")
done
for task in traj_direction_words contact_decide; do texts+=(--texts-from "sim_${task}_train%40"); done
[ -d "$OUT/0" ] || ROBOINTER_DATA="$OUT/data" robointer tiny "$OUT/0" --seed 0 "${texts[@]}"

previous="$OUT/0"
stage() { # name, data root, mixture, steps, further settings
    local run="$OUT/$1"
    [ -f "$run/result.json" ] || robointer train recipes/train/tiny_base/stage.yaml --processes 2 "model.path=$previous" \
        "data.root=$2" "mixture=[$3]" "run.dir=$run" "run.max_steps=$4" "${@:5}"
    previous="$run/model"
}

stage 1_gripper "$OUT/data" sim_gripper_det_train 600 optim.language_lr=4e-3 optim.vision_lr=4e-3 augment.crop_min=0.6
stage 2_red "$OUT/data_two" grounding_red 500 optim.language_lr=4e-3 optim.vision_lr=4e-3
stage 3_two "$OUT/data_two" grounding_red,grounding_blue 1200
stage 4_green "$OUT/data" grounding_red%70,grounding_blue%70,grounding_green 400
stage 5_purple "$OUT/data" grounding_red%48,grounding_blue%48,grounding_green%48,grounding_purple 400
stage 6_yellow "$OUT/data" grounding_red%36,grounding_blue%36,grounding_green%36,grounding_purple%36,grounding_yellow 400
stage 7_orange "$OUT/data" \
    grounding_red%29,grounding_blue%29,grounding_green%29,grounding_purple%29,grounding_yellow%29,grounding_orange 400
stage 8_all "$OUT/data" sim_grounding_train 3000 optim.schedule=cosine
stage 9_again "$OUT/data" sim_grounding_train 3000 optim.schedule=cosine run.seed=1
echo "The model is $previous. Into the package: cp $previous/* src/robointervlm/assets/tiny-grounding/"
