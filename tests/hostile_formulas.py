"""LaTeX that tries to run, load, hide, reorder or hold up something: what may be drawn of it, and what may not."""

DRAWN = {  # drawn, as far as it is harmless
    "markup": r"\(\text{<script>document.title='pwned'</script><img src=x onerror=alert(1)>}\)",
    "override": '\\(a\u202eb\\) and \\(\\char"202E c \\text{\\char"202E d}\\)',
    "reference": r"\(\label{x}\ref{x}\)",
    "shift": r"\(\kern-2000em x\) \(\raisebox{900em}{x}\) \(\rule{900em}{900em}\)",
    "colour": r"\(\color{white}x\)",
    "long": r"\(" + "x" * 3_990 + r"\)",
    "macro": r"\(\def\a#1{#1^2}\a{x}\)",
    "dollars": r"\(a\)" + "$" * 9_000,
}
KEPT = {  # stays as it was written
    "unclosed": r"\(\frac{1}{" + "{" * 50 + r"\)",
    "too long": r"\(" + "x" * 9_000 + r"\)",
    "link": r"\(\href{javascript:alert(1)}{x}\) and $\style{color:red}{x}$",
    "address": r"\(\url{http://127.0.0.1:9/}\)",
    "image": r"\(\includegraphics{http://127.0.0.1:9/x.png}\)",
    "data": r"\(\htmlData{a=b}{x}\) \(\htmlId{a}{x}\) \(\htmlClass{a}{x}\) \(\class{a}{x}\)",
    "load": r"\(\style{background-image:url(http://127.0.0.1:9/)}{x}\)",
    "loop": r"\(\def\x{\x\x}\x\)",
    "growth": r"\(\def\a{" + "x" * 1_900 + "}" + r"\a" * 190 + r"\)",
    "growth by commands": r"\(\newcommand\a{" + "x" * 1_900 + "}" + r"\a" * 190 + r"\)",
    "growth by another name": r"\(\let\a\def\a\b{" + "x" * 1_900 + "}" + r"\b" * 190 + r"\)",
    "growth of growth": r"\(\def\a{" + "x" * 90 + r"}\def\b{" + r"\a" * 20 + "}" + r"\b" * 40 + r"\)",
    "roots": "$" + r"\sqrt{" * 500 + "x" + "}" * 500 + "$",
    "powers": "$" + "x^{" * 900 + "x" + "}" * 900 + "$",
    "delimiters": "$" + r"\left(" * 300 + "x" + r"\right)" * 300 + "$",
    "matrices": "$" + r"\begin{matrix}" * 120 + "x" + r"\end{matrix}" * 120 + "$",
    "cells": r"\(\begin{matrix}" + "&" * 3_900 + r"\end{matrix}\)",
    "expansions": r"\(" + r"\Braket{" * 200 + "x|y" + "}" * 200 + r"\)",
    "openings": r"\(" * 4_000,
}
EITHER = {"braces": "$" + "{" * 1_900 + "x" + "}" * 1_900 + "$"}  # as the browser's stack has room
