#!/usr/bin/env bash
# Run a command with a temporary SLURM cluster: one node, on this machine's loopback interface.
#     tests/slurm/cluster.sh python -m pytest tests/slurm
# Requires Debian's packages slurm-wlm and munge, and no other SLURM or munged. The node claims 4 CPUs, so that a job of
# two tasks and a second job fit on any machine. Jobs of the partition "urgent" preempt those of "normal", which are
# requeued after a grace period of 30 seconds.
set -euo pipefail

for program in munged slurmctld slurmd sbatch; do
    if ! PATH=$PATH:/usr/sbin type -P "$program" > /dev/null; then
        echo "cluster.sh: $program is not installed; on Debian: apt-get install slurm-wlm munge" >&2
        exit 2
    fi
done
PATH=$PATH:/usr/sbin

folder=$(mktemp -d)
chmod 711 "$folder" # munged requires that everyone can reach its socket
mkdir "$folder/state" "$folder/spool"
pids=()
clean_up() {
    scancel --user="$(id -un)" 2> /dev/null || true
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        kill "${pids[i]}" 2> /dev/null || true
        wait "${pids[i]}" 2> /dev/null || true
    done
    rm -rf "$folder"
}
trap clean_up EXIT

port() { # a free port, chosen by the kernel
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

cat > "$folder/slurm.conf" << END
ClusterName=gatedcrf
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
SlurmctldPort=$(port)
SlurmdPort=$(port)
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=1,sched_interval=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=5
MailProg=/bin/true
SlurmdParameters=config_overrides
ReturnToService=2
NodeName=localhost NodeAddr=127.0.0.1 CPUs=4 RealMemory=8000 State=UNKNOWN
PartitionName=normal Nodes=localhost Default=YES PriorityTier=1 GraceTime=30 MaxTime=60
PartitionName=urgent Nodes=localhost PriorityTier=2 PreemptMode=OFF MaxTime=60
END
export SLURM_CONF=$folder/slurm.conf GATEDCRF_SLURM=1

head -c 1024 /dev/urandom > "$folder/munge.key"
chmod 400 "$folder/munge.key"
munged --foreground --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munged.seed" 2>> "$folder/munged.log" &
pids+=($!)
until [ -S "$folder/munge.socket" ]; do
    kill -0 "${pids[0]}" || { cat "$folder/munged.log" >&2; exit 1; }
    sleep 0.1
done
slurmctld -D > "$folder/slurmctld.log" 2>&1 &
pids+=($!)
slurmd -D -N localhost > "$folder/slurmd.log" 2>&1 &
pids+=($!)
for ((i = 0; i < 60; i++)); do
    [ "$(sinfo --noheader --format=%t --partition=normal 2> /dev/null)" = idle ] && break
    sleep 0.5
done
if ((i == 60)); then
    tail -n 20 "$folder/slurmctld.log" "$folder/slurmd.log" >&2
    exit 1
fi
"$@"
