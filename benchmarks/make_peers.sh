#!/bin/sh
# The peers live in an environment of their own: .venv-peers, with trl's last release that had PPO beside the newest.
set -eu
cd "$(dirname "$0")/.."
python3 -m venv .venv-peers
pip=.venv-peers/bin/pip
$pip install --quiet torch==2.13.0
$pip install --quiet trl transformers peft accelerate datasets
$pip install --quiet --no-deps --target .venv-peers/trl-1.12 trl==1.12.0
.venv-peers/bin/python -c "import trl; print('trl', trl.__version__)"
