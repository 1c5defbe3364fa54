"""What is asked of every page in a browser, as a script that gives the faults that it finds."""

# Landmarks, headings, scopes of headings, pictures with words, and a contrast of 4.5 : 1 for every text.
ACCESS = """(() => {
  const faults = [], all = (query) => [...document.querySelectorAll(query)];
  if (all('main').length !== 1 || all('h1').length !== 1) faults.push('one main and one h1');
  all('h1, h2, h3, h4').reduce((last, head) => {
    const level = Number(head.tagName[1]);
    if (last && level > last + 1) faults.push('heading ' + head.textContent);
    return level;
  }, 0);
  for (const head of all('th')) if (!head.scope) faults.push('scope ' + head.textContent);
  const names = all('[role=region], [role=search], nav').map((one) => one.ariaLabel);
  if (names.includes(null) || new Set(names).size !== names.length) faults.push('landmarks ' + names);
  for (const one of all('svg')) if (one.role !== 'img' || !one.ariaLabel) faults.push('svg');
  const channel = (byte) => byte / 255 <= 0.03928 ? byte / 255 / 12.92 : ((byte / 255 + 0.055) / 1.055) ** 2.4;
  const pixel = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true }), known = {};
  const light = (color) => known[color] ??= (() => {  // drawn, as a mixed colour is not written as rgb()
    pixel.clearRect(0, 0, 1, 1);
    pixel.fillStyle = color;
    pixel.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...pixel.getImageData(0, 0, 1, 1).data].map(channel);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  })();
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if (color !== 'rgba(0, 0, 0, 0)') return color;
    }
    return 'rgb(255, 255, 255)';
  };
  for (const one of all('body *')) {
    const has = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!has || one.closest('script, style, title, option')) continue;
    const style = getComputedStyle(one), text = one instanceof SVGElement ? style.fill : style.color;
    const [a, b] = [light(text), light(behind(one))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) faults.push('contrast ' + one.textContent.slice(0, 20) + ' ' + text);
  }
  return faults;
})()"""
# What reaches past the right edge of the window, and is not in a part that scrolls by itself.
OVERFLOW = """(() => {
  const wide = [...document.querySelectorAll('body *')].filter((one) =>
    one.getBoundingClientRect().right > innerWidth + 1 && !one.closest('.scroll, pre, .thought, svg, .skip'));
  return document.documentElement.scrollWidth > innerWidth ? wide.map((one) => one.outerHTML.slice(0, 120)) : [];
})()"""
FAULTS = ("Runtime.exceptionThrown", "Log.entryAdded")  # events of the browser


def faults(events: list[dict[str, object]]) -> list[object]:
    """What the browser's console has of errors and warnings."""
    return [event for event in events if event["method"] in FAULTS or is_error(event)]


def is_error(event: dict[str, object]) -> bool:
    params = event.get("params")
    is_call = event["method"] == "Runtime.consoleAPICalled" and isinstance(params, dict)
    return is_call and params["type"] in ("error", "warning", "assert")  # type: ignore[index]
