"""The chosen artifact as a folder that onnxruntime-genai runs without this product: the very bytes that were measured,
tried once before they leave, with receipts, the model's card, its licence and an example.

It knows artifacts and what must go with a model that is passed on. It does not know how an artifact is made, and
measures nothing but the one trial: figures come to it from whoever asks.

Door:
    example: question_of
    folder: Shipped, cannot_ship, check_target, ship
    push: Pushed, Pushing, cannot_push, push
    shipment: Known, Shipment
    trying: TOKENS
"""
