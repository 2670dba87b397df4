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
about all and any anybody anyone anything bad because been before better bought both even ever everything find for from good had have heard
idea into just like long longer many more much need new nor not now old older one ones only or other others please problem read really seen
shorter show since some something such sure than thank thanks that the their them then there these they thing things this those too tried
very want watched what when where which who with would yet you your
"""

REQUEST_WORDS = frozenset(_ASKING.split())
"""Of "I would like a good comedy", all but the last."""

EMPTY_WORDS = frozenset(_RULING_OUT.split())
"""What "no", "not" and "without" rule out nothing with: "not too long", "no more"."""
