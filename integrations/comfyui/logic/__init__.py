"""What the nodes do, without ComfyUI's own modules: it is given the objects of the core and imports nothing of it."""
