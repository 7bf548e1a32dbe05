#!/usr/bin/env bash
# Try deploy/slurm/train.sbatch on a real Slurm of two nodes, started on this machine and stopped
# at the end: train, preempt twice, see the job requeued and resumed to its last iteration, and
# compare its weights with those of a job that nobody stopped.
#
#   dev/try_slurm.sh [--keep]        --keep leaves the work folder for a look
#
# Needs Slurm and munge (Debian: apt-get install slurm-wlm munge) and an active environment that can
# run train_net.py (or PYTHON=/path/to/python). Installs nothing, needs no GPU and no root. Exit
# code 0: all was as promised; 1: something was not; 3: cannot be tried here, with the reason.

set -euo pipefail
cd "$(dirname "$0")/.."

export PYTHON=${PYTHON:-python}
export PATH=$PATH:${SYSTEM_PATH-/usr/sbin:/sbin}
ITERATIONS=60
FIRST_STOP=19                             # metrics.json is written every 20 iterations
SECOND_STOP=39
PORT=${PORT:-17000}                       # and the two after it
WAIT_SECONDS=${WAIT_SECONDS:-600}         # for each step of the trial
daemons=()

say() { echo "== $*"; }
run() { echo "\$ $*" | sed "s#${work:-/none}#.#g"; "$@"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
cannot() { echo "skipped: $*" >&2; exit 3; }

packages="apt-get install slurm-wlm munge"
for tool in munged mungekey munge slurmctld slurmd sbatch srun scontrol scancel sinfo; do
    command -v "$tool" >/dev/null || cannot "$tool is not installed ($packages)"
done
"$PYTHON" -c "import detectron2, libra_umop" 2>/dev/null \
    || cannot "$PYTHON cannot import detectron2 and libra_umop (make setup, or set PYTHON)"

work=$(mktemp -d /tmp/try_slurm.XXXXXX)
export SLURM_CONF=$work/slurm.conf
job=

# End the job first: slurmd would wait for it, and this script for slurmd. Nothing here waits for
# longer than its limit, whatever has failed before.
end_job() {
    local until=$((SECONDS + 30))
    timeout 10 scancel --full --signal=KILL "$job" || true
    timeout 10 scancel "$job" || true
    while ((SECONDS < until)) && [[ $(timeout 10 squeue --noheader --jobs "$job") ]]; do
        sleep 0.5
    done
}

stop_daemons() {
    local pid until=$((SECONDS + 20))
    kill "${daemons[@]}" || true
    for pid in "${daemons[@]}"; do
        while ((SECONDS < until)) && kill -0 "$pid"; do sleep 0.2; done
        kill -KILL "$pid" || true
    done
    wait
}

cleanup() {
    local code=$?
    [[ -z $job ]] || end_job &>/dev/null
    stop_daemons &>/dev/null
    if [[ ${keep:-} ]] || ((code == 1)); then echo "logs: $work"; else rm -rf "$work"; fi
}
keep=$([[ ${1:-} == --keep ]] && echo yes || true)
trap cleanup EXIT

# wait_for WHAT COMMAND...: until COMMAND succeeds, at most WAIT_SECONDS, or the job has failed.
wait_for() {
    local what=$1 until=$((SECONDS + WAIT_SECONDS))
    shift
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS >= until)) || { [[ $job ]] && is_in_state "$job" FAILED; }; then
            tail -n 30 "$work"/*.log >&2
            fail "no $what"
        fi
        sleep 0.5
    done
}

two_nodes_idle() { (($(sinfo --noheader --Node --states idle | wc -l) == 2)); }

start_cluster() {
    mkdir "$work"/{state,n1,n2,runs}
    cat >"$SLURM_CONF" <<EOF
ClusterName=try
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$PORT
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
# Requeued jobs may start again after this many seconds, not the usual two minutes.
AuthInfo=socket=$work/munge.socket,cred_expire=10
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/%n.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
# Seconds from the first signal to SIGKILL, in which a cancelled job writes its checkpoint.
KillWait=$WAIT_SECONDS
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
NodeName=n[1-2] NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 CPUs=1 \\
    Port=[$((PORT + 1))-$((PORT + 2))]
PartitionName=try Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
EOF
    mungekey --create --keyfile "$work/munge.key"
    munged --foreground --force --key-file "$work/munge.key" --socket "$work/munge.socket" \
        --pid-file "$work/munge.pid" --seed-file "$work/munge.seed" &>"$work/munged.log" &
    daemons+=($!)
    wait_for "munge" munge -S "$work/munge.socket" -n
    slurmctld -D &>"$work/ctld.out.log" &
    daemons+=($!)
    for node in n1 n2; do
        slurmd -D -N "$node" &>"$work/$node.out.log" &
        daemons+=($!)
    done
    wait_for "two idle nodes" two_nodes_idle
    run sinfo --Node --long
}

# The iteration that a run has reached: the last line of its metrics.json.
iteration() {
    tail -n 1 "$work/runs/$1/metrics.json" 2>/dev/null | sed -n 's/.*"iteration": \([0-9]*\).*/\1/p'
}
reached() {
    local now
    now=$(iteration "$1")
    ((${now:--1} >= $2))
}
state() { scontrol show job "$1" --oneliner | sed -n 's/.*JobState=\([A-Z]*\).*/\1/p'; }
is_in_state() { [[ $(state "$1") == "$2" ]]; }
has_restarted() { scontrol show job "$1" --oneliner | grep -q "JobState=RUNNING.*Restarts=$2 "; }

