"""The words around a choice: what announces, joins or takes back an answer, what makes a letter a label, and markup.

Nothing here looks further than a bounded number of characters or the next one of its kind, so all of it is linear.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

from open_exaone.verify.extract import CUE_ROWS, Cues

_CIRCLED = "①②③④⑤⑥⑦⑧⑨⑩"

# Undressing. None of it looks further than the next character that it doesn't match.
_FONT = r"\\(?:text(?:bf|it|rm|sf|circled)?|math(?:rm|bf|it|sf)|underline|operatorname|bf|rm)(?![a-z])"
_FONTS = re.compile(_FONT + r"|\\(?:text)?color\s?\{\w{1,20}\}")
_FONT_GROUPS = re.compile(_FONT + r"\s{0,9}\{([^{}]*)\}")
_MAX_FONTS = 3  # one in another
_WIDE = re.compile(r"\\[ ,;:!]|\\q?quad(?![a-z])")
_SPACES = re.compile(rf"{_WIDE.pattern}|\s+")
_MARKUP = re.compile(
    r"\\[()\[\]]|[{}$*`\"“”‘’「」『』]|(?<!\w)_+|_+(?!\w)|\\(?=[%#&.{}\s]|$)|\\(?:left|right)(?![a-z])"
)
_DRESS = re.compile(r"\\[()\[\]]|[$`\"“”‘’]|\*\*|(?<!\w)_+|_+(?!\w)|\\(?=[%#&])|\\(?:left|right)(?![a-z])")
_DRESSED = re.compile(r"[\\{}$*`\"_]")
_NUMBERED = re.compile(r"(?<![\d(])\(?(\d{1,2})\)?(?=\s?번(?!째))")  # 2번: the second option
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d*)?", re.ASCII)
_NUMBER = re.compile(r"([+-]?)(\d+)(?:\.(\d*))?", re.ASCII)

# What may stand between a cue, or the start of a box, and the label.
FILLERS = re.compile(
    r"(?:[\s:,*]|(?:for sure|definitely|clearly|certainly|probably|(?:most )?likely|indeed|simply|just|so|thus|hence"
    r"|therefore|both|either|the|correct|right|best|final|answer|option|choice|letter|number|is|i (?:think|believe)"
    r"|opci[óo]n|letra|la|선택지|선지|보기|옵션|바로|다음과\s같(?:습니다|다)|아마도?)(?![A-Za-z가-힣])){1,12}",
    re.IGNORECASE,
)
# What joins two answers, so that together they are a hedge.
_AND = (
    r"(?:(?:and/or|and|or|nor|as\s+well\s+as|plus|alternatively|y|o|u|또는|혹은|아니면|및|그리고|이나|이거나|와|과|랑|하고)"
    r"(?![A-Za-z])|[/&+|]|나(?=\s))"
)
_MAYBE = r"(?:[\s,(\[]|(?:maybe|perhaps|possibly|also|even|either|else|option|choice|answer|아마도?)(?![A-Za-z])){0,8}"
# What must follow a bare label: other words would make it a word of the sentence, as in "a vitamin" or "I think".
_FOLLOW = (
    r"(?=\s*(?:$|[.,;:!)\]\n—–→⇒=]|[(\[-]\s|\\?(?:to|[Rr]ightarrow)(?![a-z]))"
    r"|\s*(?:입니다|이다|이에요|예요|임|이므로|이고|다|가|이|을|를|로|으로|와|과|나|이나|라고|이라고|네요|일\s?것입니다|일\s?것이다|또는|혹은|아니면|및)(?![가-힣])"
    r"|\s+(?:because|since|as|for|is|which|and|or|due|given|with|by|based|option|choice|it|the|this|that|we|not|but"
    r"|while|so|here|only|alone|rather\sthan|seems|though|remains|fits|works|survives|qualifies|matches|from|in|on|per|according|although|porque|ya|y|o|pues|[/&+])(?![A-Za-z]))"
)
_NO_WORD = r"(?![A-Za-z0-9_'’%^]|[.,:/+-]\d|-[A-Za-z]|[+#]{2})"  # not C++, 3.5 or B-cell

BEHIND_LABEL = re.compile(
    r"[\s~.:,;)\]번]*(?:(?:(?:-{1,3}|[–—=/])\s|-{0,2}>|→|⇒|\\?(?:to|[Rr]ightarrow)(?![a-z]))\s*)?[\s~(\['\"“‘]*"
)

# An option's text with its label behind it: "Oslo (C)", "Oslo, which is option C", "수소(C)입니다".
BEHIND_TEXT = re.compile(
    r"(.+?)(?:\s?(?=[(\[])|,\s(?:which\sis\s)?(?:(?:option|choice|letter|answer)\s|(?=[(\[])))([(\[]?[^()\[\]]{1,9}?[)\]]?)"
    r"(?:입니다|이다|임|이에요)?[\s.]*"
)

# Cues of choice, besides those that every verifier knows.
_CHOICE_CUES = (
    r"be::answer\s(?:must|should|has\sto|can\sonly|will|could\sonly)\sbe(?![A-Za-z])",
    r"correct|right|best|selected|chosen::(?<![A-Za-z])(?:correct|right|best|selected|chosen)\s(?:answer|choice|option|letter|response|statement|solution)\s?(?:is(?![A-Za-z])|would\sbe(?![A-Za-z])|:)",
    r"solution|conclusion::(?<![A-Za-z])(?:solution|conclusion)\s(?:is|would\sbe)\s(?=[*(\[\"'$]{0,3}(?-i:[A-Z]))",
    r"choos|pick|select|vote|settle|go::(?<![A-Za-z])(?:(?:i|we)(?:['’](?:d|ll|m)|\swould|\swill|\sam|\sare)?(?:\stherefore)?|let['’]?s)\s(?:choose|pick|select|choosing|picking|selecting|vote\sfor|settle\son|go(?:ing)?\s(?:with|for))(?![a-z])",
    r"choice|pick|selection|vote::(?:my|our|final)\s(?:choice|pick|selection|vote)\s?(?:is(?![A-Za-z])|[:=])",
    r"choice|option|letter|select|solution|response|correct::(?:^|\n)[\s*#]{0,6}(?:the\s)?(?:choice|option|letter|selection|selected|solution|response|correct)[\s*]{0,4}[:=→]",
    r"'d|’d|would::(?<![A-Za-z])i(?:['’]d|\swould)\s(?:say|guess|answer)(?=\s[*(\[\"']{0,3}(?-i:[A-Z])(?![A-Za-z]))",
    r"choice|option|letter|select::[{,\n]\s?[\"'](?:choice|option|letter|selection|selected)[\"']\s?:",
    r"matches|corresponds|leaves|points::(?:matches|corresponds\sto|leaves|points\sto)\s(?=(?:option|choice|answer|letter)\s)",
    r"only::(?<![A-Za-z])only\s(?:option\s)?(?=[(\[]?[A-Z][)\]]?\s(?:remains|fits|works|survives|qualifies|matches|is\sleft|is\scorrect)(?![A-Za-z]))",
    r"답::(?:정답|답)\s?번호\s?(?:는|은|:)",
    r"답|선택::(?:정답|답|선택지?)(?:으)?로(?:는)?(?=\s)",
    r"선택|보기|결론::(?:^|\n)[\s*#]{0,6}(?:선택지?|보기|최종\s?선택|결론)[\s*]{0,4}[:=]",
    r"옳은|맞는|알맞은|적절한|적합한|올바른|해당하는|타당한::(?:옳은|맞는|알맞은|적절한|적합한|올바른|해당하는|타당한)\s(?:것|답|선택지|보기|설명|문장|정답)(?:은|는)",
    r"correcta::(?:opci[óo]n|alternativa)\scorrecta\s(?:es|:)",
    r"bonne|correcte::(?:bonne|correcte)\s(?:réponse|option)\sest(?![A-Za-z])",
    r"richtige|korrekte::(?:richtige|korrekte)\s(?:Antwort|Option)\sist(?![A-Za-z])",
    r"选|選::(?:故选|应选|應選|选择|選擇|所以选|正确选项是|正確選項是)[:：]?",
    r"الخيار|विकल्प::(?:الخيار\sالصحيح|सही\sविकल्प)(?:\s(?:هو|है))?",
)
_ALONE = r"(?=[(\[]?[A-Z][)\]]?\s{0,9}[.!]?\s{0,9}$)"  # the label that ends the reply
_LAST_CUES = (
    rf"matches|corresponds|leaves|which::(?<![A-Za-z])(?:matches|corresponds\sto|leaves|(?<=which\s)is(?=\s(?:option|choice|letter|\()))\s(?:us\s)?(?:with\s)?(?:only\s)?(?:option\s|choice\s|letter\s)?{_ALONE}",
    rf"it::(?:^|(?<=[.!?]\s)|(?<=\n))(?:(?:so|thus|hence|therefore),?\s)?(?:(?:i\s(?:think|believe)\s)?it(?:['’]s|\sis|\smust\sbe))\s{_ALONE}",
    rf"so|thus|hence|therefore::(?:^|(?<=[.!?]\s)|(?<=\n))(?:so|thus|hence|therefore),?\s{_ALONE}",
    rf"option|choice::(?:^|(?<=[.!?]\s)|(?<=\n))(?:option|choice)\s{_ALONE}",
    r"따라서|그러므로|결국|그래서|즉::(?:따라서|그러므로|결국|그래서|즉)[,\s]{1,3}(?=[(\[]?(?:[A-Z]|\d|[①-⑩])[)\]]?(?:번)?\s?(?:입니다|이다|임|이에요|예요|\.)?[\s.]{0,3}$)",
)
CUES = Cues((*CUE_ROWS, *_CHOICE_CUES), _LAST_CUES)
SUPPOSED = re.compile(  # right before a cue: it is supposed or asked, not stated
    r"(?:\b(?:if|whether|suppose|assum(?:e|ing)|(?<!['’]d\s)(?<!would\s)say|unless|why|how|when|si)|만약|만일)\s+(?:that\s+)?"
    r"(?:(?:the|la|correct|final|right|best|option|choice)\s+){0,3}[(\[]?$",
    re.IGNORECASE,
)
_PAST = r"(?>.{1,200}?\b(?:had|were|was|did|instead|(?!need)[a-z]{1,20}ed)\b)"
_WOULD = r"(?>.{0,200}?\b(?:would|could|might)\sbe\b)"
_HYPOTHETICAL = re.compile(  # around a cue: another question's answer
    rf"\b(?:if\s(?:[\w'’]{{1,20}}\s){{1,4}}?(?:had\s)?(?:asked|wanted|said|meant)\b|if\b{_PAST}{_WOULD}"
    rf"|(?:but|and|so)\s(?:had|were)\s{_WOULD}|would\sbe\b[^.,;\n]{{1,40}}\s(?:if|had)\s)"
    rf"|^\W*(?:had|were)\s{_WOULD}|[었았했였]다면|더라면",
    re.IGNORECASE,
)
_OTHERS = re.compile(  # up to a cue: what others say, and nothing that turns from it
    r"(?:\b(?:(?:students?|people|many|some|most|others|(?:any|some|every)one|they)\b[^,.]{0,40}\s"
    r"(?:think|thought|sa(?:y|id)|believe|claim|argue|guess|assume)"
    r"|tempt(?:ing|ed)|mistake|wrongly|misconception)|많은\s(?:학생|사람)들?[이은]\s|흔히)"
    r"(?!.{0,200}(?:\b(?:so|thus|hence|therefore|but|however|yet)\b|므로|하지만|그러나))",
    re.IGNORECASE,
)
OF_STATEMENT = re.compile(r"\b(?:statement|claim|assertion|premise)\s[(\[*\"]{0,3}$", re.IGNORECASE)  # it is no option
FINAL = re.compile(  # a cue that outweighs a box before it
    r"final[\s_]{1,3}(?:answer|choice)|(?:correct|right)\s(?:answer|option|choice)|정답|최종|respuesta\sfinal"
    r"|(?:^|\n)[\s*#]{0,6}(?:the\s)?(?:answer|답)\W{0,4}[:=]",
    re.IGNORECASE,
)
DOUBTED = re.compile(  # before a cue in its clause: it is denied or doubted
    r"\b(?:false\sthat|incorrect|wrong|worst|least|not|never|neither|unsure|unclear|unlikely|no\s+creo)\b"
    r"|\bdoubt|n['’]t\b|틀린|잘못된",
    re.IGNORECASE,
)
DENIED = re.compile(r"\s*(?:not|neither|none|no)(?![A-Za-z])", re.IGNORECASE)  # right behind a cue
RETRACTED = re.compile(  # behind a label
    r"\s*[)\]]?\s*(?:번\s*)?(?:\?|(?:이|가|은|는)?\s*(?:아니|아닙|아닐|아닌)|이?라면|인지|인가|일까|일지|일\s수도)"
    r"|\s(?:is|are|was|can|could|would|must|should)(?:n['’]t|\s?not|\s(?:wrong|incorrect|false|impossible|unlikely))\b"
    r"|\scan['’]t\b|[\s,;]*\s(?:but|although|though|however)\b[^.\n]{0,40}\b(?:also|equally|either)\b|,\sno,",
    re.IGNORECASE,
)
TAKEN_BACK = re.compile(  # in what follows an answer
    r"[.!?]\s+(?:oh|hmm|but|no)?,?\s?(?:wait|actually)\b,?\s(?:[a-z'’]+\s){0,3}?(?:actually|no|it|that|the|let|i)\b"
    r"|[.!?]\s+(?:oh|hmm|but|no)?,?\s?(?:that|this|it)(?:['’]s|\sis|\swas)\s(?:wrong|incorrect|false|not\s(?:right|correct))\b"
    r"|(?<![가-힣])(?:잠깐|아니),",
    re.IGNORECASE,
)
# Behind an option's text, with or without its label: "C. Oslo is the correct answer", "수소가 정답입니다".
PREDICATE = re.compile(
    r"[*\"”’'_]{0,3},?\s?(?:(?:is|must\sbe|would\sbe)\sthe\s(?:(?:correct|right|best)\s(?:answer|option|choice|one)|(?:final\s)?answer)"
    r"(?=\s{0,3}(?:$|[.,;:!\n*]|(?:because|since|as|here)\s))|(?:이|가)\s?정답(?:입니다|이다|이에요|임)(?![가-힣]))"
)
IS_CHOSEN = re.compile(  # what PREDICATE and a judged label have in common, which is quick to look for
    r"(?:is|be)\s(?:indeed\s|clearly\s)?(?:correct|right|the\s|my\s|our\s)|이\s?(?:바로|정?답|옳|맞|적절|알맞|올바|타당|가장)"
    r"|가\s?(?:바로|정?답|옳|맞|적절|알맞|올바|타당|가장)|을\s(?:정?답|선택|고[르른릅]|택)|를\s(?:정?답|선택|고[르른릅]|택)"
)
# Between two boxes that are one answer.
BOX_JOIN = re.compile(
    rf"\}}?[$\s*)\]\\.,]*(?:{_AND}{_MAYBE})?[$\s*(\[\\]*\\(?:boxed|fbox|framebox)\s*\{{?", re.IGNORECASE
)


@dataclass(frozen=True)
class Patterns:
    """What finds a problem's labels. The groups of a label are `label0`, `label1`, ...: see `label_in`."""

    pure: re.Pattern[str]  # a label and nothing else
    named: re.Pattern[str]  # a label at the start, whatever follows
    leading: re.Pattern[str]  # a label, and what makes it one
    joined: re.Pattern[str]  # a further label at the start of what follows one
    joined_before: re.Pattern[str]  # a label at the end of what comes before one
    denied: re.Pattern[str]  # "not B but" and the like at the start of a statement
    judged: re.Pattern[str]  # "C is the correct answer"


