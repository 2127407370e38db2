"""The unit's text. The reasons stand here; the file itself is short."""

from __future__ import annotations

from edge_sdk.device.unit import Plan
from edge_sdk.systemd_unit.escaping import command, file_name, value, word

# By this line a unit of ours is known: no other is replaced or removed.
MARK = "# Written by edgecls service install"

# Video4Linux and media controllers, buffers of the Pi's camera, USB, the Coral on PCIe.
_DEVICES = ("video4linux", "media", "dma_heap", "usb_device", "apex")

_HARDENING = (
    # A user that exists while the service runs, and owns nothing but its two folders.
    "DynamicUser=yes",
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "UMask=0077",
    "ProtectSystem=strict",
    "PrivateTmp=yes",
    # Not PrivateUsers=: in a user namespace of its own the groups below are nobody's.
    # Not ProcSubset=pid: without /proc/cpuinfo the kernels for Arm are not chosen.
    "ProtectProc=invisible",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    # Netlink: libcamera and libusb hear of devices by it.
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged",
    # Refused, not killed: a library that asks in vain for a priority goes on without.
    "SystemCallErrorNumber=EPERM",
    # A cage for the devices: no PrivateDevices=, it would take the camera away.
    "PrivateDevices=no",
    "DevicePolicy=closed",
    *(f"DeviceAllow=char-{kind} rw" for kind in _DEVICES),
)


def unit_text(plan: Plan) -> str:
    """The whole file.

    Raises:
        UnitTextError: a path or a word that no unit file can say.
    """
    sections = (
        (
            f"{MARK}; edgecls service remove --name {plan.name} takes it away.",
            f"# To change a setting: sudo systemctl edit {plan.name}",
        ),
        ("[Unit]", *_unit(plan)),
        ("[Service]", *_service(plan)),
        ("[Install]", "WantedBy=multi-user.target"),
    )
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _unit(plan: Plan) -> list[str]:
    network = "network-online.target" if plan.needs_network else "network.target"
    return [
        f"Description={value(f'edgecls run {plan.model.name}')}",
        *(["Wants=network-online.target"] if plan.needs_network else []),
        f"After={network}",
        # Never given up: a disk with room again, a camera that is plugged in again or a broker's new
        # certificate must not wait for a person who types reset-failed.
        "StartLimitIntervalSec=0",
    ]


def _service(plan: Plan) -> list[str]:
    folder = plan.name
    return [
        "Type=notify",
        f"ExecStart={command(plan.command)}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        # The process tells its camera's child to end; it must not hear of it twice.
        "KillMode=mixed",
        "TimeoutStartSec=90",
        "TimeoutStopSec=10",
        # Fed while the loop gets on, see edge_sdk.loop.service.
        "WatchdogSec=30",
        "Restart=on-failure",
        # Without a limit, half a minute keeps a start that fails at once to some 5 % of a Pi's core.
        # Not RestartSteps=: it counts all restarts since a person started the unit, so that after some
        # months every lost camera would cost the longest pause. Before systemd 254 there is none.
        "RestartSec=30",
        # A wrong option and a bad model do not mend themselves.
        "RestartPreventExitStatus=2 7",
        f"StateDirectory={folder}",
        f"CacheDirectory={folder}",
        f"WorkingDirectory=%S/{folder}",
        f"Environment=XDG_CACHE_HOME=%C/{folder}",
        *(f"Environment={word(f'{name}={text}')}" for name, text in plan.environment),
        *([] if plan.environment_file is None else [_environment_file(plan)]),
        *(f"LoadCredential={name}:{value(str(path))}" for name, path in plan.credentials),
        "StandardOutput=journal",
        "StandardError=journal",
        f"SyslogIdentifier={plan.name}",
        # The rest is for whoever wants to log in and see why.
        "MemoryMax=75%",
        "TasksMax=128",
        *([f"SupplementaryGroups={' '.join(plan.groups)}"] if plan.groups else []),
        *_homes(plan),
        *_HARDENING,
    ]


def _environment_file(plan: Plan) -> str:
    assert plan.environment_file is not None
    return f"EnvironmentFile={file_name(plan.environment_file)}"


def _homes(plan: Plan) -> list[str]:
    if not plan.visible:
        return ["ProtectHome=yes"]
    # Folders and not files: a model renamed over the old one must be seen.
    paths = " ".join(word(str(folder)) for folder in plan.visible)
    return ["ProtectHome=tmpfs", f"BindReadOnlyPaths={paths}"]
