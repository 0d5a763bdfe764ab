"""The OpenAI-compatible door: models behind ``/v1``, for programs that speak that protocol already.

``app`` puts it together; ``guard`` says who may ask and reads what is sent; ``parameters`` makes requests of it;
``chat`` and ``completions`` answer in OpenAI's shapes, whose common parts ``shapes`` and ``spelling`` have; ``flow``
carries events from the threads that wait for models to the connections that wait for text; ``connections`` closes those
that ask nothing and bounds all and those of one address, ``crowd`` bounds what is answered to one at the same time,
``room`` has both for a server; ``operations`` tells whoever runs it how it is. No gradio here, and no models: the
service has them.

Door:
    app: create_api
    beside: Beside
    crowd: RETRY_S
    operations: Operations
    room: Room
    serving: END_IN_ALL_S, bound, opened, serve
"""