submit() {
    local name=$1
    run sbatch --parsable --job-name "$name" --output "$work/%x.log" deploy/slurm/train.sbatch \
        --config-file configs/quick/libra_faster_rcnn_R_18_FPN_shapes.yaml \
        --dataset "$work/shapes" OUTPUT_DIR "$work/runs/$name" \
        SOLVER.MAX_ITER "$ITERATIONS" SOLVER.STEPS "()" SOLVER.BASE_LR 0.001 \
        SOLVER.IMS_PER_BATCH 2 SOLVER.CHECKPOINT_PERIOD 1000 TEST.EVAL_PERIOD 0 \
        DATALOADER.NUM_WORKERS 1 SEED 1 | tee "$work/submitted"
    job=$(tail -n 1 "$work/submitted")
}

show_log() {
    local lines='train.sbatch:|elastic_launch:|Resumed|SIG[A-Z1]+: stopped|iter: '
    lines+='|Saving.*model_(final|[0-9])'
    grep -h -E "$lines" "$work/$1.log" \
        | sed -E "s#$work#.#g; s/\x1b\[[0-9;]*m//g; s/eta: [0-9:]+ +//; s/  loss_cls.*//"
}

# "rank R on NODE" of each training process of a run, from its environment.
ranks() {
    local pid
    for pid in $(pgrep -f "train_net.py .*$work/runs/$1 "); do
        tr '\0' '\n' <"/proc/$pid/environ" \
            | sed -n 's/^RANK=/rank /p; s/^SLURMD_NODENAME=/on /p' | sort --reverse | xargs
    done | grep rank | sort --unique || true
}
# Ranks are given in the order of arrival, so that either node may have either.
one_rank_on_each_node() {
    ranks "$1" >"$work/ranks"
    [[ $(cut -d " " -f 2 "$work/ranks" | xargs) == "0 1" ]] \
        && [[ $(cut -d " " -f 4 "$work/ranks" | sort | xargs) == "n1 n2" ]]
}

start_cluster
run srun --nodes 2 --ntasks 2 --label printenv SLURMD_NODENAME
"$PYTHON" tools/make_shapes.py --output "$work/shapes" --num-train 24 --num-val 4 --size 96

say "a job that nobody stops"
submit calm
wait_for "end of job $job" is_in_state "$job" COMPLETED
show_log calm

say "a job that is stopped twice"
submit stopped
wait_for "iteration $FIRST_STOP" reached stopped "$FIRST_STOP"
wait_for "rank on each node" one_rank_on_each_node stopped
cat "$work/ranks"
say "the signal that Slurm sends before a time limit: to the batch script"
run scancel --batch --signal=USR1 "$job"
wait_for "first restart" has_restarted "$job" 1
wait_for "iteration $SECOND_STOP" reached stopped "$SECOND_STOP"
say "a signal to the training processes on both nodes"
run scancel --signal=USR1 "$job"
wait_for "second restart" has_restarted "$job" 2
wait_for "end of job $job" is_in_state "$job" COMPLETED
show_log stopped

say "a job that its user cancels"
submit cancelled
wait_for "iteration $FIRST_STOP" reached cancelled "$FIRST_STOP"
run scancel "$job"
wait_for "end of job $job" is_in_state "$job" CANCELLED
wait_for "last word of the cancelled job" grep -q "is not requeued" "$work/cancelled.log"
is_in_state "$job" CANCELLED || fail "a cancelled job came back: $(state "$job")"
[[ -s $work/runs/cancelled/last_checkpoint ]] || fail "the cancelled job left no checkpoint"
show_log cancelled

say "comparing the job that was stopped with the one that was not"
"$PYTHON" - "$work"/runs/{calm,stopped}/model_final.pth <<EOF || fail "they are not the same"
import sys
import torch

calm, stopped = (torch.load(path, weights_only=True) for path in sys.argv[1:])
print("last iterations:", calm["iteration"], stopped["iteration"])
assert calm["iteration"] == stopped["iteration"] == $ITERATIONS - 1
calm, stopped = calm["model"], stopped["model"]
assert calm.keys() == stopped.keys()
largest = max((calm[name] - stopped[name]).abs().max().item() for name in calm)
print(f"largest difference of any of {len(calm)} weight tensors: {largest}")
sys.exit(largest != 0)
EOF
say "all as promised"
