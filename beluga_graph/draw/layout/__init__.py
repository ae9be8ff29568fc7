"""Layout: the position of every box, line and label of a picture.

layout     frames inside frames
levels     one frame: bands and routes
ordering   one frame: the order within ranks, and coordinates
ranks      one frame: the rank of each node, and the path of each edge
"""
