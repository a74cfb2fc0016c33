#!/usr/bin/env bash
# Train on several machines of a Slurm cluster: one torchrun per machine, one process per GPU.
#   sbatch examples/slurm.sh photos/ --recipe photos --epochs 100
# The current folder and $VIT_DATA_DIR must be on a disk that all machines share. If a process is lost, all processes are
# started again from the last training state, up to three times. A job that Slurm ends or requeues (SIGTERM two minutes
# before) saves its training state, and resumes from it when it is started again.
#SBATCH --job-name=vit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120
#SBATCH --open-mode=append
set -euo pipefail

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
name=vit-$SLURM_JOB_ID
what=("$@" --name "$name")
if [[ -e experiments/$name/split.json ]]; then
    what=(--resume "$name")
fi

export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=100 # seconds to save the state before processes are killed
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / SLURM_GPUS_PER_NODE))
srun uv run torchrun --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "$SLURM_GPUS_PER_NODE" --max-restarts 3 \
    --rdzv-backend c10d --rdzv-endpoint "$first:29500" --rdzv-id "$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}" \
    -m vitcli train --device cuda --save-steps 500 "${what[@]}"
