"""The tabs of the page, and the form above them: a module each, with its components and their events.

Each has ``build``, which draws it; where events belong to it alone, ``connect`` says what they do. A tab asks the
service and hands what it gets to ``ui.html``.
"""
