"""Short chatbot messages, and copies of them that somebody has changed a little: seeded, made up.

Messages are put together from an opening, a verb, a thing with its kind, and a tail, 3 to 15 words,
so that any two share as much as real requests to one bank do. ``EDITS`` are ways in which a
message comes back; ``fresh`` ones are new, and ``SAME_START`` shares opening and verb alone.
"""

import random
from collections.abc import Callable, Iterator

OPENINGS = (
    "", "please", "can you", "could you please", "i want to", "i need to", "i would like to",
    "help me", "how do i", "how can i", "is it possible to", "where do i go to", "hello can you",
    "what do i have to do to", "my wife wants to", "your colleague told me to", "when may i",
    "i tried twice to", "the app will not let me", "i forgot how to", "am i allowed to",
)  # fmt: skip
VERBS = (
    "block", "unblock", "replace", "cancel", "change", "increase", "lower", "dispute", "renew",
    "activate", "order", "return", "pay", "move", "close", "open", "see", "explain", "print",
    "freeze", "report", "confirm", "share", "split", "insure", "track", "delay", "repeat",
)  # fmt: skip
KINDS = (
    "", "my", "the", "my new", "my old", "our joint", "a second", "the monthly", "the foreign",
    "my daughter's", "the wrong", "last week's", "the gold", "the business", "my stolen",
    "the missing", "the savings", "a temporary", "the expired", "my travel",
)  # fmt: skip
THINGS = (
    "credit card", "debit card", "account", "loan", "mortgage", "transfer", "standing order",
    "password", "phone number", "address", "statement", "overdraft", "cheque book", "insurance",
    "direct debit", "pin code", "interest rate", "withdrawal limit", "invoice", "deposit",
    "exchange rate", "reward points", "contract", "tax form", "beneficiary", "refund",
    "subscription", "receipt", "safe deposit box", "pension plan", "broker fee", "payment",
)  # fmt: skip
TAILS = (
    "", "today", "before friday", "from abroad", "in the app", "without a branch visit",
    "because i moved", "after the holidays", "for my company", "while i am in spain",
    "since it was charged twice", "as soon as possible", "by phone", "on your website",
    "for the next two weeks", "with my partner", "at the machine in town", "it was not me",
    "i do not recognise it", "as my employer asked", "the letter said so", "again",
    "before my flight leaves", "for a friend", "this is urgent", "next month",
)  # fmt: skip
_FILLERS = ("please", "now", "thanks", "hi", "ok", "really", "just")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def message(dice: random.Random, start: tuple[str, str] | None = None) -> str:
    """One message of 3 words or more; with this opening and verb, if given."""
    while True:
        opening, verb = start or (dice.choice(OPENINGS), dice.choice(VERBS))
        rest = dice.choice(KINDS), dice.choice(THINGS), dice.choice(TAILS), dice.choice(TAILS)
        words = " ".join(filter(None, (opening, verb, *rest)))
        if 3 <= len(words.split()) <= 15:
            return words


def messages(dice: random.Random, count: int, but: frozenset[str] = frozenset()) -> list[str]:
    """So many different messages, none of them in ``but``."""
    found: dict[str, None] = {}
    while len(found) < count:
        text = message(dice)
        if text not in but:
            found[text] = None
    return list(found)


def with_typo(dice: random.Random, text: str) -> str:
    """A letter too many, too few, another, or two in the wrong order."""
    at, letter = dice.randrange(len(text) - 1), dice.choice(_LETTERS)
    return dice.choice(
        (
            text[:at] + letter + text[at:],
            text[:at] + text[at + 1 :],
            text[:at] + letter + text[at + 1 :],
            text[:at] + text[at + 1] + text[at] + text[at + 2 :],
        )
    )


def _two_typos(dice: random.Random, text: str) -> str:
    return with_typo(dice, with_typo(dice, text))


def _upper(dice: random.Random, text: str) -> str:
    return dice.choice((text.upper(), text.capitalize(), text.title()))


def _punctuated(dice: random.Random, text: str) -> str:
    return dice.choice((f"{text}!!", f"{text}?", f"  {text}. ", text.replace(" ", ", ", 1)))


def _word_added(dice: random.Random, text: str) -> str:
    words = text.split()
    words.insert(dice.randrange(len(words) + 1), dice.choice(_FILLERS))
    return " ".join(words)


def _word_removed(dice: random.Random, text: str) -> str:
    words = text.split()
    del words[dice.randrange(len(words))]
    return " ".join(words)


def _words_swapped(dice: random.Random, text: str) -> str:
    words = text.split()
    at = dice.randrange(len(words) - 1)
    words[at : at + 2] = words[at + 1], words[at]
    return " ".join(words)


EDITS: dict[str, Callable[[random.Random, str], str]] = {
    "letter case": _upper,
    "punctuation": _punctuated,
    "one typing error": with_typo,
    "two typing errors": _two_typos,
    "word added": _word_added,
    "word removed": _word_removed,
    "words swapped": _words_swapped,
}


def same_start(dice: random.Random, text: str) -> str:
    """Another request that begins like ``text``: its opening and verb, other things and tails."""
    for opening in sorted(OPENINGS, key=len, reverse=True):
        head = f"{opening} " if opening else ""
        if text.startswith(head):
            break
    verb = text[len(head) :].split(maxsplit=1)[0]
    while True:
        other = message(dice, (opening, verb))
        if not set(other[len(head) :].split()[1:]) & set(text[len(head) :].split()[1:]):
            return other


def planted(
    dice: random.Random, training: list[str], count: int
) -> Iterator[tuple[str, str, bool]]:
    """``count`` of each kind: (kind, message, whether it is a training text changed a little)."""
    known = frozenset(training)
    for kind, edit in EDITS.items():
        for text in dice.sample(training, count):
            yield kind, edit(dice, text), True
    for text in dice.sample(training, count):
        yield "same start, other request", same_start(dice, text), False
    for text in messages(dice, count, known):
        yield "new message", text, False
