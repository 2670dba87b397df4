"""The prompts of P5, in five families, in our own words.

`{who}` is a user known from training, "user_12", or somebody else: "someone", and where the rest of the prompt tells no history, what that person had.
So every prompt exists with and without a user's number, and an unseen user is asked about as one was in training. Items are written as the index
writes them. Each family holds out at least one template, which no training sees, to tell how much hangs on the words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Family = Literal["rating", "sequential", "explanation", "review", "direct"]
FAMILIES: tuple[Family, ...] = get_args(Family)
VERSION = 1

YES, NO = "yes", "no"
SOMEONE = "someone"
SOMEONE_WITH = "someone who had {history}"
USER = "user_{}"


@dataclass(frozen=True)
class Template:
    """One prompt.

    Attributes:
        family: Of the five.
        form: What the answer is: "item", one among "choices", "yes or no", "stars", or a "text".
        text: With the places named below in braces.
        seen: Whether it is trained on.
    """

    family: Family
    form: str
    text: str
    seen: bool = True


_SEQUENTIAL = (
    Template("sequential", "item", "{who} had {history} and comes to"),
    Template("sequential", "item", "what follows {history} for {who} ?"),
    Template("sequential", "item", "{who} : {history} . name the next item"),
    Template("sequential", "item", "in this order {who} picked {history} . the one after that is"),
    Template("sequential", "item", "after {history} , {who} will want"),
    Template("sequential", "item", "tell me where {who} goes from {history}", seen=False),
    Template("sequential", "choices", "{who} had {history} . which of {choices} comes next ?"),
    Template("sequential", "choices", "choose what follows {history} for {who} among {choices}"),
    Template("sequential", "choices", "one of {choices} was next for {who} after {history} . which ?", seen=False),
    Template("sequential", "yes or no", "{who} had {history} . is {item} the next ?"),
    Template("sequential", "yes or no", "does {item} follow {history} for {who} ?"),
    Template("sequential", "yes or no", "right after {history} , did {who} turn to {item} ?", seen=False),
)
_DIRECT = (
    Template("direct", "yes or no", "would {item} suit {who} ?"),
    Template("direct", "yes or no", "should we show {item} to {who} ?"),
    Template("direct", "yes or no", "is {who} going to like the look of {item} ?"),
    Template("direct", "yes or no", "can {item} be recommended to {who} ?", seen=False),
    Template("direct", "choices", "pick from {choices} what suits {who} best"),
    Template("direct", "choices", "which one is for {who} : {choices} ?"),
    Template("direct", "choices", "of these , what would you offer {who} ? {choices}", seen=False),
)
_RATING = (
    Template("rating", "stars", "how many stars does {who} give {item} ?"),
    Template("rating", "stars", "{who} rates {item} with"),
    Template("rating", "stars", "guess the rating of {item} by {who}"),
    Template("rating", "stars", "on seeing {item} , {who} would score it at", seen=False),
    Template("rating", "yes or no", "will {who} give {item} {stars} stars ?"),
    Template("rating", "yes or no", "is {stars} the rating of {item} by {who} ?"),
    Template("rating", "yes or no", "did {item} earn {stars} stars from {who} ?", seen=False),
    Template("rating", "liked", "does {who} think well of {item} ?"),
    Template("rating", "liked", "is {who} content with {item} ?"),
    Template("rating", "liked", "was {item} a good choice for {who} ?", seen=False),
)
_EXPLANATION = (
    Template("explanation", "text", "in one sentence , what does {who} say about {item} ?"),
    Template("explanation", "text", "explain why {item} was shown to {who}"),
    Template("explanation", "text", "{who} tried {item} . the reason for the verdict is"),
    Template("explanation", "text", "let {who} speak of {item}", seen=False),
    Template("explanation", "with stars", "{who} gave {item} {stars} stars . why ?"),
    Template("explanation", "with stars", "{stars} stars for {item} by {who} , because"),
    Template("explanation", "with stars", "justify the {stars} stars that {item} has from {who}", seen=False),
    Template("explanation", "with headline", '{who} writes of {item} under the headline " {headline} " :'),
    Template("explanation", "with headline", 'the words " {headline} " stand over what {who} thinks of {item} . go on'),
    Template("explanation", "with headline", 'say more than " {headline} " about {item} , as {who} would', seen=False),
)
_REVIEW = (
    Template("review", "headline", "put a headline over what {who} wrote : {review}"),
    Template("review", "headline", "sum up in a few words : {review}"),
    Template("review", "headline", "what is the short of this by {who} ? {review}", seen=False),
    Template("review", "stars", "how many stars go with these words of {who} ? {review}"),
    Template("review", "stars", "read the rating out of this review : {review}"),
    Template("review", "stars", "{who} wrote the following . rate it as they did : {review}", seen=False),
)
TEMPLATES: tuple[Template, ...] = (*_RATING, *_SEQUENTIAL, *_EXPLANATION, *_REVIEW, *_DIRECT)


def templates(family: Family, form: str, seen: bool = True) -> list[Template]:
    """The templates of a family for one form of answer, the seen or the unseen ones."""
    return [one for one in TEMPLATES if (one.family, one.form, one.seen) == (family, form, seen)]
