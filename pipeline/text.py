"""What of a message the customer really wrote: decoded, cut, redacted, with everything cut kept for display.

    clean(turn.text, channel)  ->  Cleaned(text, cuts)
    normalise(cleaned.text)    ->  what the tokenizer is given

Knows nothing of conversations, labels or tokens. Personal data is `pipeline.redact`'s business.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Literal

import emoji
import ftfy
from bs4 import BeautifulSoup
from bs4.exceptions import ParserRejectedMarkup
from mailparser_reply.parser import EmailMessage, EmailReply

from pipeline.redact import redact

CutKind = Literal["quoted", "signature", "disclaimer", "auto_reply"]

_MARKUP = re.compile(
    r"</?(?:br|p|div|span|html|body|b|i|a|ul|li|table|td|tr|blockquote|strong|em|style|script)\b[^<>]{0,500}>", re.I
)
_DECLARATION = re.compile(r"<[?!](?!--)[^<>]{0,2000}(?<!--)>")
_BREAK = re.compile(r"<(?:br|/?(?:p|div|li|ul|tr|td|table|blockquote))\b[^<>]{0,500}>", re.I)
_CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_JOINER_IN_TEXT = re.compile(r"(?<=\w)\u200d|\u200d(?=\w)")
_HISTORY = re.compile(
    r"^[^\S\n]*>|\bwrote:[^\S\n]*$|^-{2,}\s*(?:original|forwarded) message|^_{5,}[^\S\n]*$|^from:\s.+$", re.I | re.M
)
_QUOTED_LINES = re.compile(
    r"(^[ \t]*On [^\n]{5,200}(?:\n[^\n>]{0,200})?\bwrote:[ \t]{0,5}\n{1,3})?(?:^[ \t]*>[^\n]*(?:\n|\Z))+", re.M
)
_QUOTED_LETTER = re.compile(r"^[ \t]*>[> \t]*[^\W\d_]", re.M)  # "> 2 weeks" and ">:(" quote nothing
_SIGNATURE_MARK = re.compile(r"\n-- ?\n(?=(?:[^\n]*\n){0,7}[^\n]*\Z)")
_LONG_ON = re.compile(r"^((?:> ?)*)On(?=\s.{300})", re.I | re.M)
_WIDE_GAP = re.compile(r"[^\S\n]{20,}")
_HIGH_GAP = re.compile(r"\n{4,}")
_MAIL_READ = 20_000  # the newest history begins before this many characters, or is not looked for
_SIGNATURE_READ = 2_000
_CLOSING = re.compile(
    r"^[^\S\n]*(?:--[^\S\n]*$|(?:kind |best |warm )?regards\b|sincerely\b|yours\b|cheers,?[^\S\n]*$|best,[^\S\n]*$"
    r"|thanks,?[^\S\n]*$|thank you,[^\S\n]*$|sent from my )",
    re.I | re.M,
)
_DISCLAIMER = re.compile(
    r"(?:^|\n)[^\n]{0,80}\b(?:this (?:e-?mail|message)(?: and any (?:attachments?|files)[^\n]{0,60})?"
    r" (?:is|are|may be|may contain|contains?)"
    r" [^\n]{0,80}(?:confidential|privileged|intended)"
    r"|confidentiality notice|if you are not the intended recipient|please consider the environment)",
    re.I,
)
_AUTO_REPLY = re.compile(
    r"^\s*(?:\W{0,3}auto(?:matic|mated)?[- ]?(?:reply|response)\s*(?:[:.!\]\n–—-]|$)"
    r"|out of (?:the )?office(?: (?:reply|message|notification))?\s*(?:[:.!\n–—-]|until\b|$)"
    r"|this is an automat(?:ed|ic) (?:reply|response|message)\s*(?:[:.!\n–—-]|$)"
    # a customer may be away or on leave too: only who answers others writes like this
    r"|(?:i am|i'm) (?:currently )?(?:away|out of (?:the )?office|on (?:annual|parental|sick) leave)\b[^?]*"
    r"\b(?:in my absence|limited access|urgent matters|(?:reply|respond|get back) to you)\b"
    r"|(?:i am|i'm) (?:currently )?(?:out of (?:the )?office|on (?:annual|parental|sick) leave)\b(?:[^?]*"
    r"\b(?:be back (?:on|in)|return(?:ing)? (?:on|to (?:the|my) (?:office|desk)))\b| until [^.!?\n]{1,40}[.!]?\s*$))",
    re.I,
)

_URL = re.compile(r"(?:https?://|www\.)\S+", re.I)
_MENTION = re.compile(r"(?<![\w@.])@\w+")
_PLACEHOLDER = re.compile(r"#([A-Z]+(?:[_-][A-Z0-9]+)*)#")
_SHOUTED = re.compile(r"\b[A-Z]{3,}\b(?:['’][A-Z]+)?")
_STRETCHED = re.compile(r"([^\W\d_])\1{3,}")
_REPEATED_MARK = re.compile(r"([!?.,*\-_=~])\1{3,}")
_SPACE = re.compile(r"\s+")
_REDACTED = re.compile(r"\[[A-Z_]+\]")
_WORD = re.compile(r"[^\W\d_]")


@dataclass(frozen=True)
class Cut:
    """A piece that was taken out of a message, as it stood (personal data redacted)."""

    kind: CutKind
    text: str


@dataclass(frozen=True)
class Cleaned:
    """What is left of a message, and what was cut from it in order of appearance."""

    text: str
    cuts: tuple[Cut, ...] = ()


def clean(text: str, channel: str) -> Cleaned:
    """Decode, cut and redact one customer message. Never raises, whatever the text holds."""
    decoded = decode(text)
    if _AUTO_REPLY.match(decoded):
        return Cleaned("", (Cut("auto_reply", redact(decoded)),))
    body = decoded
    cuts: tuple[Cut, ...] = ()
    if channel == "email" or _HISTORY.search(decoded):
        body, cuts = _cut_mail(decoded)
    return Cleaned(redact(body).strip(), tuple(Cut(cut.kind, redact(cut.text)) for cut in cuts))


def decode(text: str) -> str:
    """Text without markup, entities, mojibake, control and zero-width characters."""
    if not text.isascii():
        text = ftfy.fix_text(_CONTROL.sub("", text), unescape_html=False)
        text = _JOINER_IN_TEXT.sub("", text)
    for _ in range(3):  # "&amp;lt;" is found in the wild
        plain = _unescape(text) if "&" in text else text
        if plain == text:
            break
        text = plain
    if "<" in text and _MARKUP.search(text):
        text = _strip_markup(text)
    return _CONTROL.sub("", text).replace("\r\n", "\n").replace("\r", "\n").strip()


def from_markup(text: str) -> str:
    """The text of what is known to be HTML, where `decode` must guess from the tags it finds."""
    return (_strip_markup(text) if "<" in text else _unescape(text)).strip()


def normalise(text: str) -> str:
    """The tokenizer's view: emoji named, mentions and links made alike, shouting marked, runs shortened.

    The default encoder's tokenizer folds case, so shouted words carry the mark `^` after them.
    """
    if not text.isascii():
        text = emoji.demojize(text, delimiters=(" :", ": ")).replace("_", " ")
    text = _URL.sub("http", text)
    text = _MENTION.sub("@user", text)
    text = _PLACEHOLDER.sub(r"[\1]", text)
    text = _mark_shouting(text)
    text = _STRETCHED.sub(r"\1\1\1", text)
    text = _REPEATED_MARK.sub(r"\1\1\1", text)
    return _SPACE.sub(" ", text).strip()


def words_only(text: str) -> str:
    """The text without links, mentions and placeholders: what a language or a word can be told from."""
    for pattern in (_URL, _MENTION, _PLACEHOLDER, _REDACTED):
        text = pattern.sub(" ", text)
    return _SPACE.sub(" ", text).strip()


def has_words(text: str) -> bool:
    """Whether a letter is left once links, mentions and placeholders are gone."""
    return _WORD.search(words_only(text)) is not None


def _unescape(text: str) -> str:
    return html.unescape(text)


def _strip_markup(text: str) -> str:
    text = _BREAK.sub("\n", _DECLARATION.sub("", text))
    try:
        soup = BeautifulSoup(text, "html.parser")
    except ParserRejectedMarkup:
        return _MARKUP.sub(" ", text)
    for hidden in soup(["script", "style"]):
        hidden.decompose()
    return soup.get_text()


def _mark_shouting(text: str) -> str:
    """Mark words in capitals where they are shouted: two or more of them, or one of five letters or more."""
    plain = _REDACTED.sub("", text)
    shouted = _SHOUTED.findall(plain)
    if len(shouted) < 2 and not any(len(word) >= 5 for word in shouted):
        return text
    return _SHOUTED.sub(_mark_unless_redacted, text)


def _mark_unless_redacted(match: re.Match[str]) -> str:
    inside = (
        match.string[match.start() - 1 : match.start()] == "[" and match.string[match.end() : match.end() + 1] == "]"
    )
    return match[0] if inside else f"{match[0]} ^"


def _for_parser(text: str) -> str:
    """The text, of equal length, without the long lines that the mail parser is quadratic in."""
    return _LONG_ON.sub(r"\1__", text)


def _parse_mail(view: str) -> list[EmailReply]:
    return list(EmailMessage(text=view, languages=["en"], keep_hyphen_lists=True).read().replies)


def _tidy(text: str) -> str:
    """Lines stripped as the mail parser strips them, and no gaps for it to search through."""
    text = "\n".join(line.strip() for line in text.split("\n"))
    return _WIDE_GAP.sub(" ", _HIGH_GAP.sub("\n\n\n", text))


def _cut_mail(text: str) -> tuple[str, tuple[Cut, ...]]:
    text, quotes = _cut_answered_quotes(_tidy(text))
    cuts = [Cut("quoted", quote) for quote in quotes]
    disclaimer = _DISCLAIMER.search(text)
    history = _first_history(text)
    end = min([len(text), *([disclaimer.start()] if disclaimer else []), *([history] if history is not None else [])])
    body, tail = text[:end].rstrip(), text[end:].strip()
    if _SIGNATURE_MARK.search(body) or _CLOSING.search(body):
        body, signature = _cut_signature(body)
        cuts += [Cut("signature", signature)] if signature else []
    if tail:
        cuts.append(Cut("quoted" if history == end else "disclaimer", tail))
    return body.strip(), tuple(cuts)


def _cut_answered_quotes(text: str) -> tuple[str, list[str]]:
    """The text without quotes that it answers below them. What is quoted whole below an answer is history."""
    kept, quotes, done = [], [], 0
    for match in _QUOTED_LINES.finditer(text):
        if match[1] and text[: match.start()].strip():
            break
        if _QUOTED_LETTER.search(match[0]) and text[match.end() :].strip():
            kept.append(text[done : match.start()])
            quotes.append(match[0].strip())
            done = match.end()
    return "".join([*kept, text[done:]]).strip(), quotes


def _first_history(text: str) -> int | None:
    """Where the quoted history begins: at the parser's second message, or at trailing `>` lines."""
    if not _HISTORY.search(text):
        return None
    view = _for_parser(text[:_MAIL_READ])
    replies = _parse_mail(view)
    latest = replies[0].content
    start = len(latest) if len(replies) > 1 and view.startswith(latest) else len(text)
    quoted = re.search(r"(?:^|\n)[^\S\n]*>", text)
    if quoted and _only_quotes_follow(text[quoted.start() :]):
        start = min(start, quoted.start())
    return start if start < len(text) else None


def _only_quotes_follow(tail: str) -> bool:
    lines = [line for line in tail.split("\n") if line.strip()]
    return _QUOTED_LETTER.search(tail) is not None and all(line.lstrip().startswith(">") for line in lines)


def _cut_signature(body: str) -> tuple[str, str]:
    marked = _SIGNATURE_MARK.search(body)
    if marked and body[: marked.start()].strip():
        return body[: marked.start()], body[marked.start() :].strip()
    view = _for_parser(body[-_SIGNATURE_READ:])
    replies = _parse_mail(view)
    signature = replies[0].signatures if len(replies) == 1 else ""
    kept = body[: len(body) - len(signature)] if view.endswith(signature) else ""
    return (kept, body[len(kept) :].strip()) if kept.strip() else (body, "")
