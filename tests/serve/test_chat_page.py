"""The chat page in a real browser, against a server that streams what the test says.

Without Chromium these tests are skipped; test_web_files.py tests the page's pure parts with Node.js.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

import chromium
from chat_page_server import BREAK, HOLD, ChatPageServer, chat_page_server
from chromium import Chromium

READY = "document.documentElement?.dataset.ready && document.getElementById('model').value"
IDLE = "!document.querySelector('#send[data-busy=true]') && !document.querySelector('[aria-busy]')"

pytestmark = pytest.mark.skipif(chromium.PATH is None, reason=chromium.MISSING)


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as started:
        started.send("Log.enable")
        yield started


class Page:
    """The page as a person uses it. Each has a server, and so an empty store, of its own."""

    def __init__(self, browser: Chromium, server: ChatPageServer) -> None:
        self.browser = browser
        self.server = server
        self.evaluate = browser.evaluate
        self.wait = browser.wait
        browser.look(1200, 860)
        browser.visit(server.url, READY)

    def reload(self) -> None:
        self.browser.visit(self.evaluate("location.href"), READY)
        self.wait(IDLE)

    def click(self, selector: str) -> None:
        self.wait(f"document.querySelector({json.dumps(selector)})?.checkVisibility()")
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def type(self, text: str, selector: str = "#input") -> None:
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        self.browser.send("Input.insertText", text=text)

    def ask(self, text: str, *answer: str, thought: tuple[str, ...] = (), until: str = IDLE) -> None:
        """Types a message, sends it with Enter, and waits for the reply's end."""
        self.server.replies.append((list(thought), list(answer)))
        self.type(text)
        self.browser.press("Enter")
        self.wait(f"document.querySelector('.message') && {until}")

    def texts(self, selector: str) -> list[str]:
        found = f"[...document.querySelectorAll({json.dumps(selector)})].filter((node) => node.checkVisibility())"
        texts: list[str] = self.evaluate(f"{found}.map((node) => node.textContent)")
        return texts

    def requests(self) -> list[list[str]]:
        """The contents of the messages of each request."""
        return [[message["content"] for message in request["messages"]] for request in self.server.requests]

    def errors(self) -> list[Any]:
        self.evaluate("1")  # what has happened has arrived
        found: list[Any] = []
        for event in self.browser.events:
            match event:
                case {"method": "Runtime.exceptionThrown", "params": what}:
                    found.append(what)
                case {"method": "Runtime.consoleAPICalled", "params": {"type": "error" | "warning"} as what}:
                    found.append(what)
                case {"method": "Log.entryAdded", "params": {"entry": {"level": "error" | "warning"} as what}}:
                    found.append(what)
        return found


@pytest.fixture
def page(browser: Chromium) -> Iterator[Page]:
    with chat_page_server() as server:
        yield Page(browser, server)


def test_a_thought_is_watched_folded_and_measured(page: Page) -> None:
    thinking = "document.querySelector('.thought-text')?.textContent.includes('first')"
    page.ask("2 + 2?", "It is **4**.", thought=("first ", "then ", HOLD, "done."), until=thinking)
    assert page.evaluate("document.querySelector('details').open")
    assert "Thinking" in page.texts(".thought-label")[0] and "2 tokens" in page.texts(".thought-label")[0]
    page.server.release()
    page.wait(IDLE)
    assert not page.evaluate("document.querySelector('details').open")
    assert page.texts(".thought-label")[0].startswith("Thought for ") and "3 tokens" in page.texts(".thought-label")[0]
    assert page.texts(".answer strong") == ["4"] and "4 tokens" in page.texts(".stats")[0]
    page.click("summary")
    page.wait("document.querySelector('.thought-text').textContent === 'first then done.'")
    assert page.errors() == []


def test_a_thought_that_the_reader_folds_stays_folded(page: Page) -> None:
    page.ask("x", "y", thought=("one ", HOLD, "two"), until="document.querySelector('.thought-text')?.textContent")
    page.click("summary")
    label = json.dumps(page.texts(".thought-label")[0])
    page.wait(f"document.querySelector('.thought-label').textContent !== {label}")  # its time goes on
    assert not page.evaluate("document.querySelector('details').open")
    page.server.release()
    page.wait(IDLE)
    assert not page.evaluate("document.querySelector('details').open")
    page.browser.send("Input.dispatchKeyEvent", type="keyDown", key="t", code="KeyT", modifiers=1)
    page.wait("document.querySelector('details').open")


