#!/bin/sh
# TaskProlog=: what it prints as "export NAME=value" is put into the task's environment.
#
# Runs for every rank of every step. One rank of each node, the one with SLURM_LOCALID 0,
# measures the cgroup of its step on that node (of the job, two steps at a time would count
# it twice); the others measure nothing that anybody adds up. So the sum over nodes and
# steps is the job, each joule once.

state=${CARBON_OPS_SLURM_STATE:-$HOME/carbon-ops}
job=${SLURM_JOB_ID:?}
node=${SLURMD_NODENAME:-$(hostname -s)}

if [ "${SLURM_LOCALID:?}" != 0 ]; then
    echo "export CARBON_OPS_ELECTED=0"
    echo "unset CARBON_OPS_LEDGER"
    exit 0
fi

# Version 2: .../job_<id>/step_<n>/user/task_<n>; version 1: .../job_<id>/step_<n>.
path=$(sed -n -e 's/^0:://p' -e 's/^[0-9]*:[^:]*cpuacct[^:]*://p' "${CARBON_OPS_PROC_CGROUP:-/proc/self/cgroup}" |
    sed -n "s|\(.*/job_$job/step_[^/]*\)\(/.*\)*\$|\1|p" | head -n 1)

echo "export CARBON_OPS_ELECTED=1"
echo "export CARBON_OPS_LEDGER=$state/$job-$node"
if [ -n "$path" ]; then
    echo "export CARBON_OPS_SCOPE=cgroup:$path"
else
    echo "print carbon-ops: no cgroup of this step of job $job; only rank 0 of $node is measured"
fi
