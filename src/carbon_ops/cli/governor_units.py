"""What `install-governor` writes for systemd: pure text, one function a file.

``packaging/`` holds the same texts with the default settings, for distributions.

Sources: ``systemd.exec(5)``, ``systemd.socket(5)``, ``sysusers.d(5)``, ``tmpfiles.d(5)``,
``modules-load.d(5)``.
"""

from __future__ import annotations

from typing import NamedTuple

HOME = "/opt/carbon-ops-governor"
SOCKET = "/run/carbon-ops.sock"
GROUP = "carbon-users"
SYSUSERS = "/etc/sysusers.d/carbon-ops.conf"
MODULES = "/etc/modules-load.d/carbon-ops.conf"


class Setup(NamedTuple):
    """The choices that the texts depend on."""

    python: str = "/usr/bin/python3"
    rapl_mode: str = "sysfs"
    group: str = GROUP


def service(setup: Setup) -> str:
    """Return ``carbon-governor.service``.

    The process keeps no capability: those named here open the counters and are dropped
    before the first client is served. ``ProcSubset=pid`` and ``PrivateUsers=`` are
    missing on purpose: the first hides ``/proc/stat``, the second voids the capability.
    """
    msr = setup.rapl_mode == "msr"
    capabilities = "CAP_DAC_READ_SEARCH" + (" CAP_SYS_RAWIO" if msr else "")
    devices = (
        "# PrivateDevices= would take CAP_SYS_RAWIO away.\n"
        "DevicePolicy=closed\nDeviceAllow=char-cpu/msr r\n"
        if msr
        else "PrivateDevices=yes\nDevicePolicy=closed\n"
    )
    return f"""\
# carbon-ops: reads the energy counters ten times a second.
[Unit]
Description=carbon-ops governor (energy counters for the group {setup.group})
Requires=carbon-governor.socket
After=carbon-governor.socket

[Service]
Type=notify
ExecStart={setup.python} -I -S {HOME} --rapl-mode={setup.rapl_mode}
WatchdogSec=30
Restart=on-failure
RestartSec=2
# 75: zones appeared or vanished, look again at once.
RestartForceExitStatus=75

DynamicUser=yes
User=carbon-governor
CapabilityBoundingSet={capabilities}
AmbientCapabilities={capabilities}
NoNewPrivileges=yes
UMask=0077

ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
{devices}ProtectProc=invisible
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
PrivateNetwork=yes
PrivateIPC=yes
IPAddressDeny=any
RestrictAddressFamilies=AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
# It gives its capabilities up.
SystemCallFilter=capset
SystemCallErrorNumber=EPERM
MemoryMax=64M
TasksMax=4
LimitNOFILE=1024

[Install]
WantedBy=multi-user.target
"""


def socket(setup: Setup) -> str:
    """Return ``carbon-governor.socket``."""
    return f"""\
# carbon-ops: who may read energy is who may open this socket.
[Unit]
Description=carbon-ops governor socket

[Socket]
ListenStream={SOCKET}
SocketUser=root
SocketGroup={setup.group}
SocketMode=0660
Backlog=1024
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
"""


def sysusers(setup: Setup) -> str:
    """Return the ``sysusers.d`` file that makes the group."""
    return (
        f"# Members may read the energy counters of this host.\ng {setup.group} - -\n"
    )


def tmpfiles(setup: Setup) -> str:
    """Return the ``tmpfiles.d`` file: a folder that containers can mount.

    A container has to mount a folder: a restart replaces the socket's inode.
    """
    return (
        "# For governors in containers: --socket=/run/carbon-ops/governor.sock\n"
        f"d /run/carbon-ops 0750 root {setup.group} -\n"
    )


def files(setup: Setup) -> dict[str, str]:
    """Return path and text of all files outside of :data:`HOME`.

    A group given by its number exists already, so nothing makes one.
    """
    found = {
        "/etc/systemd/system/carbon-governor.service": service(setup),
        "/etc/systemd/system/carbon-governor.socket": socket(setup),
        "/etc/tmpfiles.d/carbon-ops.conf": tmpfiles(setup),
    }
    if not setup.group.isdigit():
        found[SYSUSERS] = sysusers(setup)
    if setup.rapl_mode == "msr":
        found[MODULES] = "# For carbon-governor --rapl-mode=msr\nmsr\n"
    return found