def test_the_thought_is_ended_on_demand(page: Page) -> None:
    page.ask(
        "x", "y", thought=("so ", HOLD, "end"), until="document.querySelector('.thought .chip')?.checkVisibility()"
    )
    page.click(".thought .chip")
    page.wait(IDLE)
    assert page.server.ended == ["chatcmpl-1"] and page.texts(".answer") == ["y"]


def test_stop_keeps_what_has_come_and_leaves_the_server(page: Page) -> None:
    page.ask("x", "so far ", HOLD, "no more", until="document.querySelector('.answer')?.textContent")
    page.browser.press("Escape")
    page.wait(IDLE)
    assert page.texts(".answer") == ["so far"] and "stopped" in page.texts(".stats")[0]
    assert page.server.gone.wait(60)
    page.reload()
    assert page.texts(".answer") == ["so far"] and page.errors() == []


def test_a_stopped_reply_is_continued_in_its_thought_and_in_its_answer(page: Page) -> None:
    more = "[data-action=continue]"
    page.ask("x", "y", thought=("so far", HOLD, "no"), until="document.querySelector('.thought-text')?.textContent")
    page.browser.press("Escape")
    page.wait(f"{IDLE} && document.querySelector('{more}').checkVisibility()")
    page.server.replies.append(([", and on"], ["The an", HOLD, "no"]))
    page.evaluate(f"document.querySelector('{more}').focus()")
    page.browser.send("Input.dispatchKeyEvent", type="keyDown", key="Enter", text="\r")
    page.browser.send("Input.dispatchKeyEvent", type="keyUp", key="Enter")
    page.wait("document.querySelector('.answer').textContent === 'The an'")
    assert not page.texts(more) and page.evaluate("document.activeElement.id") == "send"
    page.browser.press("Escape")
    page.wait(IDLE)
    page.server.replies.append(([], ["swer."]))
    page.browser.send("Input.dispatchKeyEvent", type="keyDown", key="c", code="KeyC", modifiers=1)
    page.wait(f"document.querySelector('.answer').textContent === 'The answer.' && {IDLE}")
    assert page.texts(".answer p") == ["The answer."]
    page.click("summary")
    page.wait("document.querySelector('.thought-text').textContent === 'so far, and on'")
    assert not page.texts(more) and page.texts(".branches span") == []
    assert page.texts(".stats")[0].startswith("4 tokens") and "stopped" not in page.texts(".stats")[0]
    second, third = page.server.requests[1:]
    assert second["messages"][-1] == {"role": "assistant", "content": "", "reasoning_content": "so far"}
    assert third["messages"][-1] == {"role": "assistant", "content": "The an", "reasoning_content": "so far, and on"}
    assert all(one["continue_final_message"] and not one["add_generation_prompt"] for one in (second, third))
    assert third["chat_template_kwargs"] == {"enable_thinking": True} and page.errors() == []
    page.reload()
    assert page.texts(".answer") == ["The answer."] and not page.texts(more)


def test_a_reply_without_a_thought_is_continued_without_one(page: Page) -> None:
    page.ask("x", "begun", BREAK, until="document.querySelector('.error:not([hidden])')")
    page.wait(IDLE)
    page.server.replies.append(([], [" and ended"]))
    page.click("[data-action=continue]")
    page.wait(f"document.querySelector('.answer').textContent === 'begun and ended' && {IDLE}")
    assert page.texts(".error") == [] and page.errors() == []
    last = page.server.requests[-1]
    assert last["messages"][-1] == {"role": "assistant", "content": "begun"}
    assert last["chat_template_kwargs"] == {"enable_thinking": False} and "thinking_token_budget" not in last


