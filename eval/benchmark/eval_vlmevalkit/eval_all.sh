#!/usr/bin/env bash
# Runs VLMEvalKit's benchmarks on checkpoints:  bash eval_all.sh
# Edit the lists, or give any in the environment, separated by commas: MODEL_PATHS, MODEL_NAMES, DATASETS. Each checkpoint
# is served by `transformers serve` meanwhile; BASE_URL names a server of your own instead. docs/leaderboards.md
set -euo pipefail

# ---- Models: a checkpoint folder or a training's OUTPUT_DIR, and a name each; without one, that of the run or folder ----
model_path_list=(
    "/path/to/your/model/checkpoint"
)

model_name_list=(
    "your_model_name"
)

# ---- Benchmarks; others of VLMEvalKit's as NAME=CLASS ----
data_list=(
    "MMVet"
    "COCO_VAL"
    "TextVQA_VAL"
    "OCRBench"
    "POPE"
)

# ---- Where VLMEvalKit keeps its data, and who judges free answers: the key of the judge is in OPENAI_API_KEY ----
export LMUData="${LMUData:-${HOME}/LMUData}"
judge="${JUDGE:-}" # such as gpt-4o-mini; empty is VLMEvalKit's own choice with a key, exact_matching without

here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd -- "${here}/../../.." && pwd)"
out="${OUTPUT_DIR:-${here}/results}"
robointer="${ROBOINTER_PYTHON:-${root}/.venv/bin/python}"
kit="${VLMEVALKIT_PYTHON:-${root}/.venv-vlmevalkit/bin/python}"

if [ -n "${MODEL_PATHS:-}" ]; then
    model_name_list=() # the names of the file belong to the paths of the file
    IFS=',' read -r -a model_path_list <<<"${MODEL_PATHS}"
fi
[ -z "${MODEL_NAMES:-}" ] || IFS=',' read -r -a model_name_list <<<"${MODEL_NAMES}"
[ -z "${DATASETS:-}" ] || IFS=',' read -r -a data_list <<<"${DATASETS}"
if [ -z "${judge}" ] && [ -z "${OPENAI_API_KEY:-}" ]; then
    judge="exact_matching"
fi
if [ ! -x "${kit}" ]; then
    echo "error: ${kit} does not exist; make VLMEvalKit's environment as docs/leaderboards.md says, or set VLMEVALKIT_PYTHON." >&2
    exit 2
fi
if ! "${robointer}" -c "import robointervlm" 2>/dev/null; then
    "${robointer}" "${root}/requirements/not_installed.py"
    exit 2
fi
for path in "${model_path_list[@]}"; do
    case "${path}" in /path/to/*)
        echo "error: '${path}' is still the example; edit the lists of the script, or give them in the environment." >&2
        exit 2
        ;;
    esac
done

server=""
stop_server() {
    [ -z "${server}" ] || kill "${server}" 2>/dev/null || true
    server=""
}
trap stop_server EXIT

serve() { # CHECKPOINT: serves it, and sets base_url
    local port
    port="$("${robointer}" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
    base_url="http://127.0.0.1:${port}/v1"
    "$(dirname -- "${kit}")/transformers" serve "$1" --host 127.0.0.1 --port "${port}" ${DEVICE:+--device "${DEVICE}"} \
        ${DTYPE:+--dtype "${DTYPE}"} >"${out}/serve.log" 2>&1 &
    server=$!
    until curl --silent --fail --output /dev/null "http://127.0.0.1:${port}/health"; do
        if ! kill -0 "${server}" 2>/dev/null; then
            echo "error: the server of $1 ended: ${out}/serve.log" >&2
            exit 1
        fi
        sleep 1
    done
}

locate() { # FUNCTION PATH: the folder of a model that a training left, or its name
    "${robointer}" -c "import sys; from robointervlm.models.locate import $1; print($1(sys.argv[1]))" "$2"
}

mkdir -p "${out}" "${LMUData}"
datasets="$(IFS=','; printf '%s' "${data_list[*]}")"
worst=0
for number in "${!model_path_list[@]}"; do
    path="${model_path_list[${number}]}"
    [ ! -e "${path}" ] || path="$(realpath -- "$(locate model_folder "${path}")")"
    name="${model_name_list[${number}]:-$(locate model_name "${path}")}"
    base_url="${BASE_URL:-}"
    [ -n "${base_url}" ] || serve "${path}"
    "${robointer}" -m robointervlm.cli leaderboards config --name "${name}" --model "${path}" --base-url "${base_url}" \
        --data "${datasets}" --max-tokens "${MAX_NEW_TOKENS:-512}" --out "${out}/${name}.json"
    # --reuse goes on with what an interrupted run has left.
    "${kit}" -m vlmeval --config "${out}/${name}.json" --work-dir "${out}" --reuse ${judge:+--judge "${judge}"} || worst=$?
    stop_server
done
"${robointer}" -m robointervlm.cli leaderboards collect "${out}"
exit "${worst}"
