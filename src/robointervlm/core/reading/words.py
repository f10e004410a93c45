"""Letters, yes and no, and plain text. Letters and yes count as answers by where they stand, never as substrings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial

from robointervlm.core.answer import Choice, Text, YesNo
from robointervlm.core.reading.text import Reading, Tier, answer_part, in_ascii, unread

# Nine letters without I, which English text is full of.
LETTERS = "ABCDEFGHJ"

# How much of each end of a long text is read.
_END = 8_000

_OPEN = r"[\s\"'`*_(\[{$:]*+"
_BOXED = re.compile(r"\\boxed\s*+\{\s*+(?:\\text\s*+\{\s*+)?+([^{}\n]++)\}")
_PLAIN_LETTER = r"(?P<letter>[A-HJa-hj])(?![A-Za-z0-9_'’])"
_SAYS = re.compile(
    rf"""(?:
        \b(?:answer|choice|selection)\b["'*_\s]*+(?:(?:is|was|:|=|would\s+be|should\s+be|must\s+be)[:\s]*+)?+(?:the\s++)?+
      | \b(?:is|was|be|choose|pick|select|choosing|selecting|picking)\s++(?:the\s++)?+
      | \bit's\s++ | \bgo(?:ing)?\s+with\s++
      | (?:答案|选择|选项|选)\s*+(?:是|为|:)?+\s*+
    )
    (?:(?:option|letter|choice|answer)\b[:\s]*+)?+{_OPEN}{_PLAIN_LETTER}""",
    re.VERBOSE | re.IGNORECASE,
)
_IS_RIGHT = re.compile(
    rf"(?<![A-Za-z0-9_]){_PLAIN_LETTER}[)\]\"'*.]*+\s++is\s++(?:the\s++)?+(?:right|correct|best|better|answer|most)\b"
)
_LINE_LETTER = re.compile(
    rf"^{_OPEN}(?:(?:option|answer)\s++)?+{_PLAIN_LETTER}[ \t\"'`*_)\]}}.,:;!$]*+$", re.MULTILINE | re.IGNORECASE
)
_LINE_START = re.compile(
    rf"^{_OPEN}(?:option\s++)?+{_PLAIN_LETTER}(?:[*_\"']*+[)\]]|[*_\"']*+[.,:;!](?!\w\.)|\s*+[-–—])",
    re.MULTILINE | re.IGNORECASE,
)
_MENTION = re.compile(r"(?<![A-Za-z0-9_'’])(?P<letter>[A-HJ])(?![A-Za-z0-9_'’])")
_NEGATED = re.compile(
    r"(?:\bnot|n't|\bcannot|\bnever|\bnor|\bneither|\bthan|不是|不选|而非)\s*+"
    r"(?:(?:be|choose|pick|select|the|option|letter|answer)\s++|[(\"'*]++)*+$",
    re.IGNORECASE,
)
_LISTING = re.compile(
    r"\s*+(?:,|/|\||;|\bor\b|\band\b|或|和|、)\s*+(?:(?:or|and)\b\s*+)?+(?:option\s++)?+[(\"'*]*+", re.I
)
_ARTICLE_FOLLOWS = re.compile(r"\s+(?!(?:and|as|because|but|for|has|in|is|or|shows|since|so|was|with)\b)[a-z]")


def read_choice(text: str, options: Mapping[str, str] | None = None) -> Reading:
    """The option that a text chooses; `options` are the texts of the letters, where they are known.

    The last statement ("the answer is B") wins; then a letter on a line of its own; then a letter that begins the text
    ("B. because …"); then the words of one option; then the only letter that the text names. Several letters without a
    statement are no answer.
    """
    answer = answer_part(text)
    part = _ends(answer.text)
    if not part:
        return unread(text, answer.empty)
    letters = "".join(options) if options else LETTERS
    tiers: dict[Tier, Callable[[str], str]] = {
        "statement": _stated_letter,
        "alone": _lone_letter,
        "leading": _leading_letter,
        "option": partial(_option_named, options or {}),
        "mention": _mentioned_letter,
    }
    for tier, find in tiers.items():
        found = find(part)
        if found and found.upper() in letters:
            return Reading(Choice(found.upper()), tier, answer.notes)
    return unread(text, "no single option is chosen")


_OPTION = re.compile(r"(?:^|(?<=[\s,;]))\(?(?P<letter>[A-HJ])[.):](?!\d)\s*+(?=\S)", re.MULTILINE)


def options_in(question: str) -> dict[str, str]:
    """The options that a question lists as "A. …", "B) …", "(C) …" or "D: …", in order; {} if it lists none.

    The last list that begins with A and goes on letter by letter, of two or more. An option ends with its line, or
    where the next begins.
    """
    found: list[re.Match[str]] = []
    for match in _OPTION.finditer(in_ascii(question)):
        if match["letter"] == "A":
            found = [match]
        elif found and len(found) < len(LETTERS) and match["letter"] == LETTERS[len(found)]:
            found.append(match)
    if len(found) < 2:
        return {}
    text = in_ascii(question)
    ends = [*(match.start() for match in found[1:]), len(text)]
    words = [
        text[match.end() : end].strip().partition("\n")[0].strip(" ,;") for match, end in zip(found, ends, strict=True)
    ]
    return {match["letter"]: option for match, option in zip(found, words, strict=True)}


def _ends(text: str) -> str:
    """The part of a text that holds its answer: what is `boxed`, or both ends of it (an answer stands at one)."""
    part = in_ascii(text)
    if len(part) > 2 * _END:
        part = f"{part[:_END]}\n{part[-_END:]}"
    boxed = _BOXED.findall(part)
    return boxed[-1].strip() if boxed else part


def _stated_letter(text: str) -> str:
    """The letter of the last statement that is not a denial and not an article ("the answer is a cup")."""
    found = [(match.start("letter"), match) for match in _SAYS.finditer(text)]
    found += [(match.start("letter"), match) for match in _IS_RIGHT.finditer(text)]
    letter = ""
    for _, match in sorted(found, key=lambda item: item[0]):
        if (
            _begins_a_list(text, match.end("letter"))
            or _denied(text, match.start())
            or _denied(text, match.start("letter"))
        ):
            continue
        article = match["letter"] in "Aa" and _ARTICLE_FOLLOWS.match(text, match.end("letter"))
        if article:
            continue
        letter = match["letter"]
    return letter


def _denied(text: str, position: int) -> bool:
    return _NEGATED.search(text[max(0, position - 24) : position]) is not None


def _begins_a_list(text: str, position: int) -> bool:
    """Whether another letter follows as an alternative: "A, B or C" and "A or B" choose nothing."""
    link = _LISTING.match(text, position)
    return link is not None and _MENTION.match(text, link.end()) is not None


def _lone_letter(text: str) -> str:
    """The last line that is nothing but a letter."""
    found = _LINE_LETTER.findall(text)
    return found[-1] if found else ""


def _leading_letter(text: str) -> str:
    """The letter before "." or ")" that the text begins with, unless other lines begin with other letters."""
    match = _LINE_START.match(text)
    if not match or _begins_a_list(text, match.end("letter")):
        return ""
    others = {letter.upper() for letter in _LINE_START.findall(text)}
    return match["letter"] if len(others) == 1 else ""


def _option_named(options: Mapping[str, str], text: str) -> str:
    """The letter of the option whose words the text, its last line or its last statement consists of."""
    wanted = {_words(words): letter for letter, words in options.items()}
    if len(wanted) < len(options):
        return ""  # two options of the same words
    tails = [text, text.splitlines()[-1], re.split(r"(?:answer|答案)\s*+(?:is|是|为)?\s*+:?", text, flags=re.I)[-1]]
    return next((wanted[words] for tail in tails if (words := _words(tail)) in wanted and words), "")


def _words(text: str) -> str:
    """The text in lower case without punctuation around its words."""
    return " ".join(re.findall(r"\w++", text.lower()))


def _mentioned_letter(text: str) -> str:
    """The only capital letter that stands by itself and is neither denied nor an article."""
    named = set()
    for match in _MENTION.finditer(text):
        letter = match["letter"]
        if letter in named or _denied(text, match.start()):
            continue
        if letter != "A" or not _ARTICLE_FOLLOWS.match(text, match.end()):
            named.add(letter)
        if len(named) > 1:
            break
    return named.pop() if len(named) == 1 else ""


_NO = (
    r"no|nope|nah|false|incorrect|untrue|negative|not\s++(?:true|correct|right|yes|really|at\s++all)"
    r"|(?:absolutely|certainly|definitely|of\s++course)\s++not"
)
_YES = (
    r"yes|yeah|yep|yup|true|correct|affirmative|not\s++(?:false|incorrect)"
    r"|(?:absolutely|certainly|definitely|of\s++course)(?!\s++not\b)"
)
# A quotation mark may touch the word, an apostrophe or a hyphen that joins it to another may not.
_SPOKEN = re.compile(rf"(?<!\w)(?<!\w['’-])(?:(?P<no>{_NO})|(?P<yes>{_YES}))(?!\w|['’-]\w)", re.I)
# What answers only by itself: "It does not." does; what "It does not touch the cup" means depends on the question.
_SHORT_ANSWERS = {"1": True, "y": True, "0": False, "n": False} | {
    f"{who} {verb}{negation}": not negation
    for who in ("it", "they", "he", "she", "this", "that", "there")
    for verb in ("is", "are", "does", "do", "did", "has", "have", "was", "were", "can", "will")
    for negation in ("", " not", "n't")
}
_EITHER = re.compile(
    r"\b(?:yes\s*+(?:,|/|\||or|and)\s*+(?:or\s++)?+no|no\s*+(?:/|\||or|and)\s*+yes|true\s*+(?:/|or|and)\s*+false)\b"
    r"|是\s*+(?:/|或|还是)\s*+(?:否|不是)|(?<!答案)(?<!回答)是否|有没有|是不是",
    re.I,
)
_UNSURE = re.compile(
    r"\bnot\s++(?:\w++\s++)?+(?:sure|certain|possible\s++to|able\s++to)\b|\bun(?:sure|certain|known|clear)\b|\bmaybe\b|\bno\s++(?:idea\b|way\s++(?:to|of)\b)"
    r"|\b(?:can(?:no|')t|can\s++not|could\s++not|unable\s++to|do\s++not|don't)\s++(?:be\s++)?+(?:tell|determined?|say|know|answer|judge)\b"
    r"|不确定|不知道|不清楚|不一定|无法|不好说|难说|未知|未必",
    re.I,
)
# Signs that answer by themselves, each with the words it begins in which it does not.
_CHINESE = re.compile(
    r"(?:^|(?<=[\n,.!?:]))\s*+(?:所以|因此|那么|我认为|我觉得|应该|并)*+(?:(?:答案|回答)\s*+(?:应该)?+(?:是|为)?+\s*+:?+\s*+)?+"
    r"(?:(?P<no>不是|不对|不会|不能|不可以|不成立|没有|错误|否定|否(?!则)|错|不(?!同|过|仅|但|太|止|管|论)|没(?!关系)"
    r"|未(?!来)|无(?=[\n,.!]|$))"
    r"|(?P<yes>是(?!什么|哪|谁|多少|非)|对(?!面|于|象|方|比|应|准|着|称)|正确|成立|肯定"
    r"|有(?!点|时|些|人|可能|关)|会(?!议|话)|能(?!否|量|力)|可以(?!吗)))"
)
_BEFORE_ANSWER = re.compile(r"(?:^|[\n.!?:;,\"'*(\[{>]|\b(?:is|so|be|say|answer))[\s\"'*_(\[{]*+$", re.I)
_AFTER_ANSWER = re.compile(r"[ \t\"'*_)\]}]*+(?:$|[\n.!?:;,<-]|(?:because|since)\b)")
_ANSWER_IS = re.compile(r"\banswer[\s\"'*_:]*+(?:(?:is|was|would be|should be)[\s\"'*_:]*+)?+$", re.I)


def read_yes_no(text: str) -> Reading:
    """Whether a text answers yes or no, in English or Chinese.

    The last answer wins. A word is one by its place: it begins or ends a sentence, or follows "is" or a colon; a yes or
    no that begins the text counts if there is no other ("No contact yet"). Being unsure after it takes it back.
    """
    answer = answer_part(text)
    part = _ends(answer.text)
    if not part:
        return unread(text, answer.empty)
    short = _SHORT_ANSWERS.get(part.strip(" .!。").lower())
    if short is not None:
        return Reading(YesNo(short), "alone", answer.notes)
    part = _EITHER.sub(" # ", part)
    answers = _yes_no_answers(part)
    unsure = max((match.end() for match in _UNSURE.finditer(part)), default=-1)
    if unsure >= 0 and (not answers or unsure > answers[-1][0]):
        return unread(text, "the text is not sure")
    if not answers:
        return unread(text, "neither yes nor no")
    position, yes, tier = answers[-1]
    alone = tier == "statement" and len(part) <= 8 and position < 2
    return Reading(YesNo(yes), "alone" if alone else tier, answer.notes)


def _yes_no_answers(text: str) -> list[tuple[int, bool, Tier]]:
    """Every yes and no that is an answer by its place, as (position, yes, tier), in order."""
    found: list[tuple[int, bool, Tier]] = []
    last_word = len(text.rstrip("\"'*_)]} .!\n"))
    for match in _SPOKEN.finditer(text):
        before = text[max(0, match.start() - 24) : match.start()]
        begins = _BEFORE_ANSWER.search(before) is not None
        ends = _AFTER_ANSWER.match(text, match.end()) is not None
        if _ANSWER_IS.search(before) or (ends and (begins or match.end() >= last_word)):
            found.append((match.start(), match["yes"] is not None, "statement"))
    found += [(match.end() - 1, match["yes"] is not None, "statement") for match in _CHINESE.finditer(text)]
    if not found:
        first = _SPOKEN.match(text)
        found = [(0, first["yes"] is not None, "leading")] if first else []
    return sorted(found)


def read_text(text: str) -> Reading:
    """The text itself, without thinking around it; numbers in it stay as they are."""
    part = answer_part(text)
    return Reading(Text(part.text), "text", part.notes) if part.text else unread(text, part.empty)