def test_branches_of_a_reply_and_of_a_message(page: Page) -> None:
    page.ask("one", "first", thought=("hm",))
    page.server.replies.append(([], ["second"]))
    page.click("[data-action=again]")
    page.wait(f"document.querySelector('.answer').textContent === 'second' && {IDLE}")
    assert page.texts(".branches span") == ["2/2"]
    page.server.replies.append(([], ["third"]))
    page.click("[data-action=edit]")
    page.evaluate("document.querySelector('.edit textarea').value = 'uno'")
    page.browser.press("Enter")
    page.wait(f"document.querySelector('.answer').textContent === 'third' && {IDLE}")
    assert page.texts(".bubble") == ["uno"] and page.texts(".branches span") == ["2/2"]
    page.click(".user [data-step='-1']")
    page.wait("document.querySelector('.answer').textContent === 'second'")
    page.click(".assistant [data-step='-1']")
    page.wait("document.querySelector('.answer').textContent === 'first'")
    page.ask("two", "fourth")
    assert page.requests() == [["one"], ["one"], ["uno"], ["one", "first", "two"]]
    page.reload()
    assert page.texts(".answer") == ["first", "fourth"] and page.errors() == []


def test_conversations_survive_a_reload_and_are_found(page: Page) -> None:
    page.ask("About rivers", "The Han flows through Seoul.")
    page.click("#new")
    page.wait("!document.querySelector('.message')")
    page.ask("About hills", "Namsan.")
    page.reload()
    assert page.texts(".answer") == ["Namsan."] and page.texts("#list a span") == ["About hills", "About rivers"]
    page.type("SEOUL", "#search")
    page.wait("document.querySelectorAll('#list a').length === 1")
    assert page.texts("#list a small") == ["The Han flows through Seoul."]
    page.click("#list a")
    page.wait("document.querySelector('.answer').textContent.includes('Han')")
    page.click("#delete")
    page.click("#confirm-yes")
    page.wait("!document.querySelector('.message')")
    page.evaluate("document.getElementById('search').value = ''")
    page.reload()
    assert page.texts("#list a span") == ["About hills"] and page.errors() == []


def test_a_deleted_conversation_does_not_come_back_with_its_reply(page: Page) -> None:
    page.ask("x", "begun ", HOLD, until="document.querySelector('.answer')?.textContent === 'begun'")
    page.click("#delete")
    page.click("#confirm-yes")
    page.wait("!document.querySelector('.message') && !document.querySelector('#list a')")
    page.reload()
    assert page.texts("#list a") == []


def test_a_reply_goes_on_while_another_conversation_is_read(page: Page) -> None:
    page.ask("x", "begun ", HOLD, "ended", until="document.querySelector('.answer')?.textContent === 'begun'")
    page.click("#new")
    page.wait("!document.querySelector('.message')")
    page.ask("y", "other")
    page.server.release()
    first = "[...document.querySelectorAll('#list a')].find((link) => link.textContent === 'x')"
    page.wait(first)
    page.evaluate(f"{first}.click()")
    page.wait(f"document.querySelector('.answer')?.textContent === 'begun ended' && {IDLE}")


def test_a_reload_during_a_reply_keeps_its_begin(page: Page) -> None:
    page.ask("x", "begun ", "more ", HOLD, until="document.querySelector('.answer')?.textContent === 'begun more'")
    page.reload()
    assert page.texts(".answer") == ["begun more"] and "interrupted" in page.texts(".stats")[0]


KEPT = """new Promise((resolve) => (indexedDB.open('open-exaone').onsuccess = ({ target: { result } }) =>
    (result.transaction('conversations').objectStore('conversations').getAll().onsuccess = ({ target }) => {
        result.close();
        resolve(target.result.flatMap(({ nodes }) => Object.values(nodes).map(({ content }) => content)));
    })))"""


def test_a_long_reply_is_kept_while_it_grows(page: Page) -> None:
    page.ask("x", "begun ", "more ", HOLD, until="document.querySelector('.answer')?.textContent === 'begun more'")
    page.evaluate(f"window.kept = []; setInterval(() => {KEPT}.then((all) => (window.kept = all)), 50); 0")
    page.wait("kept.includes('begun more ')")


