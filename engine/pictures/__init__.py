"""Pictures of pixels on terminals that can show them: the two protocols, and asking a terminal which it speaks.

What was rejected: textual-image, which is LGPL and asks the terminal at import for up to half a second.
"""
