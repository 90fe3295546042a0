#!/bin/sh
# Epilog=: runs as root, once for each node of a job. Ends what prolog.sh started, which
# writes the job's record and waits until it is on the disk.

systemctl stop "carbon-ops-job-${SLURM_JOB_ID:?}.service" ||
    logger -t carbon-ops "job $SLURM_JOB_ID was not measured"
exit 0
