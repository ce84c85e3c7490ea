"""The studio: FreeU's settings under sliders, the same image without and with it beside each other.

request.py   what a visitor asks for
models.py    the model in memory, in the forms that requests need
studio.py    generates pairs, and remembers images; pair.py is what comes out
actions.py   what the page does, without a web framework
texts.py     every text of the page, in English and Chinese
controls.py, results.py, page.py   the page, with Gradio
voting      votes between the two images, and the settings that a visitor likes best by them

None but controls.py, results.py, page.py and the panel of the votes know of the web.
"""
