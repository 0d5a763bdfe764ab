"""The OpenAI-compatible door: models behind ``/v1``, for programs that speak that protocol already.

``app`` puts it together; ``guard`` says who may ask and reads what is sent; ``parameters`` makes requests of it;
``chat`` and ``completions`` answer in OpenAI's shapes, whose common parts ``shapes`` and ``spelling`` have; ``flow``
carries events from the threads that wait for models to the connections that wait for text; ``connections`` closes those
that ask nothing and bounds those of one address, ``crowd`` bounds what is answered to one at the same time;
``operations`` tells whoever runs the server how it is. No gradio here, and no models: the service has them.

Door:
    app: create_api
    beside: Beside
    connections: bounded
    crowd: Crowd, RETRY_S
    operations: Operations
    serving: END_IN_ALL_S, allow, bound, opened, serve
"""
