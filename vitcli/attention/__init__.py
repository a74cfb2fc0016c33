"""Attribution: compute which patches a prediction depends on. Pure tensor functions.

Shapes: L layers, B images, H heads, N tokens; h x w patch grid.
"""
