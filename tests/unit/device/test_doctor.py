"""Each check of the doctor, on made-up machines: a healthy Raspberry Pi, and one fault at a time."""

from __future__ import annotations

import errno
import shlex
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_sdk.device.doctor import coral
from edge_sdk.device.doctor.context import (
    SEVERITIES,
    Context,
    Disk,
    DoctorOptions,
    Finding,
    Loaded,
    Python,
    User,
)
from edge_sdk.device.doctor.examine import CHECKS, examine
from edge_sdk.engines import edgetpu
from edge_sdk.machine.board import System

_FILES = {
    "/proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "/etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"',
    "/etc/group": "root:x:0:\nvideo:x:44:pi\nplugdev:x:46:pi\nrender:x:106:pi\n",
    "/proc/meminfo": "MemTotal: 3884360 kB\nMemAvailable: 3300000 kB\nSwapTotal: 524284 kB\n"
    "SwapFree: 524284 kB\n",
    "/proc/mounts": "/dev/mmcblk0p2 / ext4 rw 0 0\n/dev/sda1 /data ext4 rw 0 0\n",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver": "cpufreq-dt",
    "/sys/devices/system/cpu/online": "0-3",
    "/sys/class/thermal/thermal_zone0/type": "cpu-thermal",
    "/sys/class/thermal/thermal_zone0/temp": "48686",
    "/sys/class/video4linux/video0/name": "HD Pro Webcam C920",
    "/dev/video0": "",
    "/dev/media0": "",
    "/dev/dma_heap/linux,cma": "",
    "/home/pi/edgecls/pyvenv.cfg": "home = /usr/bin\ninclude-system-site-packages = true\n",
    "/usr/lib/python3/dist-packages/libcamera/_libcamera.cpython-311-aarch64-linux-gnu.so": "",
    "/proc/77/comm": "python3",
}
_CORAL = {
    "/sys/bus/usb/devices/2-1/idVendor": "18d1",
    "/sys/bus/usb/devices/2-1/idProduct": "9302",
    "/sys/bus/usb/devices/2-1/busnum": "2",
    "/sys/bus/usb/devices/2-1/devnum": "3",
    "/sys/bus/usb/devices/2-1/speed": "5000",
    "/dev/bus/usb/002/003": "",
    "/lib/udev/rules.d/60-libedgetpu1-std.rules": 'ATTRS{idVendor}=="1a6e",GROUP="plugdev"',
    "/usr/lib/aarch64-linux-gnu/libedgetpu.so.1": "",
}
_CARD = {
    "/sys/bus/pci/devices/0001:01:00.0/vendor": "0x1ac1",
    "/sys/bus/pci/devices/0001:01:00.0/device": "0x089a",
    "/dev/apex_0": "",
    "/usr/lib/aarch64-linux-gnu/libedgetpu.so.1": "",
}
_OUTPUTS = {
    "vcgencmd get_throttled": "throttled=0x0",
    "rpicam-hello --list-cameras": "Available cameras\n-----------------\n0 : imx708 [4608x2592]",
    "timedatectl": "NTP=yes\nNTPSynchronized=yes",
    "systemctl": "LoadState=not-found\nActiveState=inactive",
    "dpkg-query": "16.0tf2.19.1-1.bookworm",
    "getconf PAGESIZE": "4096",
}
_DISTRIBUTIONS = {
    "numpy": "2.2.6",
    "opencv-python-headless": "4.12.0.88",
    "ai-edge-litert": "2.3.0",
    "onnxruntime": "1.22.0",
    "paho-mqtt": "2.1.0",
}
_MODULES = {
    "numpy": Loaded("2.2.6"),
    "cv2": Loaded("4.12.0"),
    "flatbuffers": Loaded("25.2.10"),
    "ai_edge_litert.interpreter": Loaded(),
    "onnxruntime": Loaded("1.22.0"),
    "picamera2": Loaded(),
}


