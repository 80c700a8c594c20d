"""``embodied-mem doctor``: what is installed, what is usable, and the exact command that adds the rest."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import typer

from embodied_mem.cli.output import emit_rows
from embodied_mem.data import VARIABLE, data_folder

DISTRIBUTION = "embodied-mem"
GL_PACKAGES = "libegl1 libegl-mesa0 libgl1-mesa-dri libosmesa6 libglu1-mesa"
_GL_PROBE = (
    "import ctypes.util, sys; sys.exit(0 if ctypes.util.find_library('EGL') and ctypes.util.find_library('GL') else 1)"
)


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str
    usable: bool
    detail: str
    add: str


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command()
    def doctor(as_json: bool = typer.Option(False, "--json", help="Print one JSON array.")) -> None:
        """Say what is installed, what is usable, and the command that adds the rest."""
        emit_rows([asdict(finding) for finding in examine()], as_json, title="embodied-mem doctor")


def examine() -> list[Finding]:
    """Return every finding: core, GPU, Triton, GL, data, weights, and each extra."""
    return [_core(), _gpu(), _triton(), _gl(), _ffmpeg(), _data(), *_extras()]


def _core() -> Finding:
    versions = []
    for name in (
        "torch",
        "ray",
        "gymnasium",
        "numpy",
        "numba",
        "opencv-python",
        "open_clip_torch",
        "diffusers",
        "ai2thor",
    ):
        version = _version(name)
        versions.append(f"{name} {version or 'MISSING'}")
    missing = [item.split()[0] for item in versions if item.endswith("MISSING")]
    add = (f"pip install {DISTRIBUTION}" if _version(DISTRIBUTION) else "pip install -e .") if missing else ""
    return Finding("core", not missing, f"python {sys.version.split()[0]}; " + ", ".join(versions), add)


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("gpu", True, f"{torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}", "")
    built = f"torch is built with CUDA {torch.version.cuda}" if torch.version.cuda else "torch is a CPU build"
    return Finding(
        "gpu", False, f"no CUDA device ({built}); everything runs on the CPU", "attach an NVIDIA GPU with its driver"
    )


def _triton() -> Finding:
    version = _version("triton")
    if version is None:
        return Finding("triton", False, "not installed; reference kernels are used", "pip install triton")
    import torch

    usable = torch.cuda.is_available()
    detail = f"triton {version}" + ("" if usable else "; needs a GPU to run, interpreter works on the CPU")
    return Finding("triton", usable, detail, "" if usable else "attach an NVIDIA GPU with its driver")


def _gl() -> Finding:
    probe = subprocess.run([sys.executable, "-c", _GL_PROBE], capture_output=True)
    usable = probe.returncode == 0
    detail = (
        "EGL and GL libraries found"
        if usable
        else "no EGL/GL libraries; only MiniWorld, MuJoCo and SAPIEN pictures need them"
    )
    return Finding("gl", usable, detail, "" if usable else f"apt-get install {GL_PACKAGES}")


def _ffmpeg() -> Finding:
    import cv2

    lines = cv2.getBuildInformation().splitlines()
    usable = any("FFMPEG" in line and "YES" in line for line in lines)
    found = "OpenCV reads and writes video through FFMPEG" if usable else "this OpenCV build has no FFMPEG"
    tool = shutil.which("ffmpeg")
    return Finding(
        "video codecs",
        usable,
        found + (f"; ffmpeg at {tool}" if tool else ""),
        "" if usable else "pip install opencv-python",
    )


def _data() -> Finding:
    folder = data_folder()
    if folder is not None and folder.is_dir():
        parts = ", ".join(sorted(item.name for item in folder.iterdir()))
        return Finding("data", True, f"{folder}: {parts}", "")
    detail = f"{VARIABLE} is not set; data tests are skipped" if folder is None else f"{VARIABLE}={folder} is no folder"
    return Finding("data", False, detail, f"export {VARIABLE}=FOLDER (see the README, section Data)")


def extras() -> dict[str, list[str]] | None:
    """Return the distributions that each extra asks for on this machine; None where the package is not installed."""
    from packaging.requirements import Requirement

    try:
        texts = importlib.metadata.requires(DISTRIBUTION) or []
        names = importlib.metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    parts = [item for item in map(Requirement, texts) if item.marker and not item.marker.evaluate({"extra": ""})]

    def wanted(extra: str) -> list[str]:
        found: list[str] = []
        for item in parts:
            if item.marker and item.marker.evaluate({"extra": extra}):
                own = item.name.replace("_", "-") == DISTRIBUTION
                found += [name for other in sorted(item.extras) for name in wanted(other)] if own else [item.name]
        return list(dict.fromkeys(found))

    return {name: wanted(name) for name in names}


def _extras() -> list[Finding]:
    found = extras()
    if found is None:
        detail = f"{DISTRIBUTION} is not installed (it runs from a folder), so its extras are not known"
        return [Finding("extras", False, detail, "pip install -e .")]
    return [_extra(name, wanted) for name, wanted in found.items()]


def _extra(name: str, wanted: Sequence[str]) -> Finding:
    versions = {dist: _version(dist) for dist in wanted}
    missing = sorted(dist for dist, version in versions.items() if version is None)
    detail = ", ".join(f"{dist} {version}" for dist, version in versions.items() if version is not None)
    if missing:
        detail = (detail + "; " if detail else "") + "missing: " + ", ".join(missing)
    return Finding(f"extra {name}", not missing, detail, f"pip install '{DISTRIBUTION}[{name}]'" if missing else "")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