@lru_cache(maxsize=64)
def label_patterns(labels: tuple[str, ...]) -> Patterns:
    """The patterns of one label set."""
    any_label = "(?:" + "|".join(map(re.escape, sorted(labels, key=len, reverse=True))) + ")"
    label = f"(?P<label>{any_label})"
    explained = "" if labels[0].isdigit() else r"|(?=\s?[(\[][^\W\d_])"  # C (far north), but not 3 (cm)
    ends = r"\s*(?:$|[.)\]}\n])"
    goes_on = rf"(?:번|이|가|을|를|은|는|와|과|나|{ends}|\s*(?:{_AND}|[,;:]|both|are|is|could|may|all|둘|모두))"
    patterns = {
        "pure": rf"[\s(\[<'#→⇒⟹∴]*{label}(?:번|です|입니다|이다|이에요|예요|임|[\s.,;:!)\]>'。])*",
        "named": rf"[\s(\[]*{label}[)\]]?(?![A-Za-z0-9])",
        "leading": rf"[(\[]\s*{label}\s*[)\]](?!\w*[=^])|{label}\s?번(?!째)|{label}(?=\s*[):\]])(?!\s*:\d)"
        rf"|{label}(?=\s*[.,])(?![.,]\d)|{label}{_NO_WORD}(?:{_FOLLOW}{explained})",
        "joined": rf"번?[.)\]}}]*\s*(?:[,;(]?\s*{_AND}{_MAYBE}"
        rf"(?:(?![AI](?![A-Za-z])){label}(?![A-Za-z0-9])|{label}(?={goes_on}))"
        rf"|;\s*[(\[]?{label}[)\]]?[\s.]*$|,\s*[(\[]?{label}(?={ends}|\s*[)\]]?,?\s*(?:{_AND}|,\s*[(\[]?{any_label}(?![A-Za-z0-9]))))",
        "joined_before": rf"(?<![A-Za-z0-9]){label}\s?[)\]]?\s*{_AND}{_MAYBE}$",
        "denied": rf"\A(?:not\s[(\[]?{label}[)\]]?,?\sbut|[(\[]?{label}[)\]]?\s?번?\s?(?:이|가)\s아니(?:라|고),?)\s",
        "judged": rf"(?<![A-Za-z0-9])(?P<label>{any_label}|[{_CIRCLED}]|\d(?=번))\s?(?:번\s?)?[)\].]?"
        r"(?:\s(?:is|must\sbe)\s(?:indeed\s|clearly\s)?(?:correct|right)(?=\s*(?:$|[.,!;]))"
        r"|\s?(?:is|(?:must|would|should|has\sto|seems\sto|appears\sto)\sbe)\s(?:indeed\s|clearly\s)?the\s(?:only\s|most\s)?(?:(?:correct|right|best|appropriate|accurate)\s(?:answer|option|choice|one)|(?:final\s)?answer)(?![A-Za-z])"
        r"|\s(?:is|would\sbe)\s(?:my|our)\s(?:final\s)?(?:answer|choice|pick)(?![A-Za-z])"
        r"|\s?(?:이|가)\s?(?:바로\s)?(?:정답|답)(?:입니다|이다|이에요|임|이\s?[됩된되]|\.)"
        r"|\s?(?:이|가)\s(?:옳|맞|적절하|알맞|올바르|타당하|가장\s적절|올바른\s답|가장\s적절한\s(?:답|것|설명))[가-힣]{1,4}(?=\s*(?:$|[.!]))"
        r"|\s?(?:을|를)\s(?:정답으로\s|답으로\s)?(?:선택|고르|고른|고릅|택)[가-힣]{0,5}(?=\s*(?:$|[.!])))",
    }
    return Patterns(**{name: re.compile(_numbered(pattern)) for name, pattern in patterns.items()})


