"""From a prompt to images and videos: find and load a model, generate without and with FreeU, and record what was made.

io      files in and out
models  found, loaded, with LoRAs, embeddings and ControlNets
runs    request -> plan -> run -> manifest; reproduced by ``freeu generate --from``
video   the same for videos
pages   what people open: grids, strips, comparison pages
sweep   grids over any setting
check   FreeU proven on the user's own model and machine

Options become a request, a checked request becomes a plan, a plan becomes a run, a run leaves an output; nothing goes
back up.
"""
