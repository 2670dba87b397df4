"""English words that say nothing of what is asked for, or of what is ruled out."""

from __future__ import annotations

_ASKING = """
a about after all also am an and any anything are as at be been before best but by can could do does else find for from get give good great
had has have hello hi how i if in is it its just kind know let like looking love me more movie movies film films book books item items
product products my need new not of on one ones or other others out please recommend recommendation recommendations see show so some
something somewhat suggest than that the them then there these they thing things think this those time to today tonight try us very want
was watch we what when where which who will with would you your
no nor never nothing none without except avoid only under below over above less least most after older newer shorter longer must hate
dislike don can cannot won hour hours minute minutes instead rather maybe perhaps thanks thank yes okay ok tell again another different else
"""
_RULING_OUT = """
and any bad better both even good idea like long longer many more much need new nor not now old older one ones or other others please
problem really shorter show some something sure thank thanks that the these thing things this those too very want what with you
"""

REQUEST_WORDS = frozenset(_ASKING.split())
"""Of "I would like a good comedy", all but the last."""

EMPTY_WORDS = frozenset(_RULING_OUT.split())
"""What "no", "not" and "without" rule out nothing with: "not too long", "no more"."""
