"""Records as HTML, for the page: pure functions that import no gradio.

Whatever a model, a card or a visitor wrote, and every message, passes through ``format.esc``: it makes text safe, and
says messages in the reader's language. Figures pass through the other functions of ``format``.
"""
