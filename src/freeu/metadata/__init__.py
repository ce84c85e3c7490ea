"""Settings inside files: what an image or a JSON file says of how it was made, in the dialect of each tool.

    import freeu
    found = freeu.metadata.read("somebodys.png")
    found.prompt, found.seed, found.config
    freeu.metadata.write("mine.png", "sdxl", dialect="forge", output="copy.png")

Nothing in a file is ever evaluated or run. Damaged and hostile files end in one ``FreeUValueError``.
"""

from freeu.metadata.png import (
    FRAME_MS as FRAME_MS,
)
from freeu.metadata.png import (
    KEY as KEY,
)
from freeu.metadata.png import (
    SCHEMA as SCHEMA,
)
from freeu.metadata.png import (
    find_settings as find_settings,
)
from freeu.metadata.png import (
    png_bytes as png_bytes,
)
from freeu.metadata.png import (
    read_graph_of as read_graph_of,
)
from freeu.metadata.png import (
    read_parameters_of as read_parameters_of,
)
from freeu.metadata.png import (
    read_png as read_png,
)
from freeu.metadata.reading import DIALECTS, Metadata, read
from freeu.metadata.writing import write

__all__ = ["DIALECTS", "Metadata", "read", "write"]
