"""Attribution: which patches a prediction rests on. Pure tensor functions.

Shapes: L layers, B images, H heads, N tokens; h x w patch grid.
"""
