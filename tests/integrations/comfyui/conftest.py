"""The node pack without ComfyUI, and ComfyUI's own core where FREEU_COMFYUI names its folder."""

import importlib
import importlib.util
import sys

import comfyui_model
import pytest

_LOGIC = "freeu_comfyui_logic"


@pytest.fixture(scope="session")
def logic():
    """Imports a module of the pack's ``logic`` by its name; nothing of ComfyUI is loaded."""
    if _LOGIC not in sys.modules:
        folder = comfyui_model.PACK / "logic"
        spec = importlib.util.spec_from_file_location(
            _LOGIC, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        module = sys.modules[_LOGIC] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return lambda name: importlib.import_module(f"{_LOGIC}.{name}")


@pytest.fixture(scope="session")
def nodes():
    """The core's module ``nodes``, with the pack loaded as the core loads it."""
    folder = comfyui_model.core_folder()
    if folder is None:
        pytest.skip("no ComfyUI: scripts/comfyui_core.py prepares one and prints the command to run these tests with")
    found = comfyui_model.load_core(folder)
    comfyui_model.load_pack(found)
    return found


@pytest.fixture(scope="session")
def model(nodes):
    """A small MODEL with the layout of Stable Diffusion 1.5."""
    return comfyui_model.small_model()


@pytest.fixture(scope="session")
def plain(model):
    """What the core's sampler makes of it without FreeU."""
    return comfyui_model.sampled(model)
