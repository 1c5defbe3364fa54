"""`exaone doctor`: what this machine can do."""

from open_exaone.base.terminal import Console


def doctor() -> int:
    """Check this machine: what it can do, and what is missing."""
    from open_exaone.present.doctor import checks

    console = Console()
    styles = {"ok": "green", "missing": "red", "note": "yellow"}
    results = checks()
    for status, what, detail in results:
        console.print(f"{status:<7}", style=styles[status], end="")
        console.print(f" {what}: ", end="")
        console.print(detail)
    return 1 if any(status == "missing" for status, _, _ in results) else 0
