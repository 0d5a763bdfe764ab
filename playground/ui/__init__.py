"""The web page and its HTTP API: the only package that imports gradio. ``app.main`` is the way in.

``app`` reads options and starts and ends everything; ``page`` draws the page and says which event does what; ``api``
has the endpoints for programs. ``tabs/`` has a module for each tab, with components and events; ``html/`` makes HTML of
records and knows no gradio. ``middleware`` and ``hosts`` decide which requests get in, ``offered`` which models a
visitor may name. ``jobs`` follows whatever is running, ``sessions`` knows to whom it belongs, ``i18n`` says messages in
the reader's language. Everything else is asked of the service: nothing here knows SQLite, torch or a model's file.

Door:
    app: main
"""
