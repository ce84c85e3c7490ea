"""What the extension does, without the web UI's own modules: it is given the objects of the host and imports none."""
