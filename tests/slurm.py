"""A SLURM cluster of one node, this machine, for the time of a test; skipped where SLURM is not installed."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tools

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
SECONDS = 60.0
# cred_expire is also how long a job that is queued again is held back (120 s if not set)
CONFIGURATION = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
AuthInfo=cred_expire=10
CredType=cred/none
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=1
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=gpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=other Nodes={host} MaxTime=INFINITE State=UP
"""


@contextmanager
def one_node(folder: Path) -> Iterator[dict[str, str]]:
    """The environment for commands of this cluster. Skips the test if a program is missing."""
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    environment["PATH"] += f"{os.pathsep}/usr/sbin"
    paths = tools.programs(PROGRAMS, "apt-get install slurm-wlm")
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    host = socket.gethostname().partition(".")[0]
    text = CONFIGURATION.format(host=host, user=getpass.getuser(), ports=_free_ports(), folder=folder)
    (folder / "slurm.conf").write_text(text)
    with (folder / "daemons.log").open("w") as log:
        daemons = [
            subprocess.Popen(
                [paths[name], "-D", "-f", str(folder / "slurm.conf")], env=environment, stdout=log, stderr=log
            )
            for name in ("slurmctld", "slurmd")
        ]
    try:
        wait_until(lambda: "idle" in told(["sinfo", "-h", "-o", "%t"], environment), f"no node, see {folder}")
        yield environment
    finally:
        told(["scancel", "--user", getpass.getuser()], environment)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end and told(["squeue", "-h"], environment).strip():
            time.sleep(0.2)  # a step that ends without its controller would wait for it
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def told(command: list[str], environment: dict[str, str]) -> str:
    """What a command prints, if it ends well or not."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS)
    return done.stdout + done.stderr


def wait_until(fact, what: str, seconds: float = SECONDS) -> None:  # type: ignore[no-untyped-def]
    """Fail with `what` if `fact()` does not become true."""
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def _free_ports() -> list[int]:
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
