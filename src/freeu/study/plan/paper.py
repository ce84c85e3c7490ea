"""The votes that the paper reports, for comparison with the results of a study."""

from __future__ import annotations

from typing import Any

PAPER: dict[str, Any] = {
    "source": "Si et al., FreeU: Free Lunch in Diffusion U-Net, CVPR 2024 (arXiv:2309.11497)",
    "tables": [
        {
            "table": 1,
            "media": "image",
            "rows": ["SD", "SD + FreeU"],
            "raters": 120,
            "shares": {"alignment": [0.1542, 0.8458], "quality": [0.1373, 0.8627]},
            "first_version": {
                "raters": 35,
                "shares": {"alignment": [0.1412, 0.8588], "quality": [0.1466, 0.8534]},
            },
        },
        {
            "table": 2,
            "media": "video",
            "rows": ["ModelScope", "ModelScope + FreeU"],
            "raters": 120,
            "shares": {"alignment": [0.1532, 0.8468], "quality": [0.1425, 0.8575]},
            "first_version": {
                "raters": 35,
                "shares": {"alignment": [0.1529, 0.8471], "quality": [0.1433, 0.8567]},
            },
        },
    ],
}
"""Tables 1 (text-to-image) and 2 (text-to-video): for each question the shares of votes without and with FreeU, 0..1.
The paper reports neither confidence intervals nor the number of votes nor the exclusion of raters or prompts."""