def _numbered(pattern: str) -> str:
    """With a name of its own for each group of a label."""
    numbers = count()
    return re.sub(r"\?P<label>", lambda _: f"?P<label{next(numbers)}>", pattern)


def is_supposed(before: str, cue: str, behind: str) -> bool:
    """Whether a cue states no answer, by its clause: one is supposed, another question's, or what others say."""
    found = _HYPOTHETICAL.search(before + cue + behind)
    is_other = found is not None and found.start() < len(before + cue)
    return is_other or SUPPOSED.search(before) is not None or _OTHERS.search(before + cue) is not None


def label_in(found: re.Match[str]) -> str:
    """The label in a match, however deep."""
    return next(label for label in found.groups() if label is not None)


def flatten(text: str, labels: tuple[str, ...]) -> str:
    """Without markup, in plain letters, and with circled digits as the labels that they stand for."""
    if text.isascii():
        return _undressed(text).strip() if _DRESSED.search(text) else " ".join(text.split())
    for index, digit in enumerate(_CIRCLED):
        if digit in text:
            number = str(index + 1)
            name = number if number in labels or index >= len(labels) else labels[index]
            text = text.replace(digit, f"({name})")
    if labels[0].isalpha() and "번" in text:
        text = _NUMBERED.sub(lambda found: _nth(found[1], labels), text)
    return unicodedata.normalize("NFKC", _undressed(text)).strip()


def _undressed(text: str) -> str:
    return _MARKUP.sub("", _FONTS.sub("", _SPACES.sub(" ", text)))


def _nth(number: str, labels: tuple[str, ...]) -> str:
    return labels[int(number) - 1] if 1 <= int(number) <= len(labels) else number


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _bare(text: str) -> str:
    """An option's text without markup and white space."""
    text = _WIDE.sub("", text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac"))
    for _ in range(_MAX_FONTS):
        text = _FONT_GROUPS.sub(r"\1", text)
    return "".join(_DRESS.sub("", text).split())


def _folded(text: str) -> str:
    """Without regard to case, to a final stop and to how a number is written, too."""
    text = _bare(unicodedata.normalize("NFKC", text)).casefold().removesuffix(".").replace("\N{MINUS SIGN}", "-")
    if _GROUPED.fullmatch(text):
        text = text.replace(",", "")
    number = _NUMBER.fullmatch(text)
    if number is None:
        return text
    sign, whole, fraction = number.groups(default="")
    return f"{sign.replace('+', '')}{whole.lstrip('0') or '0'}.{fraction.rstrip('0')}"


FORMS = (_spaced, _bare, _folded)
