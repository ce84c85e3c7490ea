"""Named configurations with their source and operator version (``presets.toml``)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from freeu.config import FreeUConfig
from freeu.errors import FreeUValueError, shown, unknown_name


@dataclass(frozen=True)
class Preset:
    """A published configuration: ``config``, the model ``family`` it was published for, and the ``source``.

    ``measured`` says on which model we measured it and where the numbers stand; "" where it is published only.
    """

    name: str
    family: str
    source: str
    config: FreeUConfig
    measured: str = ""

    @property
    def evidence(self) -> str:
        """What speaks for it, in words."""
        return f"measured on {self.measured}" if self.measured else "published only"


class PresetTable(Mapping[str, Preset]):
    """All presets by name; printing it gives a table."""

    def __init__(self, items: dict[str, Preset]) -> None:
        self._items = items

    def __getitem__(self, name: str) -> Preset:
        try:
            return self._items[name]
        except KeyError:
            raise unknown_name("preset", name, self._items) from None

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __str__(self) -> str:
        width = max(map(len, self._items))
        rows = [
            f"{name:{width}}  {preset.config}  [{preset.family}; {preset.source}; {preset.evidence}]"
            for name, preset in self.items()
        ]
        return "\n".join(rows)

    __repr__ = __str__


@cache
def presets() -> PresetTable:
    """Every preset by name, in the order of the table.

    >>> "sd14" in presets(), presets()["sd14"].family
    (True, 'Stable Diffusion 1.4')
    """
    # Here, because most programs that import freeu never ask for a preset.
    if sys.version_info >= (3, 11):
        import tomllib
    else:  # pragma: no cover
        import tomli as tomllib

    with Path(__file__).with_name("presets.toml").open("rb") as file:
        data = tomllib.load(file)
    return PresetTable(
        {
            name: Preset(
                name=name,
                family=row["family"],
                source=row["source"],
                measured=row.get("measured", ""),
                config=FreeUConfig.from_dict({key: row[key] for key in row.keys() - {"family", "source", "measured"}}),
            )
            for name, row in data.items()
        }
    )


def preset(name: str) -> FreeUConfig:
    """The configuration of a preset.

    Raises:
        FreeUValueError: an unknown name, with the nearest ones.

    >>> str(preset("sdxl"))
    'b1=1.3 b2=1.4 s1=0.9 s2=0.2 v=2'
    """
    return presets()[name].config


def as_config(config: object) -> FreeUConfig:
    """What was handed in as a configuration: one, or the name of a preset.

    Raises:
        FreeUValueError: neither, or an unknown name.

    >>> as_config("sdxl") == preset("sdxl")
    True
    """
    if isinstance(config, FreeUConfig):
        return config
    if isinstance(config, str):
        return preset(config)
    raise FreeUValueError(f"expected a FreeUConfig or the name of a preset, got {shown(config)}")