def test_enter_that_ends_a_korean_syllable_does_not_send(page: Page) -> None:
    page.evaluate("document.getElementById('input').focus()")
    page.server.replies.append(([], ["안녕하세요! **반갑습니다(정말)**."]))
    page.browser.send("Input.imeSetComposition", text="안녕", selectionStart=2, selectionEnd=2)
    key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229}
    page.browser.send("Input.dispatchKeyEvent", type="rawKeyDown", **key)
    page.browser.send("Input.dispatchKeyEvent", type="keyUp", **key)
    assert page.evaluate("document.getElementById('input').value") == "안녕" and page.texts(".message") == []
    page.browser.send("Input.insertText", text="안녕")
    page.browser.press("Enter")
    page.wait(f"document.querySelector('.message') && {IDLE}")
    assert page.requests() == [["안녕"]]
    assert page.texts(".answer strong") == ["반갑습니다(정말)"] and page.texts("#title") == ["안녕"]


HOSTILE = """<script>window.bad = 1</script>
<img src="x" onerror="window.bad = 1"><iframe src="/"></iframe><style>body { display: none }</style>

[run](javascript:window.bad=1) [run](data:text/html,<script>window.bad=1</script>) ![pixel](https://example.org/p.png)

$\\href{javascript:window.bad=1}{x}$ $\\htmlId{input}{y}$ $\\includegraphics{https://example.org/p.png}$ $\\unknown{$

$$\\def\\a{\\a\\a}\\a$$

$$\\def\\a{GROWTH}USES$$

$a\u202eb \\char"202E c$

$$x \\tag{7} \\label{input}$$

$$\\rule{9999em}{9999em}$$

```<img src=x onerror="window.bad=1">
</code></pre><script>window.bad = 1</script>
```

| <b>a</b> | b |
|---|---|
| <svg onload="window.bad=1"> | \u202etext |

$$ unclosed""".replace("GROWTH", "x" * 1900).replace("USES", "\\a" * 190)


