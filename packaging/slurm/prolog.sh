#!/bin/sh
# Prolog=: runs as root, once for each node of a job, whatever the number of its ranks.
#
# Starts a service that measures the job's cgroup on this node until the epilog ends it.
# It runs as a user without privileges in the group that may ask the governor. Whatever
# goes wrong here is no reason to drain a node: the exit status is 0.

job=${SLURM_JOB_ID:?}
python=${CARBON_OPS_PYTHON:-/opt/carbon-ops/bin/python}
program=${CARBON_OPS_JOB_ENERGY:-/opt/carbon-ops/share/job_energy.py}

systemd-run --quiet --collect --unit="carbon-ops-job-$job" \
    --property=DynamicUser=yes --property=SupplementaryGroups=carbon-users \
    --property=StateDirectory=carbon-ops-jobs --property=StateDirectoryMode=0750 \
    --property=PrivateNetwork=yes --property=MemoryMax=128M --property=TimeoutStopSec=20 \
    "$python" "$program" "$job" "/var/lib/carbon-ops-jobs" ||
    logger -t carbon-ops "job $job is not measured"
exit 0
