"""The playground for agents: comparing, inspecting, cards, choosing and suites as tools of the Model Context Protocol.

A front end like the page and the terminal: every tool is a use case of ``service.Playground`` with typed, bounded
arguments, told progress, a way to take it back, and an answer with the receipts of its figures. The protocol is that of
the official package ``mcp``, an extra: nothing else of the product imports this package, and only ``serving`` and
``server`` load that one. https://modelcontextprotocol.io/specification

Door:
    serving: PATH, opened, serve_stdio
"""