def test_hostile_text_stays_text(page: Page) -> None:
    page.ask(
        "<b onclick='window.bad=1'>me</b>",
        *HOSTILE.splitlines(keepends=True),
        thought=("<img src=x onerror='window.bad=1'>",),
    )
    page.click("summary")
    page.wait("document.querySelector('.thought-text').textContent")
    alive = "script, img, iframe, style, svg:not(.icon), [onerror], [onclick], [onload], [href^='javascript']"
    assert page.evaluate(f'document.querySelectorAll("#thread :is({alive})").length') == 0
    assert page.evaluate("typeof window.bad") == "undefined" and page.texts(".bubble") == [
        "<b onclick='window.bad=1'>me</b>"
    ]
    assert page.evaluate("[...document.querySelectorAll('#thread a')].map((link) => link.href)") == [
        "https://example.org/p.png"
    ]
    assert page.evaluate("document.querySelectorAll('#input, #thread [id]').length") == 1
    assert page.evaluate("document.querySelector('#thread').scrollHeight") < 5000
    assert page.evaluate("/[\u202a-\u202e]/.test(document.querySelector('.answer').textContent)") is False
    asked = {
        event["params"]["request"]["url"]
        for event in page.browser.events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert asked and all(url.startswith(page.server.url) for url in asked)
    assert page.errors() == []


def test_a_reply_of_a_million_characters_does_not_stop_the_page(page: Page) -> None:
    unit = "Some *text* with $x^2$ and `code`.\n\n- a\n- b\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\nx = 1\n```\n\n"
    pieces = [unit * 200] * (1_000_000 // len(unit) // 200 + 1)
    page.ask("much", *pieces, until="document.querySelectorAll('.answer .part').length > 20")
    page.type("still awake")
    assert page.evaluate("document.getElementById('input').value") == "still awake"
    assert page.evaluate("document.querySelector('.answer').ariaBusy") == "true"  # it was built in between
    page.click("#new")
    page.wait("!document.querySelector('.message')")
    assert page.errors() == []


def test_errors_are_sentences_and_can_be_tried_again(page: Page) -> None:
    page.server.replies.append((429, "Too many requests wait."))
    page.type("hello")
    page.browser.press("Enter")
    page.wait("document.querySelector('.error')?.checkVisibility()")
    assert page.texts(".error span") == ["The server is busy. Too many requests wait. Try again in 3 s."]
    page.server.replies.append(([], ["there"]))
    page.click(".error .chip")
    page.wait(f"document.querySelector('.answer').textContent === 'there' && {IDLE}")
    assert page.texts(".error") == [] and page.texts(".branches span") == []
    page.ask("more", "begun", BREAK, until="document.querySelector('.error:not([hidden])')")
    page.wait(IDLE)
    assert page.texts(".answer")[-1] == "begun"
    assert page.texts(".error span") == ["The reply broke off: the connection was closed."]


def test_the_key_is_asked_for_and_kept(page: Page) -> None:
    page.server.key = "se cret"
    page.browser.visit(page.server.url, "document.getElementById('key')?.open")
    page.type("se cret", "#key-input")
    page.click("#key-save")
    page.wait(READY)
    page.ask("x", "y")
    assert page.texts(".answer") == ["y"]
    page.reload()
    assert not page.evaluate("document.getElementById('key').open")


def test_settings_reach_the_request(page: Page) -> None:
    page.click("#open-settings")
    for name, value in {
        "temperature": "0.5",
        "topP": "3",
        "maxTokens": "77",
        "seed": "5",
        "system": "Be brief.",
    }.items():
        page.type(value, f"#set-{name}")
    assert page.evaluate("document.getElementById('set-topP').getAttribute('aria-invalid')") == "true"
    page.click("#settings .strong")
    page.evaluate("budget.value = 2; budget.dispatchEvent(new Event('input'))")
    page.ask("x", "y")
    page.click("#thinking")
    page.ask("x", "y")
    first, second = page.server.requests
    assert first["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (first["temperature"], first["max_tokens"], first["seed"]) == (0.5, 77, 5) and "top_p" not in first
    assert first["chat_template_kwargs"] == {"enable_thinking": True} and first["thinking_token_budget"] == 256
    assert second["chat_template_kwargs"] == {"enable_thinking": False} and "thinking_token_budget" not in second
    assert first["stream"] and first["stream_options"] == {"include_usage": True}


def test_export_and_import(page: Page) -> None:
    page.ask("About rivers", "The Han.", thought=("hm",))
    page.evaluate("URL.createObjectURL = (blob) => ((window.exported = blob.text()), 'blob:none')")
    page.click("#export-all")
    page.wait("window.exported")
    text = page.evaluate("exported")
    assert json.loads(text)["format"] == "open-exaone-chat" and len(json.loads(text)["conversations"]) == 1

    def take(content: str) -> str:
        page.evaluate(
            f"(() => {{ const data = new DataTransfer(); data.items.add(new File([{json.dumps(content)}], 'x.json'));"
            "const input = document.getElementById('import-file'); input.files = data.files; notice.hidden = true;"
            "input.dispatchEvent(new Event('change')) })()"
        )
        page.wait("document.getElementById('notice').checkVisibility()")
        return page.texts("#notice-text")[0]

    assert take(text) == "Imported: 0. Already here: 1."
    page.click("#delete")
    page.click("#confirm-yes")
    page.wait("!document.querySelector('#list a')")
    assert take(text) == "Imported: 1. Already here: 0."
    page.click("#list a")
    page.wait(f"document.querySelector('.answer')?.textContent === 'The Han.' && {IDLE}")
    assert "cannot be imported" in take("{") and '"format"' in take("[]")
    wrong = json.loads(text)
    next(iter(wrong["conversations"][0]["nodes"].values()))["role"] = "root"
    assert "conversations[0].nodes" in take(json.dumps(wrong))


def test_full_storage_is_reported_and_the_conversation_goes_on(page: Page) -> None:
    page.evaluate("IDBObjectStore.prototype.put = () => { throw new DOMException('full', 'QuotaExceededError') }")
    page.ask("x", "y")
    assert "storage is full" in page.texts("#notice-text")[0] and page.texts(".answer") == ["y"]


WIDE = f"""| {" | ".join(f"column {i}" for i in range(20))} |
|{"---|" * 20}

{"x" * 500}

$${"a+" * 100}b$$

inline ${"a+" * 100}b$ and ${"a" * 200}$

```
{"y" * 500}
```"""


@pytest.mark.parametrize("language", ["en", "ko"])
def test_400_pixels_hold_the_page(page: Page, language: str) -> None:
    page.browser.look(400, 800)
    page.evaluate(
        f"document.getElementById('set-language').value = '{language}';"
        "document.getElementById('set-language').dispatchEvent(new Event('input'))"
    )
    page.ask("가" * 300, WIDE, thought=(WIDE,))
    page.click("summary")
    page.wait("document.querySelector('.thought-text').textContent")
    wider = "[...document.querySelectorAll('body, #page, #scroll, #thread, header, #composer, .bar')]"
    assert page.evaluate(f"{wider}.filter((node) => node.scrollWidth > node.clientWidth).map((node) => node.id)") == []
    assert page.evaluate("document.getElementById('send').getBoundingClientRect().right") <= 400
    page.click("#menu")
    page.wait("document.getElementById('new').checkVisibility()")
    assert page.evaluate("document.documentElement.lang") == language and page.errors() == []
    page.browser.press("Escape")
    page.wait("document.activeElement.id === 'menu' && !document.getElementById('new').checkVisibility()")
    page.click("#menu")
    page.click("#open-settings")
    assert page.evaluate(
        "document.getElementById('settings').scrollWidth <= document.getElementById('settings').clientWidth"
    )


def test_what_assistive_technology_meets(page: Page) -> None:
    page.ask("x", "A first block.\n\nA second one.\n\nA third.")
    unnamed = "[...document.querySelectorAll('button, input:not([hidden]), select, textarea')].filter((node) => !("
    named = "node.textContent.trim() || node.ariaLabel || node.labels?.length)).map((node) => node.outerHTML)"
    assert page.evaluate(unnamed + named) == []
    page.wait("document.getElementById('announce').textContent.endsWith('A third.')")
    assert page.evaluate("document.querySelector('[role=switch]').ariaChecked") == "true"
    tree = page.browser.send("Accessibility.getFullAXTree")["nodes"]
    roles = {node.get("role", {}).get("value") for node in tree if not node.get("ignored")}
    assert {"log", "navigation", "complementary", "main", "banner", "article", "searchbox", "slider", "switch"} <= roles


def test_dark_colours_by_the_system_and_by_the_switch(page: Page) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.browser.look(1200, 860, dark=True)
    dark = page.evaluate(background)
    page.browser.look(1200, 860)
    page.click("#theme")
    assert light != dark and page.evaluate(background) == dark
    themes = "window.themes = new Set(); new MutationObserver(() => themes.add(document.documentElement.dataset.theme))"
    watch = themes + ".observe(document, { attributes: true, subtree: true, attributeFilter: ['data-theme'] })"
    script = page.browser.send("Page.addScriptToEvaluateOnNewDocument", source=watch)
    page.reload()
    page.browser.send("Page.removeScriptToEvaluateOnNewDocument", **script)
    assert page.evaluate(background) == dark and page.evaluate("[...themes]") == ["dark"]  # from the first moment on


def test_with_the_real_server_and_a_tiny_model(browser: Chromium, server: Any) -> None:
    browser.look(1200, 860)
    browser.visit(server.url, READY)
    for name, value in {"maxTokens": 24, "seed": 3}.items():
        field = f"document.getElementById('set-{name}')"
        browser.evaluate(f"{field}.value = '{value}'; {field}.dispatchEvent(new Event('input'))")
    browser.evaluate("document.getElementById('input').focus()")
    browser.send("Input.insertText", text="12 + 30?")
    browser.press("Enter")
    browser.wait(f"document.querySelector('.assistant') && {IDLE}")
    shown = browser.evaluate("document.querySelector('.stats').textContent")
    body = {
        "messages": [{"role": "user", "content": "12 + 30?"}],
        "chat_template_kwargs": {"enable_thinking": True},
        "max_tokens": 24,
        "seed": 3,
    }
    told = server.post("/v1/chat/completions", body).json()
    message, num_tokens = told["choices"][0]["message"], told["usage"]["completion_tokens"]
    assert shown.startswith(f"{num_tokens} token")
    browser.evaluate("document.querySelector('details').open = true")
    browser.wait(f"{IDLE}")
    assert browser.evaluate("document.querySelector('.thought').checkVisibility()") == bool(
        message["reasoning_content"]
    )
    assert browser.evaluate("document.querySelector('.error').checkVisibility()") is False
