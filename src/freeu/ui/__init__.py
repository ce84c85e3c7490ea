"""The studio: FreeU's settings under sliders, the same image without and with it beside each other.

studio.py  generates pairs and remembers baselines; knows nothing of the web
page.py    the page, with Gradio
"""
