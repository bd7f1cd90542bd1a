"""What is called when something is committed where states have copies: it is answered then, and not before.

A token is called once, in the order in which packs were made, after the outputs of its pack have been given out. It is
told the slots that went to another owner meanwhile: what concerned them was not done, as far as this node is concerned.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeAlias

Token: TypeAlias = Callable[[Collection[int]], None]  # (slots that were withdrawn)
Wait: TypeAlias = Callable[[Collection[int], Token], None]  # until these slots are known to be this node's still
