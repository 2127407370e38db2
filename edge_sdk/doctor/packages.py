"""What every use needs beside an interpreter: numpy, OpenCV, flatbuffers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edge_sdk.device.doctor.context import Context
from edge_sdk.doctor.findings import Finding
from edge_sdk.doctor.loading import remedy

# All four put their files into the same folder cv2.
_OPENCVS = (
    "opencv-python-headless",
    "opencv-python",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
_HEADLESS = "'opencv-python-headless>=4.11,<6'"
_OLDEST_OPENCV, _SAFE_OPENCV = (4, 11), (4, 12)
# Libraries of a desktop, which a board's system often lacks.
_DESKTOP = re.compile(r"lib(GL|EGL|gthread|glib|SM|ICE|X\w+|xcb|Qt\w*)[-.\w]*\.so")
_FLATBUFFERS = "'flatbuffers>=23.5,<26'"


def numpy(context: Context) -> Iterator[Finding]:
    """Whether numpy loads."""
    loaded = context.load("numpy")
    why = "pictures and tensors are its arrays"
    if loaded.missing == "numpy":
        fix = context.pip("install 'numpy>=1.26,<3'")
        yield Finding("error", "numpy is not installed", why, fix)
    elif loaded.problem is not None:
        cause, fix = remedy(
            loaded.problem, context.pip("install --force-reinstall --no-cache-dir 'numpy>=1.26,<3'")
        )
        yield Finding("error", f"numpy does not load: {loaded.problem}", f"{why}; {cause}", fix)
    else:
        yield Finding("ok", f"numpy {loaded.version} loads", why)


def opencv(context: Context) -> Iterator[Finding]:
    """Whether OpenCV loads, is new enough, and is there once."""
    loaded, why = context.load("cv2"), "pictures are read, resized and captured with it"
    installed = [name for name in _OPENCVS if context.distribution(name) is not None]
    anew = context.pip(f"install --force-reinstall {_HEADLESS}")
    if others := [name for name in installed if name != _OPENCVS[0]]:
        removed = context.pip(f"uninstall -y {' '.join(others)}")
        anew = f"{removed} && {anew}"
    if loaded.missing == "cv2":
        fix = context.pip(f"install {_HEADLESS}")
        yield Finding("error", "OpenCV is not installed", why, fix)
    elif loaded.problem is not None and _DESKTOP.search(loaded.problem):
        yield Finding(
            "error",
            f"OpenCV does not load: {loaded.problem}",
            f"{why}; this OpenCV has windows and needs a desktop's libraries, the headless one does not",
            anew,
        )
    elif loaded.problem is not None:
        cause, fix = remedy(loaded.problem, anew)
        yield Finding("error", f"OpenCV does not load: {loaded.problem}", f"{why}; {cause}", fix)
    elif loaded.version is None:
        yield Finding(
            "error",
            "OpenCV is an empty folder",
            f"{why}; one of two OpenCV packages was removed, and took the files of both",
            anew,
        )
    elif _numbers(loaded.version) < _OLDEST_OPENCV:
        yield Finding(
            "error",
            f"OpenCV {loaded.version}, older than 4.11",
            f"{why}; 4.11 is the first that decodes straight to RGB",
            anew,
        )
    elif _numbers(loaded.version) < _SAFE_OPENCV:
        yield Finding(
            "warning",
            f"OpenCV {loaded.version}, older than 4.12",
            "a crafted JPEG can make it write where it should not (CVE-2025-53644); 4.12 needs numpy 2, "
            "which tflite-runtime does not know: read pictures of your own only, or use LiteRT",
            context.pip("install --upgrade 'opencv-python-headless>=4.12,<6' 'numpy>=2,<3'"),
        )
    elif len(installed) > 1:
        yield Finding(
            "warning",
            f"several OpenCV packages at once: {', '.join(sorted(installed))}",
            "they overwrite each other's files in cv2: which one works is chance, and removing one "
            "breaks the other",
            anew,
        )
    else:
        yield Finding("ok", f"OpenCV {loaded.version} loads", why)


def flatbuffers(context: Context) -> Iterator[Finding]:
    """Whether flatbuffers loads."""
    loaded, why = context.load("flatbuffers"), "model files are read with it"
    if loaded.missing == "flatbuffers":
        fix = context.pip(f"install {_FLATBUFFERS}")
        yield Finding("error", "flatbuffers is not installed", why, fix)
    elif loaded.problem is not None:
        cause, fix = remedy(
            loaded.problem, context.pip(f"install --force-reinstall {_FLATBUFFERS}")
        )
        what = f"flatbuffers does not load: {loaded.problem}"
        yield Finding("error", what, f"{why}; {cause}", fix)


def broken(context: Context) -> str | None:
    """What our own code imports and does not load here, which may even end the process; else None."""
    for module in ("numpy", "cv2", "flatbuffers"):
        loaded = context.load(module)
        if loaded.problem is not None or loaded.version is None:
            return module
    return None


def left_out(what: str, package: str) -> Finding:
    """Something that cannot be looked at without that package."""
    why = f"that needs {package}, which does not load; mend that first"
    return Finding("note", f"{what}: not looked at", why, None)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
