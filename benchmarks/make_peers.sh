#!/bin/sh
# The peers live in an environment of their own: .venv-peers. Beside trl stand its last release that had PPO, and the
# unpacked wheels of openrlhf and verl: tests/peers loads single files of them, since their requirements need a GPU.
set -eu
cd "$(dirname "$0")/.."
python3 -m venv .venv-peers
pip=.venv-peers/bin/pip
$pip install --quiet torch==2.13.0
$pip install --quiet trl==1.16.0 transformers peft accelerate datasets
$pip install --quiet --no-deps --target .venv-peers/trl-1.12 trl==1.12.0
$pip install --quiet --no-deps --target .venv-peers/openrlhf-0.11.2 openrlhf==0.11.2
$pip install --quiet --no-deps --target .venv-peers/verl-0.9.1 verl==0.9.1
.venv-peers/bin/python -c "import trl; print('trl', trl.__version__)"
