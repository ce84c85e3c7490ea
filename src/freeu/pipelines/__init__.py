"""From a prompt to pictures: find and load a model, make pictures with and without FreeU, and write them down.

sources.py   which model is meant (nothing heavy is imported, so a wrong name fails at once)
loading.py   load it with diffusers
plan.py      everything that decides the pictures, as one value
run.py       plan -> pictures, one pipeline call each
manifest.py  what was made, with what; reproduced by ``freeu generate --from``
grid.py, page.py   the labelled grid and the page with sliders
check.py     prove FreeU on the user's own model and machine
"""
