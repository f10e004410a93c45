# Sourced by eval.sh, eval_lang.sh and eval_baseline/*.sh: runs one evaluation script over every model and file of their
# lists. `model_flag` is the flag that takes a model, --model_path if it is not set. FOLLOW_LINKS=1 in the environment
# reads pictures behind symbolic links that lead out of their folder.

# The entries of a list that the environment gives instead, separated by commas.
_from_environment() { # NAME_OF_LIST TEXT
    if [ -n "$2" ]; then
        IFS=',' read -r -a "$1" <<<"$2"
    fi
}

# The entry of this number; a list of one holds for every number.
_entry() { # NUMBER ENTRIES…
    local number="$1"
    shift
    if [ "$#" -eq 1 ]; then
        printf '%s' "$1"
    elif [ "${number}" -lt "$#" ]; then
        shift "${number}"
        printf '%s' "$1"
    else
        echo "error: entry $((number + 1)) is missing in a list of $#; lists hold one entry, or one per file." >&2
        return 2
    fi
}

evaluate_all() { # SCRIPT MORE_FLAGS…
    local script="$1"
    shift
    if [ -n "${MODEL_PATHS:-}" ]; then
        model_name_list=() # the names of the file belong to the paths of the file
    fi
    _from_environment model_path_list "${MODEL_PATHS:-}"
    _from_environment model_name_list "${MODEL_NAMES:-}"
    _from_environment json_path_list "${JSON_PATHS:-}"
    _from_environment type_list "${TYPES:-}"
    _from_environment image_dirs "${IMAGE_DIRS:-}"
    _from_environment question_types "${QUESTION_TYPES:-}"
    local path
    for path in "${model_path_list[@]}" "${json_path_list[@]}" "${image_dirs[@]}"; do
        case "${path}" in /path/to/*)
            echo "error: '${path}' is still the example; edit the lists of the script, or give them in the environment." >&2
            exit 2
            ;;
        esac
    done
    if [ "${GPUS:-}" = 0 ]; then
        export CUDA_VISIBLE_DEVICES=""
    fi
    local folder python
    folder="$(dirname -- "${scripts}")"
    python="${ROBOINTER_PYTHON:-${folder}/../../../.venv/bin/python}"
    [ -x "$(command -v "${python}" || true)" ] || python=python3

    local model file name kind images question code worst=0
    for model in "${!model_path_list[@]}"; do
        for file in "${!json_path_list[@]}"; do
            name="${model_name_list[${model}]:-}" # without one, that of the model's run or folder
            kind="$(_entry "${file}" "${type_list[@]}")" || exit 2
            images="$(_entry "${file}" "${image_dirs[@]}")" || exit 2
            question="$(_entry "${file}" "${question_types[@]}")" || exit 2
            echo "== ${name:-${model_path_list[${model}]}}: ${kind}, ${json_path_list[${file}]} =="
            code=0
            "${python}" "${folder}/${script}" \
                "${model_flag:---model_path}" "${model_path_list[${model}]}" ${name:+--model_name "${name}"} \
                --json_path "${json_path_list[${file}]}" --image_dir "${images}" \
                --type "${kind}" ${question:+--question_type "${question}"} \
                ${OUTPUT_DIR:+--results_dir "${OUTPUT_DIR}"} ${FOLLOW_LINKS:+--follow_links} \
                --log_dir "${LOG_DIR:-${scripts}/logs}" --coordinates "${coordinates}" \
                --batch_size "${batch_size}" --max_new_tokens "${max_new_tokens}" "$@" || code=$?
            if [ "${code}" -ge 128 ]; then
                exit "${code}" # stopped by a signal: the rest was not wanted either
            fi
            [ "${code}" -eq 0 ] || worst="${code}"
        done
    done
    exit "${worst}"
}
