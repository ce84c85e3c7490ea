"""FreeU for ComfyUI: the operators of the package freeu as nodes.

ComfyUI loads this folder as a custom node and calls ``comfy_entrypoint``. ``logic`` holds what does not need ComfyUI,
``nodes`` the nodes themselves.
"""

from .nodes import comfy_entrypoint

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
