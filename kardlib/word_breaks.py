"""The word breaks of Unicode's Annex 29 as a regular expression: where Lucene's StandardTokenizer cuts.

Letters and digits run together, marks belong to what they stand on, an underscore joins, ``. : '`` and their kin hold
two letters together (``u.s``, ``o'neil``), ``. , ; '`` two digits (``3.5``, ``1,000``), an ideograph, a hiragana or an
emoji stands alone. Superscripts and fractions are no words. Left out, because no English text shows it: Hebrew's double
quote, emoji that are joined, Lucene's limit of 255 characters a word.
"""

from __future__ import annotations

# Characters that ``\w`` has and a word has not: superscripts, fractions, circled and other numbers,
_NUMBERS = "²³¹¼-¾⁰-₟⅐-⅟①-⒛⓪-⓿❶-➓"
_IDEOGRAPHS = "々-〇㐀-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_HIRAGANA = "ぁ-ゖゝ-ゟ"
_KATAKANA = "ァ-ヺー-ヿㇰ-ㇿｦ-ﾝ"
_ALONE = _NUMBERS + _IDEOGRAPHS + _HIRAGANA + _KATAKANA
# and characters that ``\w`` lacks: marks, and what steers the direction or the joining of letters. In the Indian and
# south-east Asian blocks letters stand among the marks; to name them twice does no harm.
_MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u07a6-\u07b0\u0900-\u0963\u0966-\u0dff\u0e31-\u0e3a"
    "\u0e47-\u0e4e\u0eb1-\u0ebc\u0ec8-\u0ecd\u0f18\u0f19\u0f35\u0f37\u0f39\u0f3e\u0f3f\u0f71-\u0f84\u0f86-\u0fbc"
    "\u102b-\u103e\u1056-\u1059\u17b4-\u17d3\u1ab0-\u1aff\u1b00-\u1b04\u1b34-\u1b44\u1dc0-\u1dff\u20d0-\u20f0"
    "\uabe3-\uabed\ufe00-\ufe0f\ufe20-\ufe2f\u00ad\u200c-\u200f\u202a-\u202e\u2060-\u2064\ufeff"
)
_EMOJI = "©®™ℹ↔-↙☀-★☇-☒☔-⚅⚐-✅✈-✒✔✖✝✡✨✳✴❄❇❌❎❓-❕❗❣-❧\U0001f000-\U0001faff"

_LETTER = rf"[^\W\d_{_ALONE}]"
_RUN = rf"[^\W{_ALONE}]+(?:[{_MARKS}]+[^\W{_ALONE}]*)*"
_AFTER_LETTER = rf"(?:(?<={_LETTER})|(?<={_LETTER}[{_MARKS}]))"

WORD_BREAKS = (
    rf"(?=_*[^\W_{_ALONE}]){_RUN}"
    rf"(?:{_AFTER_LETTER}[:.·'’‘․‧︓﹕．＇](?={_LETTER}){_RUN}|(?<=\d)[.,;'’‘․﹒．＇⁄](?=\d){_RUN})*"
    rf"|[{_KATAKANA}]+|[{_IDEOGRAPHS}{_HIRAGANA}]|[{_EMOJI}]\ufe0f?"
)
"""Each match is a word. It was compared with Lucene's own cut; see ``docs/lucene_parity.md``."""
