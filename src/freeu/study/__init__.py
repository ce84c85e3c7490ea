"""A blind preference study: plan <- store <- statistics <- results <- web; media beside plan.

Imports images and manifests of pipelines; loads no model.
"""

from freeu.extras import need

need("study", "numpy", "scipy", "PIL", "sqlalchemy", "pydantic")
