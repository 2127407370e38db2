"""The energy that a processor has used, where the machine counts it."""

from __future__ import annotations

from edge_sdk.machine.system import System

# Linux, power/powercap: RAPL of Intel and AMD; most kernels let root alone read it (CVE-2020-8694).
_ZONES = "/sys/class/powercap/intel-rapl:*"
_MICRO = 1e-6


class EnergyCounter:
    """Adds up one counter, which starts over at its end.

    Args:
        system: where it is.
        zone: its folder.

    Attributes:
        name: of the folder and of what it counts, as ``intel-rapl:0 package-0``.

    Raises:
        OSError: it cannot be read.
    """

    def __init__(self, system: System, zone: str) -> None:
        self._system, self._zone = system, zone
        self.name = f"{zone.rsplit('/', 1)[-1]} {system.text(f'{zone}/name') or ''}".rstrip()
        self._range = system.number(f"{zone}/max_energy_range_uj") or 0.0
        self._joules = 0.0
        self._last = self._read()

    def joules(self) -> float:
        """Used since the counter was opened; ask at least once a minute, it may start over.

        Raises:
            OSError: it cannot be read any more.
        """
        now = self._read()
        since = now - self._last
        self._joules += (since if since >= 0 else since + self._range) * _MICRO
        self._last = now
        return self._joules

    def _read(self) -> float:
        value = self._system.number(f"{self._zone}/energy_uj")
        if value is None:
            raise OSError(f"{self._zone}/energy_uj cannot be read")
        return value


def open_energy(system: System) -> tuple[EnergyCounter | None, str]:
    """The counter of the first processor package, or why there is none, in words."""
    zones = [f"/{path.relative_to(system.root)}" for path in system.paths(_ZONES)]
    packages = [z for z in zones if (system.text(f"{z}/name") or "").startswith("package")]
    if not packages:
        return None, "this machine counts no energy (no /sys/class/powercap)"
    try:
        return EnergyCounter(system, packages[0]), ""
    except OSError:
        return None, (
            f"this machine counts energy, but {packages[0]}/energy_uj may not be read; run once as "
            "root, or allow it with: sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
        )