class Machine:
    """A Raspberry Pi 4 in good health, until a test changes something."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.outputs = dict(_OUTPUTS)
        self.distributions = dict(_DISTRIBUTIONS)
        self.modules = dict(_MODULES)
        self.library = Loaded("BuildLabel(COMPILER=6.3.0), RuntimeVersion(14)")
        self.closed: dict[str, int] = {}
        self.environment: dict[str, str] = {}
        self.disk = Disk(Path("/home/pi"), 9_000_000_000, 18.0, 0)
        self.now = datetime(2026, 11, 21, 12, tzinfo=UTC)
        self.groups = frozenset({"pi", "video", "plugdev"})
        self.version = (3, 11, 2)
        self.bits = 64
        self.machine = "aarch64"
        self.libc = ("glibc", "2.36")
        self.is_environment = True
        self.asked = DoctorOptions(folder=Path("/home/pi/.local/state/edgecls"))
        self.write(_FILES)

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.root / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")

    def remove(self, *names: str) -> None:
        for name in names:
            (self.root / name.lstrip("/")).unlink()

    def link(self, name: str, target: str) -> None:
        path = self.root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)

    def memory(self, *, total: int, available: int, swap: int, swap_free: int) -> None:
        text = f"MemTotal: {total} kB\nMemAvailable: {available} kB\nSwapTotal: {swap} kB\n"
        self.write({"/proc/meminfo": f"{text}SwapFree: {swap_free} kB\n"})

    def output(self, command: Sequence[str]) -> str | None:
        words = shlex.join(command)
        return next((text for start, text in self.outputs.items() if words.startswith(start)), None)

    def context(self) -> Context:
        return Context(
            self.asked,
            Python(
                self.version,
                self.bits,
                self.machine,
                self.libc,
                "/home/pi/edgecls/bin/python",
                Path("/home/pi/edgecls"),
                self.is_environment,
                Path("/usr/lib/python3.11"),
            ),
            User("pi", False, self.groups),
            System(self.root, self.output),
            environment=self.environment,
            distribution=self.distributions.get,
            load=lambda name: self.modules.get(name, _absent(name.split(".")[0])),
            load_library=lambda _: self.library,
            open_device=lambda path: self.closed.get(f"/{path.relative_to(self.root)}", 0),
            disk=lambda _: self.disk,
            now=lambda: self.now,
        )

    def faults(self) -> list[Finding]:
        return [found for found in examine(self.context()) if found.severity != "ok"]


def _absent(module: str) -> Loaded:
    return Loaded(problem=f"ModuleNotFoundError: No module named '{module}'", missing=module)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_healthy_machine_has_nothing_to_mend(machine: Machine) -> None:
    findings = examine(machine.context())
    assert [f for f in findings if f.severity != "ok"] == []
    assert len(findings) >= 15
    assert all(f.fix is None for f in findings)


def test_a_healthy_coral_has_nothing_to_mend(machine: Machine) -> None:
    machine.write(_CORAL | _CARD)
    assert machine.faults() == []
    words = [f.what for f in examine(machine.context())]
    assert "libedgetpu 16.0tf2.19.1-1.bookworm, runtime 14 loads" in words
    assert "/dev/apex_0 may be opened" in words


# What goes wrong: how the machine is changed, severity, words of the finding, words of its command.
_Change = Callable[[Machine], None]
_FAULTS: dict[str, tuple[_Change, str, str, str]] = {}


def _fault(name: str, severity: str, what: str, fix: str) -> Callable[[_Change], _Change]:
    def collected(change: _Change) -> _Change:
        assert name not in _FAULTS
        _FAULTS[name] = (change, severity, what, fix)
        return change

    return collected


@_fault("Python too new", "warning", "Python 3.14.0, newer than 3.13", "python3.13 -m venv")
def _(machine: Machine) -> None:
    machine.version = (3, 14, 0)
    machine.write({"/usr/lib/python3/dist-packages/libcamera/_libcamera.cpython-314-x.so": ""})


@_fault("32-bit", "warning", "a 32-bit system (armv7l)", "tflite-runtime>=2.14,<3")
def _(machine: Machine) -> None:
    machine.bits, machine.machine = 32, "armv7l"


@_fault("32-bit on 64", "warning", "a 32-bit Python on a 64-bit kernel", "'numpy<2'")
def _(machine: Machine) -> None:
    machine.bits = 32


@_fault("Pi Zero", "error", "a 32-bit system (armv6l), Python 3.11", "rpi-imager")
def _(machine: Machine) -> None:
    machine.bits, machine.machine = 32, "armv6l"


@_fault("musl", "error", "musl", "docker run --rm -it python:3.13-slim")
def _(machine: Machine) -> None:
    machine.libc = ("musl", "")


@_fault("old glibc", "warning", "glibc 2.27, older than 2.28", "docker run")
def _(machine: Machine) -> None:
    machine.libc = ("glibc", "2.27")


@_fault("system Python", "note", "the system's own Python", "python3 -m venv")
def _(machine: Machine) -> None:
    machine.is_environment = False
    machine.write({"/usr/lib/python3.11/EXTERNALLY-MANAGED": "[externally-managed]"})


@_fault("no numpy", "error", "numpy is not installed", "pip install 'numpy>=1.26,<3'")
def _(machine: Machine) -> None:
    del machine.modules["numpy"]


@_fault("numpy broken", "error", "libopenblas.so.0: cannot open", "--force-reinstall")
def _(machine: Machine) -> None:
    machine.modules["numpy"] = Loaded(problem="ImportError: libopenblas.so.0: cannot open")


@_fault("no OpenCV", "error", "OpenCV is not installed", "pip install 'opencv-python-headless")
def _(machine: Machine) -> None:
    del machine.modules["cv2"]


@_fault("libGL", "error", "libGL.so.1", "pip uninstall -y opencv-python &&")
def _(machine: Machine) -> None:
    problem = "ImportError: libGL.so.1: cannot open shared object file: No such file or directory"
    machine.modules["cv2"] = Loaded(problem=problem)
    machine.distributions["opencv-python"] = "4.12.0.88"
    del machine.distributions["opencv-python-headless"]


@_fault("OpenCV and numpy", "error", "multiarray failed to import", "--force-reinstall")
def _(machine: Machine) -> None:
    problem = "ImportError: numpy.core.multiarray failed to import"
    machine.modules["cv2"] = Loaded(problem=problem)


@_fault("two OpenCVs", "warning", "opencv-contrib-python, opencv-python-headless", "uninstall -y")
def _(machine: Machine) -> None:
    machine.distributions["opencv-contrib-python"] = "4.12.0.88"


@_fault("empty cv2", "error", "OpenCV is an empty folder", "--force-reinstall")
def _(machine: Machine) -> None:
    machine.modules["cv2"] = Loaded()


@_fault("old OpenCV", "error", "OpenCV 4.6.0, older than 4.11", "opencv-python-headless>=4.11")
def _(machine: Machine) -> None:
    machine.modules["cv2"] = Loaded("4.6.0")


@_fault("OpenCV with a known hole", "warning", "OpenCV 4.11.0, older", "headless>=4.12,<6")
def _(machine: Machine) -> None:
    machine.modules["cv2"] = Loaded("4.11.0")


@_fault("OpenCV of another processor", "error", "crashes with SIGILL", "--force-reinstall")
def _(machine: Machine) -> None:
    machine.modules["cv2"] = Loaded(problem="it crashes with SIGILL")


@_fault("static TLS", "error", "static TLS block", "export LD_PRELOAD=/x/libgomp-d22c30c5.so.1.0.0")
def _(machine: Machine) -> None:
    problem = (
        "ImportError: /x/libgomp-d22c30c5.so.1.0.0: cannot allocate memory in static TLS block"
    )
    machine.modules["cv2"] = Loaded(problem=problem)


@_fault("no flatbuffers", "error", "flatbuffers is not installed", "pip install 'flatbuffers")
def _(machine: Machine) -> None:
    del machine.modules["flatbuffers"]


@_fault("flatbuffers broken", "error", "flatbuffers does not load", "--force-reinstall 'flatbuf")
def _(machine: Machine) -> None:
    machine.modules["flatbuffers"] = Loaded(problem="OSError: [Errno 5] Input/output error")


@_fault(
    "no TensorFlow Lite interpreter",
    "error",
    "no TensorFlow Lite interpreter",
    "pip install 'ai-edge-litert",
)
def _(machine: Machine) -> None:
    del machine.modules["ai_edge_litert.interpreter"], machine.distributions["ai-edge-litert"]


@_fault("LiteRT and glibc", "error", "`GLIBC_2.38' not found", "--force-reinstall")
def _(machine: Machine) -> None:
    problem = "ImportError: /lib/libc.so.6: version `GLIBC_2.38' not found (required by x.so)"
    machine.modules["ai_edge_litert.interpreter"] = Loaded(problem=problem)


@_fault(
    "old LiteRT", "warning", "ai-edge-litert 1.4.0, expected 2.1", "pip install 'ai-edge-litert"
)
def _(machine: Machine) -> None:
    machine.distributions["ai-edge-litert"] = "1.4.0"


@_fault("tflite-runtime, numpy 2", "error", "tflite-runtime 2.14.0 beside numpy 2.2.6", "'numpy<2'")
def _(machine: Machine) -> None:
    del machine.modules["ai_edge_litert.interpreter"], machine.distributions["ai-edge-litert"]
    machine.distributions["tflite-runtime"] = "2.14.0"
    machine.modules["tflite_runtime.interpreter"] = Loaded("2.14.0")


@_fault("both, numpy 2", "note", "tflite-runtime 2.14.0 beside", "uninstall -y tflite-runtime")
def _(machine: Machine) -> None:
    machine.distributions["tflite-runtime"] = "2.14.0"
    machine.modules["tflite_runtime.interpreter"] = Loaded("2.14.0")


@_fault("ONNX Runtime", "warning", "ONNX Runtime does not load", "pip install --force-reinstall")
def _(machine: Machine) -> None:
    machine.modules["onnxruntime"] = Loaded(problem="ImportError: wrong ELF class: ELFCLASS64")


@_fault(
    "venv",
    "warning",
    "not visible in this virtual environment",
    "sed -i 's/^include-system-site-packages",
)
def _(machine: Machine) -> None:
    machine.modules["picamera2"] = _absent("picamera2")
    machine.write({"/home/pi/edgecls/pyvenv.cfg": "include-system-site-packages = false\n"})


@_fault("venv, picamera2 of pip", "warning", "not visible in this virtual environment", "sed -i")
def _(machine: Machine) -> None:
    machine.modules["picamera2"] = _absent("libcamera")
    machine.write({"/home/pi/edgecls/pyvenv.cfg": "include-system-site-packages = false\n"})


_LIBCAMERA = "/usr/lib/python3/dist-packages/libcamera/_libcamera.cpython-311-aarch64-linux-gnu.so"


@_fault("no picamera2", "warning", "picamera2 and libcamera are not", "apt install -y python3-pi")
def _(machine: Machine) -> None:
    machine.modules["picamera2"] = _absent("picamera2")
    machine.remove(_LIBCAMERA)


@_fault("no libcamera", "warning", "picamera2 is installed, libcamera is not", "sudo apt install")
def _(machine: Machine) -> None:
    machine.modules["picamera2"] = _absent("libcamera")
    machine.remove(_LIBCAMERA)


@_fault(
    "libcamera of another Python", "warning", "Python 3.11, this env", "/usr/bin/python3 -m venv"
)
def _(machine: Machine) -> None:
    machine.version = (3, 13, 1)
    machine.modules["picamera2"] = _absent("libcamera._libcamera")


@_fault("simplejpeg", "warning", "numpy.dtype size changed", "pip install 'edgecls[pi]'")
def _(machine: Machine) -> None:
    machine.modules["picamera2"] = Loaded(
        problem="ValueError: numpy.dtype size changed, may indicate binary incompatibility."
    )


@_fault("pykms", "warning", "No module named 'pykms'", "apt install -y --reinstall")
def _(machine: Machine) -> None:
    machine.modules["picamera2"] = _absent("pykms")


@_fault("no camera on the Pi", "note", "libcamera finds no camera", "rpicam-hello --list-cameras")
def _(machine: Machine) -> None:
    machine.outputs["rpicam-hello --list-cameras"] = "No cameras available!"


@_fault("not in video", "error", "pi may not open /dev/video0", "sudo usermod -aG video pi")
def _(machine: Machine) -> None:
    machine.closed = {"/dev/video0": errno.EACCES}
    machine.write({"/etc/group": "video:x:44:\n"})


@_fault("old login", "error", "pi may not open /dev/video0, /dev/media0", "newgrp video")
def _(machine: Machine) -> None:
    machine.closed = {"/dev/video0": errno.EACCES, "/dev/media0": errno.EACCES}
    machine.groups = frozenset({"pi"})


@_fault(
    "no dma_heap", "error", "pi may not open /dev/dma_heap/linux,cma", "sudo chgrp video /dev/dma"
)
def _(machine: Machine) -> None:
    machine.closed = {"/dev/dma_heap/linux,cma": errno.EACCES}


@_fault("busy camera", "warning", "/dev/video0 is in use by motion (process 99)", "kill 99")
def _(machine: Machine) -> None:
    machine.link("/proc/99/fd/7", "/dev/video0")
    machine.link("/proc/99/fd/8", "/dev/video0")
    machine.write({"/proc/99/comm": "motion", "/proc/99/cmdline": "/usr/bin/motion\0-n\0"})


@_fault("container", "note", "no camera in this container", "docker run --device /dev/video0")
def _(machine: Machine) -> None:
    machine.write({"/.dockerenv": ""})
    machine.remove("/dev/video0")


@_fault("no camera", "note", "there is no camera (no /dev/video0)", "lsusb")
def _(machine: Machine) -> None:
    machine.write({"/proc/device-tree/model": "Radxa ROCK 5B"})
    machine.remove("/dev/video0")


@_fault(
    "no libedgetpu", "error", "its library libedgetpu.so.1 is not", "apt-get install -y libedge"
)
def _(machine: Machine) -> None:
    machine.write(_CORAL)
    machine.remove("/usr/lib/aarch64-linux-gnu/libedgetpu.so.1")


@_fault("libedgetpu, GLIBCXX", "error", "GLIBCXX_3.4.32' not found", "feranick/libedgetpu/releases")
def _(machine: Machine) -> None:
    machine.write(_CORAL)
    machine.library = Loaded(problem="libstdc++.so.6: version `GLIBCXX_3.4.32' not found")


@_fault(
    "libedgetpu without ABI",
    "error",
    "no tflite_plugin_create_delegate",
    "feranick/libedgetpu/releases",
)
def _(machine: Machine) -> None:
    machine.write(_CORAL)
    machine.library = Loaded(problem="it has no tflite_plugin_create_delegate")


@_fault("no such libedgetpu", "error", "names a library that does not load", "unset EDGECLS_EDGE")
def _(machine: Machine) -> None:
    machine.write(_CORAL)
    machine.environment = {"EDGECLS_EDGETPU_LIBRARY": "/opt/absent.so"}
    machine.library = Loaded(problem="/opt/absent.so: cannot open shared object file")


@_fault("libedgetpu of 2021", "note", "libedgetpu 16.0 is Google's", "feranick/libedgetpu/releases")
def _(machine: Machine) -> None:
    machine.write(_CORAL)
    machine.outputs["dpkg-query"] = "16.0"


@_fault("USB 2", "warning", "the Coral is on USB 2 (480 Mbit/s)", "lsusb -t")
def _(machine: Machine) -> None:
    machine.write(_CORAL | {"/sys/bus/usb/devices/2-1/speed": "480"})


@_fault("no udev rule", "error", "may not open the Coral on USB (/dev/bus/usb/002/003)", "udevadm")
def _(machine: Machine) -> None:
    machine.write(_CORAL)
    machine.remove("/lib/udev/rules.d/60-libedgetpu1-std.rules")
    machine.closed = {"/dev/bus/usb/002/003": errno.EACCES}


@_fault("not in plugdev", "error", "may not open the Coral on USB", "usermod -aG plugdev pi")
def _(machine: Machine) -> None:
    # As it calls itself before it is first used.
    first = {"/sys/bus/usb/devices/2-1/idVendor": "1a6e"}
    machine.write(_CORAL | first | {"/sys/bus/usb/devices/2-1/idProduct": "089a"})
    machine.write({"/etc/group": "video:x:44:pi\nplugdev:x:46:\n"})
    machine.closed = {"/dev/bus/usb/002/003": errno.EACCES}


@_fault("apex not loaded", "error", "no /dev/apex_0", "sudo modprobe apex")
def _(machine: Machine) -> None:
    machine.write(_CARD | {"/lib/modules/6.12.34/updates/dkms/apex.ko.xz": ""})
    machine.remove("/dev/apex_0")


@_fault("no apex driver", "error", "no /dev/apex_0", "git clone")
def _(machine: Machine) -> None:
    machine.write(_CARD)
    machine.remove("/dev/apex_0")


@_fault("apex closed", "error", "pi may not open /dev/apex_0", "usermod -aG apex pi")
def _(machine: Machine) -> None:
    machine.write(_CARD)
    machine.closed = {"/dev/apex_0": errno.EACCES}


@_fault("16 kB pages", "error", "/dev/apex_0 on a kernel with pages of 16 kB", "kernel=kernel8.img")
def _(machine: Machine) -> None:
    machine.write(_CARD)
    machine.outputs["getconf PAGESIZE"] = "16384"


@_fault("under-voltage", "warning", "the supply voltage is too low", "sudo dmesg | grep -i vol")
def _(machine: Machine) -> None:
    machine.outputs["vcgencmd get_throttled"] = "throttled=0x50005"


@_fault("under-voltage before", "warning", "was too low since boot", "dmesg")
def _(machine: Machine) -> None:
    machine.outputs["vcgencmd get_throttled"] = "throttled=0x50000"


@_fault("hot", "warning", "throttled by heat (83 °C)", "watch -n 2 vcgencmd measure_temp")
def _(machine: Machine) -> None:
    machine.outputs["vcgencmd get_throttled"] = "throttled=0x40004"
    machine.write({"/sys/class/thermal/thermal_zone0/temp": "83000"})


@_fault("nearly hot", "warning", "at 78 °C, and is throttled at 80 °C", "watch -n 2")
def _(machine: Machine) -> None:
    machine.write({"/sys/class/thermal/thermal_zone0/temp": "78000"})


@_fault("was hot", "warning", "was throttled by heat since boot", "watch -n 2")
def _(machine: Machine) -> None:
    machine.outputs["vcgencmd get_throttled"] = "throttled=0x80000"


@_fault("powersave", "warning", "the governor is powersave", "echo ondemand | sudo tee")
def _(machine: Machine) -> None:
    machine.write({"/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave"})


@_fault("memory", "warning", "of 3978 MB of memory are available", "ps -eo rss,comm")
def _(machine: Machine) -> None:
    machine.memory(total=3884360, available=90000, swap=524284, swap_free=524284)


@_fault("no swap", "note", "437 MB of memory and no swap", "swapon /swapfile")
def _(machine: Machine) -> None:
    machine.memory(total=426484, available=300000, swap=0, swap_free=0)


@_fault("swapping", "warning", "410 MB are swapped out", "ps -eo rss,comm")
def _(machine: Machine) -> None:
    machine.memory(total=926484, available=200000, swap=500000, swap_free=100000)


@_fault("read-only disk", "warning", "read-only file system (/data)", "mount -o remount,rw /data")
def _(machine: Machine) -> None:
    machine.disk = Disk(Path("/data/edgecls"), 9_000_000_000, None, errno.EROFS)


@_fault("full disk", "warning", "12 MB are free in /home/pi", "sudo du -xh / | sort -h | tail")
def _(machine: Machine) -> None:
    machine.disk = Disk(Path("/home/pi"), 12_000_000, 18.0, 0)


@_fault(
    "folder of another", "warning", "pi may not write in /var/lib", "sudo install -d -o pi /home"
)
def _(machine: Machine) -> None:
    machine.disk = Disk(Path("/var/lib"), 9_000_000_000, None, errno.EACCES)


@_fault(
    "slow disk",
    "warning",
    "the disk of /home/pi writes 0.3 MB a second",
    "sudo dmesg | grep -iE 'mmc",
)
def _(machine: Machine) -> None:
    machine.disk = Disk(Path("/home/pi"), 9_000_000_000, 0.31, 0)


@_fault("clock never set", "error", "the clock is at 1970-01-01", "sudo timedatectl set-ntp true")
def _(machine: Machine) -> None:
    machine.now = datetime(1970, 1, 1, tzinfo=UTC)


@_fault(
    "nobody sets the clock",
    "warning",
    "clock synchronization is off",
    "sudo timedatectl set-ntp true",
)
def _(machine: Machine) -> None:
    machine.outputs["timedatectl"] = "NTP=no\nNTPSynchronized=no"


@_fault("no time server", "warning", "the clock is not synchronized", "timedatectl timesync-status")
def _(machine: Machine) -> None:
    machine.outputs["timedatectl"] = "NTP=yes\nNTPSynchronized=no"


def _unit(**changed: str) -> str:
    state = {
        "LoadState": "loaded",
        "ActiveState": "active",
        "SubState": "running",
        "UnitFileState": "enabled",
        "Result": "success",
        "NRestarts": "0",
        "ExecMainStatus": "0",
    }
    return "\n".join(f"{key}={value}" for key, value in (state | changed).items())


@_fault("failed unit", "error", "has failed: exit code 5, a package", "journalctl -u edgecls -n 50")
def _(machine: Machine) -> None:
    machine.outputs["systemctl"] = _unit(
        ActiveState="failed", SubState="failed", Result="exit-code", ExecMainStatus="5"
    )


@_fault(
    "bad unit", "error", "cannot start: systemd cannot read the unit (bad-", "systemd-analyze v"
)
def _(machine: Machine) -> None:
    machine.outputs["systemctl"] = _unit(LoadState="bad-setting", ActiveState="inactive")


@_fault("restarts", "warning", "restarted 41 times: exit code 6, the camera was", "journalctl -u")
def _(machine: Machine) -> None:
    machine.outputs["systemctl"] = _unit(
        ActiveState="activating",
        SubState="auto-restart",
        Result="exit-code",
        NRestarts="41",
        ExecMainStatus="6",
    )


@_fault("stopped unit", "warning", "edgecls is installed and stopped", "systemctl start edgecls")
def _(machine: Machine) -> None:
    machine.outputs["systemctl"] = _unit(ActiveState="inactive", SubState="dead")


@_fault("unit not enabled", "warning", "is not enabled at boot", "systemctl enable edgecls")
def _(machine: Machine) -> None:
    machine.outputs["systemctl"] = _unit(UnitFileState="disabled")


@_fault("no paho-mqtt", "error", "needs the package paho-mqtt", "pip install 'edgecls[mqtt]'")
def _(machine: Machine) -> None:
    del machine.distributions["paho-mqtt"]
    machine.asked = DoctorOptions(mqtt="mqtt://127.0.0.1:1")


@_fault("no model file", "error", "absent.tflite", "ls -l ")
def _(machine: Machine) -> None:
    machine.asked = DoctorOptions(models=(machine.root / "absent.tflite",))


@_fault("no model", "error", "picture.tflite", "sha256sum ")
def _(machine: Machine) -> None:
    machine.write({"/picture.tflite": "This is no model."})
    machine.asked = DoctorOptions(models=(machine.root / "picture.tflite",))


@pytest.mark.parametrize("name", _FAULTS)
def test_a_fault_is_one_finding_with_one_command(machine: Machine, name: str) -> None:
    change, severity, what, fix = _FAULTS[name]
    change(machine)
    found = machine.faults()
    assert len(found) == 1, found
    assert found[0].severity == severity
    assert what in found[0].what
    assert found[0].why
    assert found[0].fix is not None
    assert fix in found[0].fix
    assert "\n" not in found[0].fix


def test_there_are_many_faults() -> None:
    assert len(_FAULTS) >= 60


@pytest.mark.parametrize("name", _FAULTS)
def test_every_command_is_one_that_a_shell_can_read(machine: Machine, name: str) -> None:
    _FAULTS[name][0](machine)
    (finding,) = machine.faults()
    assert finding.fix is not None
    checked = subprocess.run(["sh", "-n", "-c", finding.fix], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_the_library_has_one_name() -> None:
    assert coral.LIBRARY == edgetpu.LIBRARY


def test_an_emulated_machine_is_told(machine: Machine) -> None:
    machine.write({"/proc/cpuinfo": "processor : 0\nvendor_id : GenuineIntel\n"})
    (finding,) = machine.faults()
    assert (finding.severity, finding.fix) == ("note", None)
    assert "emulated" in finding.what


def test_our_own_program_at_the_camera_is_fine(machine: Machine) -> None:
    machine.link("/proc/77/fd/5", "/dev/video0")
    machine.write({"/proc/77/cmdline": "/usr/bin/python3\0/opt/edgecls/bin/edgecls\0run\0"})
    assert machine.faults() == []
    assert any("in use by edgecls (process 77)" in f.what for f in examine(machine.context()))


def test_a_service_that_runs_is_fine(machine: Machine) -> None:
    machine.outputs["systemctl"] = _unit()
    assert machine.faults() == []
    assert "the service edgecls is running" in [f.what for f in examine(machine.context())]


def test_intel_pstate_calls_the_following_clock_powersave(machine: Machine) -> None:
    folder = "/sys/devices/system/cpu/cpu0/cpufreq"
    machine.write(
        {f"{folder}/scaling_governor": "powersave", f"{folder}/scaling_driver": "intel_pstate"}
    )
    assert machine.faults() == []


def test_on_other_machines_nobody_asks_for_picamera2(machine: Machine) -> None:
    machine.write({"/proc/device-tree/model": "Radxa ROCK 5B"})
    machine.remove(_LIBCAMERA)
    machine.modules["picamera2"] = _absent("picamera2")
    del machine.outputs["rpicam-hello --list-cameras"]
    assert machine.faults() == []


def test_a_spool_that_is_needed_makes_an_error_of_the_disk(machine: Machine) -> None:
    machine.asked = DoctorOptions(mqtt="mqtt://127.0.0.1:1", folder=Path("/data"))
    machine.disk = Disk(Path("/data"), 9_000_000_000, None, errno.EROFS)
    assert "error" in [f.severity for f in machine.faults() if "read-only" in f.what]


def test_an_empty_machine_says_little_and_breaks_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    for file in [path for path in tmp_path.rglob("*") if path.is_file()]:
        file.unlink()
    machine.outputs.clear()
    machine.modules["picamera2"] = _absent("picamera2")
    assert [f.what for f in machine.faults()] == ["there is no camera (no /dev/video0)"]


@pytest.mark.parametrize(
    "text", ["", "\0", "x=y", "-1", "é" * 500, "a b\n" * 30, "99999999999999999999"]
)
def test_strange_files_break_no_check(machine: Machine, text: str) -> None:
    machine.write(dict.fromkeys([*_FILES, *_CORAL, *_CARD, "/proc/5/cmdline"], text))
    machine.outputs = dict.fromkeys(_OUTPUTS, text)
    assert [f for f in machine.faults() if "failed" in f.what] == []


def test_a_check_that_fails_is_a_finding_itself(machine: Machine) -> None:
    def crooked(_: Context) -> list[Finding]:
        raise KeyError("gone")

    found = examine(machine.context(), (crooked, *CHECKS))  # type: ignore[arg-type]
    (failed,) = [f for f in found if f.severity != "ok"]
    assert "crooked failed (KeyError: 'gone')" in failed.what
    assert failed.fix == "edgecls -vv doctor"


def test_the_gravest_come_first(machine: Machine) -> None:
    machine.now = datetime(1970, 1, 1, tzinfo=UTC)
    machine.outputs["rpicam-hello --list-cameras"] = "No cameras available!"
    machine.version = (3, 14, 0)
    order = [SEVERITIES.index(f.severity) for f in examine(machine.context())]
    assert order == sorted(order)
    assert order[0] == 0
    assert order[-1] == 3
