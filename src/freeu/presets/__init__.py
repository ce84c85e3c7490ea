"""Settings by name: published ones, those in files of ``freeu tune``, and what is recommended for a model."""

from freeu.presets.named import Preset, PresetTable, as_config, preset, presets

__all__ = ["Preset", "PresetTable", "as_config", "preset", "presets"]
