"""README's block "On the Pi" on an emulated board: the very lines, in their order, in one home.

The board has what the block expects before its first line: Debian's own pip, a home of mode 0700
(Debian's default since 12), a model, pictures, and scores from the workstation. Three stand-ins:

- `sudo`, since the namespace's user is root already;
- `apt`, since the root was made with the Debian packages that the block names, see
  `debian_packages`;
- picamera2, which Raspberry Pi's archive has and Debian's has not. It lies where apt puts it, and
  needs apt's numpy, so that an environment which cannot see apt's packages fails.
"""

from __future__ import annotations

import re
import shlex
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.device.processes import BoardError, call, failure

_ROOT = Path(__file__).parents[2]
HOME = "/home/pi"
# Of Raspberry Pi's own archive, and what Debian's offers of what it depends on.
_PI_PACKAGES = {"python3-picamera2": ("python3-numpy",)}
_WHEELS = "/opt/wheels-under-test"
_GATE_FAILED = 3  # of an emulator's latencies, which are not valid
_FRAMES = 20  # a camera has no end
_INDEX_KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")
_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"  # where Debian's pip looks


def block(heading: str = "On the Pi", document: str = "README.md") -> list[str]:
    """The commands of the first block under a heading, comments left out.

    Raises:
        BoardError: there is no such heading, or no block under it.
    """
    text = (_ROOT / document).read_text("utf-8")
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)^```\n(.*?)^```$", text, re.M | re.S)
    if found is None or re.search(r"^## ", found[1], re.M):
        raise BoardError(f"{document} has no block under “{heading}”")
    return [words for line in found[2].splitlines() if (words := line.partition("#")[0].strip())]


def debian_packages(lines: list[str]) -> list[str]:
    """What the lines install with apt, as Debian has it."""
    wanted = [
        word
        for line in lines
        if re.match(r"(sudo )?apt(-get)? install ", line)
        for word in shlex.split(line.partition("install ")[2])
        if not word.startswith("-")
    ]
    return [name for word in wanted for name in _PI_PACKAGES.get(word, (word,))]


def expected_status(line: str) -> tuple[str, int]:
    """The command as it is run under emulation, and the exit status that it has to have."""
    words = shlex.split(line)
    if words[:2] == ["edgecls", "run"] and "--camera" in words:
        return f"{line} --limit {_FRAMES}", 0
    return line, _GATE_FAILED if words[:2] == ["edgecls", "bench"] else 0


def furnish(root: Path, wheel: Path, scores: Path) -> None:
    """Puts into the root what the block expects to be there.

    Args:
        root: of the board.
        wheel: of this checkout, which pip takes for ``edgecls``.
        scores: as ``edgecls build`` saves them.
    """
    home = root / HOME.lstrip("/")
    home.mkdir(parents=True)
    home.chmod(0o700)
    golden = _ROOT / "tests/golden"
    shutil.copy(golden / "digits_int8.tflite", home / "edge-mobilenet_int8.tflite")
    shutil.copy(scores, home / "reference_scores.npz")
    shutil.copytree(golden / "digits", home / "photos")
    shutil.copy(next((golden / "digits/7").glob("*.png")), home / "photo.jpg")
    wheels = root / _WHEELS.lstrip("/")
    wheels.mkdir()
    shutil.copy(wheel, wheels)
    _let_pip_out(root, wheel.name.split("-")[1])
    _script(root / "usr/local/bin/sudo", 'exec "$@"')
    # What the block installs with apt came with the root, see `debian_packages`.
    _script(root / "usr/local/bin/apt", ":")
    _blas(root)
    _picamera2(root / "usr/lib/python3/dist-packages")


Shell = Callable[[str, dict[str, str]], "subprocess.CompletedProcess[str]"]
_ENVIRONMENT = {
    "BOARD_HOME": HOME,
    "BOARD_FOLDER": HOME,
    "BOARD_PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin",
    "BOARD_WITH_NETWORK": "yes",
}


def run(root: Path, lines: list[str], shell: Shell) -> list[str]:
    """Runs each line in its home; what to read about each.

    Args:
        root: of the board.
        lines: of the block.
        shell: runs a command on the board, with variables for ``enter.sh``.

    Raises:
        BoardError: one has another exit status than it has to have, the camera is not seen, or the
            service is not in place at the end.
    """
    said = []
    for line in lines:
        command, status = expected_status(line)
        began = time.monotonic()
        done = shell(command, _ENVIRONMENT)
        if done.returncode != status:
            raise BoardError(f"“{line}” should have exited {status}: {failure(done)}")
        if command != line and "picamera:0" not in done.stdout + done.stderr:
            raise BoardError(f"“{line}” saw no camera: {failure(done)}")
        said.append(f"{time.monotonic() - began:6.1f} s  exit {status}  {line}")
    units = root / "etc/systemd/system"
    # The link points within the root, so that seen from here it points nowhere.
    links = [folder / "edgecls.service" for folder in units.glob("*.wants")]
    if not (units / "edgecls.service").is_file() or not any(link.is_symlink() for link in links):
        raise BoardError("the service is not in place, or does not start with the board")
    return said


def _let_pip_out(root: Path, version: str) -> None:
    """This machine's way to the package index, and the wheel under test beside it."""
    (root / "opt/constraints.txt").write_text(f"edgecls=={version}\n")
    lines = ["[global]", "constraint = /opt/constraints.txt", f"find-links = {_WHEELS}"]
    listed = call(sys.executable, "-m", "pip", "config", "list").stdout
    settings = dict(re.findall(r"^[^=]*\.([a-z-]+)='(.*)'$", listed, re.MULTILINE))
    for key in _INDEX_KEYS:
        remote = [word for word in settings.get(key, "").split() if not word.startswith("file:")]
        if remote:
            lines.append(f"{key} = {' '.join(remote)}")
    (root / "etc/pip.conf").write_text("\n".join(lines) + "\n")
    certificates = root / _CERTIFICATES
    certificates.parent.mkdir(parents=True, exist_ok=True)
    there = settings.get("cert") or ssl.get_default_verify_paths().cafile
    if there is not None:
        shutil.copy(there, certificates)


def _script(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def _blas(root: Path) -> None:
    """What Debian's alternatives would have linked: apt's numpy needs it."""
    for library in (root / "usr/lib/aarch64-linux-gnu").glob("*/lib*.so.3"):
        link = library.parents[1] / library.name
        if library.parent.name in ("blas", "lapack") and not link.exists():
            link.symlink_to(library.relative_to(link.parent))


def _picamera2(packages: Path) -> None:
    (packages / "libcamera").mkdir(parents=True)
    (packages / "libcamera/__init__.py").touch()
    folder = packages / "picamera2"
    folder.mkdir()
    shutil.copy(_ROOT / "tests/unit/sources/fake_picamera2.py", folder / "fake.py")
    (folder / "__init__.py").write_text(
        "import libcamera\n"
        "import simplejpeg  # which the extra [pi] brings\n"
        "from picamera2.fake import IMX708, Picamera2, modes\n"
        'Picamera2.cameras = [{"Num": 0, "Model": "imx708", "Location": 2, "Rotation": 180, "Id": "x"}]\n'
        "Picamera2.modes = modes(IMX708)\n"
    )
